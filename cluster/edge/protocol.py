"""The frames of `gfe.agent.v1`, between an agent and the edge gateway (docs/reference/agent-protocol.md).

One JSON object per text frame; `type` names it. Unknown fields are ignored, because agents are updated later than the platform: the one
exception to the rule that what is not known is refused. `job` and `lease` name an attempt. `seq` counts the chunks of one (job, lease) from
0; in the attempt's log, which begins with what earlier attempts delivered and with `admitted`, chunk n is event `first_seq(delivered) + n`,
so a log that a new gateway builds from the agent's chunks has the same numbers as the lost one. Durations are seconds from receipt: no clock
is compared across machines.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from cluster.attempt_log import decode, encode
from cluster.jobs import Beat, Event, JobKind, Text

SUBPROTOCOL = "gfe.agent.v1"
PATH = "/ws/computing/"
VERSIONS = (1,)  # that this release speaks, the newest last
MAX_FRAME_BYTES = 256 * 1024
MAX_RESUMED = 64
MAX_DELIVERED = 8192  # events of earlier attempts before an attempt's own; an offer has no room for more
MAX_MODELS = 500
MAX_GPUS = 64
UNACKED_CHUNKS = 32
UNACKED_BYTES = 256 * 1024
ACK_EVERY_CHUNKS = 8
ACK_EVERY_S = 0.25
HELLO_LIMIT_S = 5.0
HEARTBEAT_S = 10.0
SUSPECT_S = 15.0  # of silence: no new offers
OFFLINE_S = 25.0
ACCEPT_LIMIT_S = 1.0
CANCELED_LIMIT_S = 0.5

# Close codes. Those below 3000 that have no name here are WebSocket's own; 1006 is no code at all.
CLOSE_BINARY = 1003
CLOSE_BREACH = 1008
CLOSE_RESTART = 1012
CLOSE_OVERLOADED = 1013
CLOSE_UNAUTHORIZED = 4401
CLOSE_NO_HELLO = 4408
CLOSE_REPLACED = 4409
CLOSE_VERSION = 4426
CLOSE_DEFECT = 1011
CLOSES = frozenset({
    1000, 1001, 1002, 1006, 1007, 1009, CLOSE_BINARY, CLOSE_BREACH, CLOSE_RESTART, CLOSE_OVERLOADED, CLOSE_UNAUTHORIZED, CLOSE_NO_HELLO, CLOSE_REPLACED,
    CLOSE_VERSION, CLOSE_DEFECT,
})  # fmt: skip

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Lease = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Words = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Digest = Annotated[str, Field(max_length=100)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Frame(BaseModel):
    """What every frame is."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    def text(self) -> str:
        """Write it as it is sent; what is not set is left out."""
        return self.model_dump_json(exclude_none=True)


# --- both ways ---------------------------------------------------------------------------------------------------------------------------


class Drain(Frame):
    """No new offers; what runs is finished, then `bye`."""

    type: Literal["drain"] = "drain"
    reason: Words = ""
    deadline_s: Seconds = 0


class Bye(Frame):
    """The sender closes with 1000 after it."""

    type: Literal["bye"] = "bye"
    reason: Words = ""


ErrorCode = Literal["bad_message", "unknown_type", "seq_gap", "too_many_frames", "not_yours", "not_ready", "no_common_version"]


class Error(Frame):
    """A frame was not as it should be. Some are followed by a close, see the table of codes."""

    type: Literal["error"] = "error"
    code: Annotated[str, Field(max_length=50)]  # `ErrorCode`, or one that a later release knows
    detail: Words = ""
    ref_type: Annotated[str, Field(max_length=50)] | None = None
    job: Id | None = None


# --- agent to platform -------------------------------------------------------------------------------------------------------------------


class Held(Frame):
    """An attempt that the agent has the log of: chunks from `first_seq` on are kept, `next_seq` is to be produced next.

    `delivered` events of earlier attempts stand before it in the log, as the offer said.
    """

    job: Id
    lease: Lease
    first_seq: Count = 0
    next_seq: Count
    delivered: Annotated[int, Field(ge=0, le=MAX_DELIVERED)] = 0
    ended: bool = False


class Hello(Frame):
    """The first frame. `boot_id` is new at each start of the agent's process."""

    type: Literal["hello"] = "hello"
    versions: Annotated[list[int], Field(min_length=1, max_length=16)]
    agent_version: Annotated[str, Field(max_length=50)]
    boot_id: Id
    resume: Annotated[list[Held], Field(max_length=MAX_RESUMED)] = Field(default_factory=list)


class AgentGpu(Frame):
    """One device, as its driver describes it."""

    uuid: Name
    name: Name
    vram_bytes: Count
    free_bytes: Count | None = None
    driver: Annotated[str, Field(max_length=100)] | None = None


class AgentModel(Frame):
    """A model that the agent offers. `digest` is the manifest's, `weights_sha256` that of the GGUF layer."""

    name: Name
    digest: Digest
    weights_sha256: Digest = ""
    ctx: Count
    size_bytes: Count = 0
    capabilities: Annotated[list[Name], Field(max_length=16)] = Field(default_factory=lambda: ["completion"])
    is_loaded: bool = False
    tokens_per_s: Annotated[float, Field(ge=0, le=1e6)] | None = None
    first_token_s: Seconds | None = None
    job_s: Seconds | None = None


class Inventory(Frame):
    """What the machine offers; after `welcome` and at each change. Claims are hints. `paused` says in words why it takes no jobs now."""

    type: Literal["inventory"] = "inventory"
    gpus: Annotated[list[AgentGpu], Field(max_length=MAX_GPUS)] = Field(default_factory=list)
    vram: Count = 0
    ram_bytes: Count = 0
    runtime: Annotated[str, Field(max_length=50)]
    ollama_version: Annotated[str, Field(max_length=50)] = ""
    models: Annotated[list[AgentModel], Field(max_length=MAX_MODELS)] = Field(default_factory=list)
    slots: Annotated[int, Field(ge=0, le=1024)]
    paused: Words = ""


class AgentGpuLoad(Frame):
    """How a device is now."""

    uuid: Name
    temp_c: Annotated[int, Field(ge=-100, le=1000)] | None = None
    util_percent: Annotated[int, Field(ge=0, le=100)] | None = None


class Running(Frame):
    """An attempt that runs on the agent."""

    job: Id
    lease: Lease


class AgentHeartbeat(Frame):
    """The agent lives."""

    type: Literal["heartbeat"] = "heartbeat"
    n: Count
    slots_free: Annotated[int, Field(ge=0, le=1024)] = 0
    jobs: Annotated[list[Running], Field(max_length=1024)] = Field(default_factory=list)
    gpu: Annotated[list[AgentGpuLoad], Field(max_length=MAX_GPUS)] = Field(default_factory=list)


class Accept(Frame):
    """The offer is taken: chunks follow."""

    type: Literal["accept"] = "accept"
    job: Id
    lease: Lease


class Reject(Frame):
    """The offer is not taken; nothing was started."""

    type: Literal["reject"] = "reject"
    job: Id
    lease: Lease
    reason: Annotated[str, Field(max_length=50)]  # busy, no_model, draining, too_large, internal; or a later release's
    retry_after_s: Seconds | None = None


class CalledFunction(Frame):
    """The function of a tool call, as Ollama writes it."""

    name: Name
    arguments: dict[str, Any]


class ToolCall(Frame):
    """What a tool call must have."""

    function: CalledFunction


class LikelyToken(Frame):
    """A token and its log probability, as Ollama writes it."""

    token: str
    logprob: float
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None


class ChosenToken(LikelyToken):
    """A token of the answer, and those that were likely in its place."""

    top_logprobs: list[LikelyToken] = Field(default_factory=list)


# One fault is enough: to list them all would cost more than to read the frame.
_TOOL_CALLS: TypeAdapter[list[ToolCall]] = TypeAdapter(Annotated[list[ToolCall], FailFast()])
_TOKENS: TypeAdapter[list[ChosenToken]] = TypeAdapter(Annotated[list[ChosenToken], FailFast()])


def _plain(value: Any) -> None:
    """Refuse numbers that JSON does not know: who reads the answer could not read it any more."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers are finite")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _plain(inner)


def _as(known: TypeAdapter[Any]) -> AfterValidator:
    """Check the form of what is passed on as it is."""

    def check(value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        if value is not None:
            known.validate_python(value)
            _plain(value)
        return value

    return AfterValidator(check)


class Delta(Frame):
    """What the model said since the last chunk. Nothing at all: the attempt lives, without news."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: Annotated[list[dict[str, Any]] | None, _as(_TOOL_CALLS)] = None
    embeddings: list[list[float]] | None = None


class Chunk(Frame):
    """A piece of the answer. `tokens`: how many tokens of it this piece carries, as the agent's runtime saw them."""

    type: Literal["chunk"] = "chunk"
    job: Id
    lease: Lease
    seq: Count
    delta: Delta
    logprobs: Annotated[list[dict[str, Any]] | None, _as(_TOKENS)] = None
    tokens: Count | None = None


class RuntimeUsage(Frame):
    """What the runtime claims to have counted; a cross-check of the platform's own count. Times in milliseconds."""

    prompt_eval_count: Count = 0
    eval_count: Count = 0
    load_ms: Count | None = None
    prompt_ms: Count | None = None
    eval_ms: Count | None = None


class SignedReceipt(Frame):
    """The agent's signature under what it delivered; see `cluster/receipts.py`."""

    text_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(min_length=86, max_length=86, pattern=r"^[A-Za-z0-9_-]+$")]


class End(Frame):
    """The attempt ended well after `total` chunks; kept and sent again until it is acknowledged with `end`."""

    type: Literal["end"] = "end"
    job: Id
    lease: Lease
    total: Count
    usage: RuntimeUsage
    reason: Literal["stop", "length"]
    receipt: SignedReceipt | None = None


FailCode = Literal[
    "runtime_unreachable", "runtime_status", "model_missing", "out_of_memory", "timed_out", "bad_output", "bad_request", "internal"
]


class Fail(Frame):
    """The attempt failed after `seq` chunks; kept and sent again like `end`. `bad_request`: no other node would do better."""

    type: Literal["fail"] = "fail"
    job: Id
    lease: Lease
    seq: Count
    code: FailCode
    status: Annotated[int, Field(ge=0, le=999)] = 0
    detail: Words = ""
    retryable: bool = True


class Canceled(Frame):
    """The attempt was stopped after `seq` chunks; also said of one that is not known."""

    type: Literal["canceled"] = "canceled"
    job: Id
    lease: Lease
    seq: Count = 0


class Auth(Frame):
    """A fresh agent token, before the old one expires."""

    type: Literal["auth"] = "auth"
    token: Annotated[str, Field(max_length=4096)]


# --- platform to agent -------------------------------------------------------------------------------------------------------------------


class SessionLimits(Frame):
    """What a connection is held to. `slots`: how many offers at once the platform makes at most; None: as many as declared."""

    frame_bytes: int = MAX_FRAME_BYTES
    unacked_chunks: int = UNACKED_CHUNKS
    unacked_bytes: int = UNACKED_BYTES
    slots: int | None = None
    heartbeat_s: float = HEARTBEAT_S


class ResumeFrom(Frame):
    """Of a held attempt the platform has the chunks before `next_seq`."""

    job: Id
    lease: Lease
    next_seq: Count


class Dropped(Frame):
    """A held attempt that the platform does not want: `superseded`, `unknown` or `gap`."""

    job: Id
    lease: Lease
    reason: Annotated[str, Field(max_length=50)]


class Welcome(Frame):
    """The answer to `hello`. `epoch` grows with each connection of the node."""

    type: Literal["welcome"] = "welcome"
    version: int
    node: Id
    epoch: Count
    limits: SessionLimits = Field(default_factory=SessionLimits)
    resume: list[ResumeFrom] = Field(default_factory=list)
    drop: list[Dropped] = Field(default_factory=list)


class PlatformHeartbeat(Frame):
    """The platform lives."""

    type: Literal["heartbeat"] = "heartbeat"
    n: Count


class OfferDeadlines(Frame):
    """Seconds from the offer's receipt."""

    accept: Seconds = ACCEPT_LIMIT_S
    first_token: Seconds
    idle: Seconds
    total: Seconds


class Offer(Frame):
    """A job. `request` is in the form of Ollama's own API; no user, key, address or other job is in it.

    `delivered` are the events of earlier attempts, as lines of an attempt log: the answer goes on after them.
    """

    type: Literal["offer"] = "offer"
    job: Id
    lease: Lease
    kind: JobKind
    model: Name
    model_digest: Digest
    request: dict[str, Any]
    max_tokens: Count
    deadline: OfferDeadlines
    delivered: list[str] | None = None


class Ack(Frame):
    """All chunks before `seq` were taken; with `end`, the end too."""

    type: Literal["ack"] = "ack"
    job: Id
    lease: Lease
    seq: Count
    end: bool = False


class Cancel(Frame):
    """Stop an attempt: `consumer`, `deadline`, `superseded` or `revoked`."""

    type: Literal["cancel"] = "cancel"
    job: Id
    lease: Lease
    why: Annotated[str, Field(max_length=50)]


class AuthOk(Frame):
    """The fresh token is good for so long."""

    type: Literal["auth_ok"] = "auth_ok"
    expires_in_s: Seconds


# --- reading -----------------------------------------------------------------------------------------------------------------------------

FromAgent = Annotated[
    Hello | Inventory | AgentHeartbeat | Accept | Reject | Chunk | End | Fail | Canceled | Drain | Bye | Auth | Error,
    Field(discriminator="type"),
]
FromPlatform = Annotated[
    Welcome | PlatformHeartbeat | Offer | Ack | Cancel | Drain | Bye | AuthOk | Error,
    Field(discriminator="type"),
]
_FROM_AGENT: TypeAdapter[FromAgent] = TypeAdapter(FromAgent)
_FROM_PLATFORM: TypeAdapter[FromPlatform] = TypeAdapter(FromPlatform)


class BadFrame(Exception):
    """A frame that is none of ours; `error` is what to answer."""

    def __init__(self, error: Error) -> None:
        """Keep the answer."""
        super().__init__(error.detail)
        self.error = error


def from_agent(text: str) -> FromAgent:
    """Read a frame that an agent sent.

    Raises:
        BadFrame: It is not one.
    """
    frame: FromAgent = _read(_FROM_AGENT, text)
    return frame


def from_platform(text: str) -> FromPlatform:
    """Read a frame that the platform sent.

    Raises:
        BadFrame: It is not one.
    """
    frame: FromPlatform = _read(_FROM_PLATFORM, text)
    return frame


def _read(known: TypeAdapter[Any], text: str) -> Any:
    try:
        return known.validate_json(text)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            tag = str(first.get("ctx", {}).get("tag", ""))[:50]
            raise BadFrame(Error(code="unknown_type", detail="this release does not know such frames", ref_type=tag)) from None
        where = ".".join(str(part) for part in first["loc"])
        raise BadFrame(Error(code="bad_message", detail=f"{where}: {first['msg']}"[:500])) from None


# --- a log's events as chunks ------------------------------------------------------------------------------------------------------------


def first_seq(delivered: int) -> int:
    """Tell the number, in an attempt's log, of its chunk 0: after what was delivered before, and after `admitted`."""
    return delivered + 1


def chunk_of(job: str, lease: int, event: Text | Beat, delivered: int) -> Chunk:
    """Write an event of an agent's log as a chunk."""
    seq = event.seq - first_seq(delivered)
    if isinstance(event, Beat):
        return Chunk(job=job, lease=lease, seq=seq, delta=Delta())
    delta = Delta(
        content=event.content or None, thinking=event.thinking or None, tool_calls=_dicts(event.tool_calls),
        embeddings=[list(vector) for vector in event.embeddings] or None,
    )  # fmt: skip
    return Chunk(job=job, lease=lease, seq=seq, delta=delta, logprobs=_dicts(event.logprobs), tokens=event.tokens)


def _dicts(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    return [dict(one) for one in found] or None


def event_of(chunk: Chunk, delivered: int) -> Text | Beat:
    """Read a chunk as the event of the log that it is."""
    seq, delta = first_seq(delivered) + chunk.seq, chunk.delta
    if not (delta.content or delta.thinking or delta.tool_calls or delta.embeddings):
        return Beat(seq=seq)
    return Text(
        seq=seq, content=delta.content or "", thinking=delta.thinking or "", tool_calls=tuple(delta.tool_calls or ()),
        embeddings=tuple(tuple(vector) for vector in delta.embeddings or ()), logprobs=tuple(chunk.logprobs or ()), tokens=chunk.tokens or 0,
    )  # fmt: skip


def delivered_lines(events: Sequence[Event]) -> list[str] | None:
    """Write what earlier attempts delivered for an offer; None: nothing."""
    return [encode(event).decode() for event in events] or None


def delivered_events(lines: Sequence[str] | None) -> tuple[Event, ...]:
    """Read what an offer says was delivered.

    Raises:
        ValueError: These are no events.
    """
    return tuple(decode(line.encode()) for line in lines or ())
