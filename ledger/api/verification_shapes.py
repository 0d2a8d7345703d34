"""What the routes about audits of nodes take and answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledger.api.admin_shapes import Reason
from ledger.api.agent_shapes import NodeState
from ledger.api.shapes import Answer, Moment
from ledger.verification.appeals import MAX_NOTE

Tier = Literal["probation", "verified", "established"]
AppealState = Literal["OPEN", "UPHELD", "REFUSED"]


class VerdictRow(Answer):
    """An audited job. `score` is the worst window's; `rule`: A and B are about the model, `count` about token counts, `none`: not to be judged."""

    job_id: str
    node_id: str
    at: Moment
    model: str
    is_flagged: bool
    rule: Literal["A", "B", "count", "none"]
    score: float
    windows: int
    tokens: int
    detail: str


class StepRow(Answer):
    """What followed for the node, and why."""

    at: Moment
    step: Literal["reaudit", "quarantine", "pause", "ban", "promote", "lift", "pardon", "retest", "admit", "not_admitted"]
    reason: str
    job_id: str | None


class AppealRow(Answer):
    """An appeal, and its answer."""

    id: str
    node_id: str
    note: str
    state: AppealState
    answer: str | None
    created_at: Moment
    decided_at: Moment | None


class NodeAudits(Answer):
    """What was found about a node of the caller's."""

    node_id: str
    state: NodeState
    state_reason: str | None = Field(description="Why it is in quarantine or banned.")
    tier: Tier
    audit_percent: int = Field(description="How many of a hundred jobs are audited.")
    jobs: int = Field(description="Jobs that it was paid for.")
    audited: int = Field(description="Jobs that were audited.")
    strikes: int = Field(description="Flags among its last 100 judged audits.")
    count_alarms: int = Field(description="Jobs among its last 100 whose own token counts were off.")
    next: str | None
    what_next: str
    steps: list[StepRow] = Field(description="The last 20, newest first.")
    appeal: AppealRow | None = Field(description="The newest one.")
    results: list[VerdictRow] = Field(description="One page of verdicts, newest first.")


class NewAppeal(BaseModel):
    """Why the findings are wrong."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[str, Field(min_length=10, max_length=MAX_NOTE, pattern=r"^[^\x00]*$", description="For the operator who decides.")]


class SuspectRow(Answer):
    """A node that an operator should look at."""

    node_id: str
    name: str
    owner: str
    state: NodeState
    state_reason: str | None
    tier: Tier
    strikes: int
    count_alarms: int
    has_open_appeal: bool
    changed_at: Moment


class SuspectRows(Answer):
    """One page, the last changed first."""

    results: list[SuspectRow]
    next: str | None


class VerdictRows(Answer):
    """One page of verdicts, newest first."""

    results: list[VerdictRow]
    next: str | None


class AppealRows(Answer):
    """One page of appeals, newest first."""

    results: list[AppealRow]
    next: str | None


class Lift(BaseModel):
    """A quarantine is lifted. `pardon`: nothing that was found so far counts any more; it ends a ban too, and gives back what was forfeited."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    pardon: bool = False


class Decision(BaseModel):
    """How an appeal is decided. `uphold`: the provider is right; the node is pardoned. `reason` is the answer that the provider reads."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    uphold: bool
