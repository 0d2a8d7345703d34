"""Values that cross process borders: a job as nodes see it, and the events of its attempts.

Frozen and free of behavior. On the wire (design section 4) an event is one line of JSON: `{"seq": n, "event": name, …}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class JobKind(StrEnum):
    """What is asked of the runtime: the Ollama route that serves it."""

    CHAT = "chat"
    GENERATE = "generate"
    EMBED = "embed"


class EndReason(StrEnum):
    """Why an attempt ended well."""

    STOP = "stop"
    LENGTH = "length"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long an attempt may take, in seconds from its arrival at the node."""

    first_token_s: float = 90.0
    idle_s: float = 20.0
    total_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job on one node. `number` is the lease and fencing token.

    `request` is in the form of Ollama's own API without `model` and `stream`: `messages` or `prompt` or `input`, `options` (from the
    allow-list), `format`, `tools`, `think`. No user, key or address is in it.
    """

    job: str
    number: int
    node: str
    kind: JobKind
    model: str
    model_digest: str
    request: Mapping[str, Any]
    max_tokens: int
    deadlines: Deadlines = field(default_factory=Deadlines)
    delivered: tuple["Event", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written. `counted_by` is `platform` only where our own tokenizer counted."""

    prompt_tokens: int
    completion_tokens: int
    counted_by: Literal["platform", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The node took the job."""

    seq: int
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What the model said since the last event. `tokens`: how many tokens of the answer this event carries, as the node saw them.

    `logprobs`: one per token, in Ollama's form `{token, logprob, bytes, top_logprobs}`, where they were asked for.
    """

    seq: int
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] = ()
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The attempt lives, without news."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReceipt:
    """An edge node's signature under the whole answer (`cluster/receipts.py`), with what it signed that nobody else says: its own counts."""

    text_sha256: str
    model_digest: str
    prompt_tokens: int
    completion_tokens: int
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The attempt ended well. `receipt`: of an edge node, checked by the edge gateway; None: there is none, or it did not fit."""

    seq: int
    reason: EndReason
    usage: Usage
    receipt: AgentReceipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The attempt failed. `is_request_fault`: the request is to blame, no other node would do better."""

    seq: int
    status: int
    detail: str
    is_request_fault: bool = False


Event = Admitted | Text | Beat | End | Fail
