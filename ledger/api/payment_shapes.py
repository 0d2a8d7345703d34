"""What payment routes take and answer, as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ledger.api.asked_amounts import micros_asked, wrong
from ledger.api.shapes import Answer, Credits, Moment
from ledger.payments.rows import CURRENCY

TO_WITHDRAW = "Send withdrawals to `/api/payments/withdraw/`."


def _to_the_cent(value: object) -> int:
    return micros_asked(value, decimals=2)


def _currency(value: object) -> object:
    if value != CURRENCY:
        raise wrong(f'"{str(value)[:20]}" is not a valid choice.')
    return value


def _type(value: object) -> object:
    if value == "WITHDRAWAL":
        raise wrong(TO_WITHDRAW)
    if value != "DEPOSIT":
        raise wrong(f'"{str(value)[:20]}" is not a valid choice.')
    return value


AMOUNT_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d{1,2})?$"}, {"type": "integer"}], "examples": ["25.00"]}
MoneyAsked = Annotated[
    Any,
    BeforeValidator(_to_the_cent),
    WithJsonSchema(AMOUNT_SCHEMA),
    Field(description="A decimal string with at most 2 decimals, or a whole number."),
]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class NewDeposit(BaseModel):
    """What is to be deposited."""

    model_config = ConfigDict(extra="forbid")
    amount: MoneyAsked
    currency: Annotated[str, BeforeValidator(_currency), WithJsonSchema({"const": CURRENCY, "type": "string"})] = CURRENCY
    gateway_id: Text | None = Field(None, description="Name of the gateway to pay with; left out: the default one.")
    type: Annotated[str, BeforeValidator(_type), WithJsonSchema({"const": "DEPOSIT", "type": "string"})] = "DEPOSIT"


class NewWithdrawal(BaseModel):
    """What is to be withdrawn, and where to."""

    model_config = ConfigDict(extra="forbid")
    amount: MoneyAsked
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
