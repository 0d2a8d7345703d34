"""What the routes of API keys take and answer."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from ledger.api.asked_amounts import micros_asked
from ledger.api.shapes import Answer, Credits, Moment
from ledger.identity.people import ALL_SCOPES

MAX_BUDGET = 10**15 - 1  # micro-credits: the kernel's own limit
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Model = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]


def _budget(given: Any) -> Any:
    return None if given is None else micros_asked(given, least=0, most=MAX_BUDGET)


Budget = Annotated[
    int | None,
    BeforeValidator(_budget, json_schema_input_type=str | int | None),
    Field(description='Credits as a decimal string, e.g. "10.00"; null: no limit.'),
]


class KeyLimits(BaseModel):
    """What a key is limited to; null lifts a limit."""

    model_config = ConfigDict(extra="forbid")
    budget_day: Budget = None
    budget_month: Budget = None
    budget_total: Budget = None
    per_minute: int | None = Field(None, ge=1, le=1_000_000, description="Jobs per minute.")
    models: list[Model] | None = Field(None, min_length=1, max_length=100, description="The models it may use.")
    expires_at: AwareDatetime | None = Field(None, description="RFC 3339.")
    privacy: Literal["community", "trusted"] | None = Field("community", description="`trusted`: jobs run on the operator's machines only.")


class NewKey(KeyLimits):
    """What a new key is to be."""

    name: Name
    scopes: list[str] | None = Field(None, min_length=1, max_length=len(ALL_SCOPES), description="Left out: all that the caller may give.")


class KeyChange(KeyLimits):
    """What is to change; what is left out stays."""

    name: Name | None = None


class _Shown(Answer):
    budget_day: Credits | None
    budget_month: Credits | None
    budget_total: Credits | None
    per_minute: int | None
    models: list[str] | None
    expires_at: Moment | None
    privacy: str


class KeyRowAnswer(_Shown):
    """A key without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None


class Keys(Answer):
    """One page of keys, newest first."""

    results: list[KeyRowAnswer]
    next: str | None


class MadeKey(_Shown):
    """A new key; `key` is shown this once."""

    id: str
    key: str
    name: str
    scopes: list[str]
    user: str
