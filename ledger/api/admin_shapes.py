"""What the routes of operators take and answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ledger.api.asked_amounts import micros_asked
from ledger.api.shapes import Answer, Credits, Moment

MOST = 10**15 - 1
Reason = Annotated[str, Field(min_length=3, max_length=500, pattern=r"^[^\x00]*$", description="Kept in the audit log.")]
AmountAsked = Annotated[
    int,
    BeforeValidator(lambda given: micros_asked(given, least=-MOST, most=MOST), json_schema_input_type=str | int),
    Field(description='Credits, e.g. "25.00".'),
]
PriceAsked = Annotated[
    int,
    BeforeValidator(lambda given: micros_asked(given, least=0, most=MOST), json_schema_input_type=str | int),
    Field(description='Credits, e.g. "1.00".'),
]


class Asked(BaseModel):
    """A body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Why(Asked):
    """Why something is done."""

    reason: Reason


class NewPrice(Asked):
    """A new version of a price; without a model it is the default."""

    model: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*$")] | None = None
    job: PriceAsked
    prompt_per_million: PriceAsked = 0
    completion_per_million: PriceAsked = 0


class NewCorrection(Asked):
    """Credits for or from somebody; the other side is `platform:goodwill`."""

    user: Annotated[str, Field(max_length=100)]
    amount: AmountAsked
    reason: Reason
    pocket: Literal["promo", "paid", "earned"] = "promo"


class NewRefund(Asked):
    """Which job's charge is given back."""

    job_id: Annotated[str, Field(max_length=100)]
    reason: Reason


class PersonRow(Answer):
    """An account as an operator sees it."""

    id: str
    username: str
    email: str | None
    role: str
    is_operator: bool
    blocked_at: Moment | None
    created_at: Moment
    total: Credits
    held: Credits


class People(Answer):
    """One page of accounts, newest first."""

    results: list[PersonRow]
    next: str | None


class HoldRow(Answer):
    """An open hold."""

    job_id: str
    user: str
    model: str
    amount: Credits
    created_at: Moment
    expires_at: Moment


class HoldRows(Answer):
    """Open holds, oldest first."""

    results: list[HoldRow]
    next: str | None


class WithdrawalRow(Answer):
    """A withdrawal."""

    id: str
    user: str
    amount: Credits
    destination: str | None
    status: str
    reason: str | None
    approvals: int
    created_at: Moment


class WithdrawalRows(Answer):
    """One page of withdrawals, newest first."""

    results: list[WithdrawalRow]
    next: str | None


class CorrectionRow(Answer):
    """A correction."""

    id: str
    user: str
    pocket: str
    amount: Credits
    reason: str
    proposed_by: str
    state: str
    created_at: Moment


class CorrectionRows(Answer):
    """One page of corrections, newest first."""

    results: list[CorrectionRow]
    next: str | None


class RefundAnswer(Answer):
    """A refund."""

    id: str
    amount: Credits


class LogRow(Answer):
    """A line of the audit log."""

    seq: int
    at: Moment
    actor: str
    action: str
    target: str
    address: str | None
    request_id: str | None
    detail: dict[str, object]


class LogRows(Answer):
    """One page of the audit log, newest first."""

    results: list[LogRow]
    next: str | None
    broken_at: int | None = Field(None, description="Last line of the first sealed block that does not fit its hash; null: all fit.")


class Finding(Answer):
    """One rule of the books."""

    rule: str
    held: bool
    violations: list[list[str]]


class Findings(Answer):
    """All rules."""

    held: bool
    rules: list[Finding]


class ToolRow(Answer):
    """Something that operators can look at beside the console."""

    name: str
    title: str


class ToolRows(Answer):
    """All of them."""

    results: list[ToolRow]


class GuardPass(Answer):
    """What lets an operator's browser in at the dashboard guard, once; a form with the fields `pass` (the word) and `tool` is posted to `url`."""

    word: str
    tool: str
    url: str
    expires_in_s: int
