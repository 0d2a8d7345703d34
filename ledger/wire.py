"""What the ledger's internal operations look like on the wire.

`POST /internal/v1/operations` takes `{"operations": [...]}` (at most `MAX_OPERATIONS`) and answers `{"answers": [...]}`, one per
operation in the same order; a bad operation never costs the others anything. Amounts are integer micro-credits here: this is a border
between two of our own services, not an API for people.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

WIRE_VERSION = 1
MAX_OPERATIONS = 256
MAX_SHARES = 8  # nodes that serve one job


class Wire(BaseModel):
    """A frozen message; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


MAX_TOKENS = 2**31 - 1
# No NUL: PostgreSQL keeps none in a text, and one such operation would cost a whole batch.
Text = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]
Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class Price(Wire):
    """What a job costs: flat once, and per million tokens; all in micro-credits. `version` names the immutable row."""

    version: int
    flat: int = Field(ge=0)
    prompt_per_million: int = Field(ge=0, default=0)
    completion_per_million: int = Field(ge=0, default=0)


# --- operations -------------------------------------------------------------------------------------------------------------------


class PlaceHold(Wire):
    """Verify the consumer's own credential and reserve the most the job can cost, in one database transaction."""

    op: Literal["place_hold"] = "place_hold"
    id: uuid.UUID  # the job's id; ignored when the ledger derives it from an idempotency key
    credential: str = Field(max_length=4096)
    model: Text
    prompt_tokens: Tokens  # upper bound
    max_tokens: Tokens
    ttl_s: int = Field(ge=1, le=604_800)
    idempotency_key: str | None = Field(default=None, max_length=255, pattern=r"^[^\x00]*$")
    request_digest: str | None = Field(default=None, max_length=64, pattern=r"^[^\x00]*$")  # hex; compared when the key repeats
    batch: bool = False  # a line of a batch: it waits for its turn, and costs less


class Share(Wire):
    """What one node served of a job that several served, in tokens of the answer."""

    node: Text
    attempt: int = Field(ge=1, le=MAX_TOKENS)
    tokens: Tokens


class Served(Wire):
    """What one node served of a job for which nobody is charged."""

    node: Text
    attempt: int = Field(ge=1, le=MAX_TOKENS)
    prompt_tokens: Tokens
    completion_tokens: Tokens


class Capture(Wire):
    """Charge for a job, once. The ledger computes the cost from the price on the hold, never above the hold.

    `shares`: what other nodes served of its answer before `node` finished it; each owner gets the same part of the payment.
    """

    op: Literal["capture"] = "capture"
    id: uuid.UUID
    outcome: Literal["succeeded", "incomplete", "canceled"]  # incomplete: no flat tariff (seed S15)
    prompt_tokens: Tokens
    completion_tokens: Tokens
    counted_by: Literal["platform", "provider"]
    node: Text  # node id; its owner earns
    attempt: int = Field(ge=1, le=MAX_TOKENS)  # the lease that won
    shares: tuple[Share, ...] = Field(default=(), max_length=MAX_SHARES)


class Void(Wire):
    """Give the whole hold back. `retryable` frees an idempotency key for a new try.

    `served`: the platform broke a job that was being served; whoever served it is paid by the platform, from `platform:goodwill`.
    """

    op: Literal["void"] = "void"
    id: uuid.UUID
    reason: str = Field(max_length=200, pattern=r"^[^\x00]*$")
    retryable: bool = False
    served: Served | None = None


class Introspect(Wire):
    """Tell who a credential belongs to and what it may do."""

    op: Literal["introspect"] = "introspect"
    credential: str = Field(max_length=4096)


class FindHolds(Wire):
    """List this service's open holds that are older than `older_than_s`; ids and ages only."""

    op: Literal["find_holds"] = "find_holds"
    older_than_s: int = Field(ge=0)
    limit: int = Field(ge=1, le=1000, default=200)


class AgentReceipt(Wire):
    """What an edge node vouched for: its signature, its own counts, why the answer ended (`cluster/receipts.py` has what is signed)."""

    model_digest: Text
    text_sha256: Text
    signature: Text
    prompt_tokens: Tokens
    completion_tokens: Tokens
    reason: Text


class SignReceipt(Wire):
    """Sign the consumer's receipt of a settled job. Of money the books are asked; what the answer was is this service's word.

    `text_sha256`: of all its content, then all its thinking, in UTF-8; hex.
    """

    op: Literal["sign_receipt"] = "sign_receipt"
    id: uuid.UUID
    model_digest: Text
    text_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    agent: AgentReceipt | None = None


Operation = Annotated[PlaceHold | Capture | Void | Introspect | FindHolds | SignReceipt, Field(discriminator="op")]


# --- answers ----------------------------------------------------------------------------------------------------------------------


class Caller(Wire):
    """Who is calling: the account's id, the key's id, what the key may do."""

    user: str  # user_…
    username: str
    key: str  # the key's public 8 characters
    scopes: tuple[str, ...]
    privacy: Literal["community", "trusted"] = "community"  # `trusted`: its jobs run on the operator's machines alone


class Room(Wire):
    """What is left of the tightest limit per minute that a request met. `limit`: of how many; `reset_s`: until all of it is there again."""

    limit: int
    left: int
    reset_s: int


class HoldPlaced(Wire):
    """The hold stands. `exists`: its idempotency key was used before; then the stored job is the answer.

    The same try sent again (same `id`, because its first answer was lost) is answered `ok` as long as the hold is open.
    """

    answer: Literal["placed"] = "placed"
    status: Literal["ok", "exists"]
    id: uuid.UUID
    caller: Caller
    price: Price
    held: int  # micro-credits
    room: Room | None = None


class Settled(Wire):
    """A capture or void took effect, now or before. `cost` is in micro-credits, 0 for a void."""

    answer: Literal["settled"] = "settled"
    status: Literal["ok", "exists"]
    cost: int = 0


class Introspected(Wire):
    """The credential is good."""

    answer: Literal["caller"] = "caller"
    caller: Caller


class OpenHold(Wire):
    """One open hold: its id and age."""

    id: uuid.UUID
    age_s: int


class HoldsFound(Wire):
    """The open holds asked for, oldest first."""

    answer: Literal["holds"] = "holds"
    holds: tuple[OpenHold, ...]


class ReceiptSigned(Wire):
    """A receipt: a JWT that anybody can check with the ledger's public keys."""

    answer: Literal["receipt"] = "receipt"
    token: str


class Refused(Wire):
    """The operation did nothing. `code` names a class of `ledger.errors`, `fields` its arguments by name."""

    answer: Literal["refused"] = "refused"
    code: str
    fields: dict[str, int | str] = Field(default_factory=dict)


Answer = Annotated[HoldPlaced | Settled | Introspected | HoldsFound | ReceiptSigned | Refused, Field(discriminator="answer")]


class Operations(Wire):
    """A batch."""

    operations: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=MAX_OPERATIONS)]


class Answers(Wire):
    """The answers to a batch, in its order."""

    answers: tuple[Answer, ...]


OPERATIONS: TypeAdapter[Operations] = TypeAdapter(Operations)
ANSWERS: TypeAdapter[Answers] = TypeAdapter(Answers)
OPERATION: TypeAdapter[Operation] = TypeAdapter(Operation)


# --- audits of providers (security reference 6) ---------------------------------------------------------------------------------------
#
# `POST /internal/v1/audits/offer` (by `serve`), `/take` and `/report` (by `auditor`), and `POST /internal/v1/audits/count-alarm` (by `edge`).

MAX_SEALED = 256 * 1024  # characters of a sealed sample, in base64
MAX_INPUTS = 4096  # bytes of a sample's inputs, as JSON
MAX_TASKS = 16  # that one look takes
Digest = Annotated[str, Field(max_length=80, pattern=r"^(sha256:)?[0-9a-f]{64}$")]


WhyNot = Literal["short", "no_copy", "unscorable", "no_auditor"]  # why an answer cannot be judged


class AuditSample(Wire):
    """An ended job of an edge node, to be audited: prompt and answer are sealed to the auditor, the ledger cannot read them.

    `rule_inputs`: what the rules need beside the text (sampling options, lengths); never a word of it. Idempotent by job.
    """

    job: uuid.UUID
    node: Text
    model: Text
    model_digest: Digest  # of the manifest
    weights_sha256: Digest  # of the GGUF
    rule_inputs: dict[str, Any] = Field(default_factory=dict)
    sealed: Annotated[str, Field(min_length=1, max_length=MAX_SEALED, pattern=r"^[A-Za-z0-9+/_=-]+$")]

    @field_validator("rule_inputs")
    @classmethod
    def _is_small(cls, given: dict[str, Any]) -> dict[str, Any]:
        written = json.dumps(given)
        if len(written) > MAX_INPUTS or "\\u0000" in written:  # PostgreSQL keeps no NUL in a text
            raise ValueError(f"The inputs are larger than {MAX_INPUTS} bytes, or hold a NUL.")
        return given


class AuditOffered(Wire):
    """What became of an offer. `full`: too many wait already, this one is not kept; `unwanted`: the node is not audited (trusted, banned, unknown)."""

    status: Literal["ok", "exists", "full", "unwanted"]


class AuditTask(Wire):
    """A sample to be audited now, leased for ten minutes. `node_key`: the node's public key as the ledger knows it, to check its receipt by."""

    id: uuid.UUID
    job: uuid.UUID
    node: str
    node_key: str | None
    model: str
    model_digest: str
    weights_sha256: str
    rule_inputs: dict[str, Any]
    sealed: str
    wanted_at: datetime


class AuditTasks(Wire):
    """The most urgent tasks, the oldest first."""

    tasks: tuple[AuditTask, ...]


class TakeAudits(Wire):
    """How many tasks are wanted."""

    limit: int = Field(ge=1, le=MAX_TASKS, default=1)


class AuditVerdict(Wire):
    """What an audit found. Rules A and B are about the model, `count` about the node's own counts; `none`: nothing could be judged.

    `score` is the worst window's, `windows` and `tokens` how much was scored; `detail` is for the provider's eyes and holds no word of the text.
    `why_not`: why nothing could be judged.
    """

    id: uuid.UUID
    is_flagged: bool
    rule: Literal["A", "B", "count", "none"]
    score: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    windows: int = Field(ge=0, le=MAX_TOKENS, default=0)
    tokens: Tokens = 0
    detail: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""
    why_not: WhyNot | None = None

    @model_validator(mode="after")
    def _says_by_which_rule(self) -> Self:
        if self.is_flagged and self.rule == "none":
            raise ValueError("A flag names the rule that was broken.")
        return self


class AuditReported(Wire):
    """The verdict stands, now or before (`exists`: the first one counts). `strikes`: of the node; `state`: what the node is now."""

    status: Literal["ok", "exists"]
    node: str
    state: str
    strikes: int


class CountAlarm(Wire):
    """A node's own counts of a job were off by more than they may be; idempotent by job and kind.

    Of the kind `timing`: it was faster than its card can be; `claimed` and `counted` are the tokens a second that were seen and the most that can be.
    """

    job: uuid.UUID
    node: Text
    claimed: Tokens
    counted: Tokens
    kind: Literal["count", "timing"] = "count"


class CountAlarmTaken(Wire):
    """It is noted. `alarms`: how many there are in the node's last jobs; `state`: what the node is now."""

    status: Literal["ok", "exists", "unwanted"]
    alarms: int
    state: str


# --- canaries: `POST /internal/v1/audits/canary-take` and `/canary-report` (by `serve`) ------------------------------------------------

MAX_OFFERS = 64  # models that one look names
MAX_NODES = 16  # nodes that one look takes canaries for


class CanaryOffer(Wire):
    """A model that an edge node offers and that is not admitted; `free`: those of its `slots` that nobody uses."""

    node: Text
    model: Text
    digest: Digest
    slots: int = Field(ge=0, le=MAX_TOKENS)
    free: int = Field(ge=0, le=MAX_TOKENS)


class TakeCanaries(Wire):
    """What is offered, and for how many nodes canaries are wanted."""

    offers: Annotated[tuple[CanaryOffer, ...], Field(max_length=MAX_OFFERS)]
    nodes: int = Field(ge=1, le=MAX_NODES)


class CanaryTask(Wire):
    """A canary to be sent now, leased for four minutes; `id` is its job's. Two `beside` are sent at once, `long` fills the context."""

    id: uuid.UUID
    node: str
    model: str
    digest: str
    kind: Literal["plain", "beside", "long"]


class CanaryTasks(Wire):
    """Canaries to be sent."""

    tasks: tuple[CanaryTask, ...]


class CanaryReport(Wire):
    """What came of a canary. `failure`: why it failed, in words for the provider; else `sample`, to be judged, or why there is none.

    Not `was_sent`: the node took nothing, it may be sent again at once.
    """

    id: uuid.UUID
    was_sent: bool = True
    failure: Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")] = ""
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    first_token_s: Annotated[float, Field(allow_inf_nan=False)] | None = None
    tokens_per_s: Annotated[float, Field(allow_inf_nan=False)] | None = None
    sample: AuditSample | None = None
    why_not: WhyNot = "no_auditor"


class CanaryReported(Wire):
    """It is noted, now or before; `unknown`: its lease had ended, another one is sent in its place."""

    status: Literal["ok", "exists", "unknown"]


# --- the dashboard guard: `POST /internal/v1/guard/enter` and `/look` (by `guard`) -------------------------------------------------------


class EnterGuard(Wire):
    """A pass that a browser brought."""

    word: Annotated[str, Field(max_length=4096)]


class LookAtVisit(Wire):
    """The sign-in that a visit hangs on."""

    session: uuid.UUID


class GuardVisitor(Wire):
    """An operator whose sign-in is open. `pass_id`, `made_at` (seconds since 1970): of the pass that was brought."""

    session: uuid.UUID
    user: str
    username: str
    pass_id: str = ""
    made_at: int = 0


# --- the feed: `GET /internal/v1/feed?after=` ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One change: `key_revoked`, `session_revoked`, `person_blocked`, `node`, `price`, `model` or `admission`; whose; and what is so now."""

    seq: int
    kind: str
    subject: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Changes in order. `seq` is where to go on; `reset`: forget all you knew, these entries are the whole state.

    `has_admission`: models of edge nodes get consumers' jobs only once an entry `admission` says so.
    """

    seq: int
    reset: bool
    entries: tuple[FeedEntry, ...]
    has_admission: bool = False


FEED: TypeAdapter[FeedPage] = TypeAdapter(FeedPage)
