"""What the public API answers and takes, as pydantic models: the source of its OpenAPI description."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Credits = Annotated[str, Field(pattern=r"^-?\d+\.\d{2,6}$", examples=["99.00"], description="Credits, 2 to 6 decimals.")]
Moment = Annotated[str, Field(description="RFC 3339, UTC.", examples=["2026-11-24T10:00:00+00:00"])]
Kind = Literal["welcome", "deposit", "job_charge", "job_earning", "fee", "withdrawal", "withdrawal_returned", "refund", "adjustment"]


class Answer(BaseModel):
    """Frozen."""

    model_config = ConfigDict(frozen=True)


class Health(Answer):
    """Whether the service can work."""

    status: Literal["ok", "unavailable"]
    database: str


class HeldCredits(Answer):
    """Credits that are reserved for a job."""

    job_id: str
    amount: Credits
    created_at: Moment


class LogRow(Answer):
    """What one transaction did to the wallet."""

    id: str
    amount: Credits
    description: str
    created_at: Moment
    user: str
    kind: Kind
    job_id: str | None
    balance_after: Credits


class WalletAnswer(Answer):
    """balance + held = total, always: they are read in one snapshot."""

    balance: Credits
    held: Credits
    total: Credits
    withdrawable: Credits
    currency: Literal["CREDIT"] = "CREDIT"
    holds: list[HeldCredits]
    logs: list[LogRow]
    next: str | None


class Problem(Answer):
    """An error (RFC 9457); `error` repeats `detail`, `errors` names wrong fields."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    errors: dict[str, list[str]] | None = None
