"""What payment routes take and answer, as pydantic models."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ledger.api.shapes import Answer, Credits, Moment
from ledger.payments.rows import CURRENCY

NO_NUMBER = "A valid number is required."
NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
MOST_CENTS = 10**17  # whatever is larger is refused as too large, without ever being computed with
TO_WITHDRAW = "Send withdrawals to `/api/payments/withdraw/`."


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("payment_field", "{text}", {"text": text})


def cents_of(value: object) -> int:
    """Read an amount as cents.

    Raises:
        PydanticCustomError: It is no number, a JSON number with a fraction, or has more than two decimals.
    """
    if value is None:
        raise _wrong("This field is required.")
    if isinstance(value, float) and math.isfinite(value):
        raise _wrong('Send amounts as decimal strings, e.g. "25.00".')
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-MOST_CENTS, min(value * 100, MOST_CENTS))
    found = NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(NO_NUMBER)
    sign, whole, decimals = found.groups(default="")
    if len(decimals) > 2:
        raise _wrong("Ensure that there are no more than 2 decimal places.")
    digits = whole.lstrip("0")
    cents = MOST_CENTS if len(digits) > 15 else int(digits or "0") * 100 + int(decimals.ljust(2, "0"))
    return -cents if sign else cents


def _currency(value: object) -> object:
    if value != CURRENCY:
        raise _wrong(f'"{str(value)[:20]}" is not a valid choice.')
    return value


def _type(value: object) -> object:
    if value == "WITHDRAWAL":
        raise _wrong(TO_WITHDRAW)
    if value != "DEPOSIT":
        raise _wrong(f'"{str(value)[:20]}" is not a valid choice.')
    return value


AMOUNT_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d{1,2})?$"}, {"type": "integer"}], "examples": ["25.00"]}
Cents = Annotated[
    Any,
    BeforeValidator(cents_of),
    WithJsonSchema(AMOUNT_SCHEMA),
    Field(description="A decimal string with at most 2 decimals, or a whole number."),
]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class NewDeposit(BaseModel):
    """What is to be deposited."""

    model_config = ConfigDict(extra="forbid")
    amount: Cents
    currency: Annotated[str, BeforeValidator(_currency), WithJsonSchema({"const": CURRENCY, "type": "string"})] = CURRENCY
    gateway_id: Text | None = Field(None, description="Name of the gateway to pay with; left out: the default one.")
    type: Annotated[str, BeforeValidator(_type), WithJsonSchema({"const": "DEPOSIT", "type": "string"})] = "DEPOSIT"


class NewWithdrawal(BaseModel):
    """What is to be withdrawn, and where to."""

    model_config = ConfigDict(extra="forbid")
    amount: Cents
    destination: Text | None = Field(None, description="Where the operator is to send it, e.g. an IBAN.")


class Transaction(Answer):
    """A deposit or a withdrawal."""

    id: str
    user: str
    amount: Credits
    currency: str
    type: Literal["DEPOSIT", "WITHDRAWAL"]
    status: Literal["PENDING", "SUCCESS", "FAILED"]
    gateway: str
    gateway_id: str | None = Field(description="The gateway's own id of it.")
    created_at: Moment
    ended_at: Moment | None
    reason: str | None
    checkout_url: str | None = Field(description="Where a pending deposit is paid.")
    destination: str | None


class Transactions(Answer):
    """One page of deposits and withdrawals, newest first."""

    results: list[Transaction]
    next: str | None


class Processed(Answer):
    """The event is kept, to be worked soon, or worked already; also when it was before."""

    status: Literal["Transaction Processed", "Received", "Ignored"]


class Refused(Answer):
    """The event is not signed for us, or fits no deposit."""

    status: Literal["Failed"] = "Failed"
    detail: str
    code: str = "bad_event"
    error: str
