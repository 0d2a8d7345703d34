"""A job as the replica that drives it knows it: what was asked, under which terms, and how far it has come."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.jobs import EndReason, Event, JobKind, Text
from cluster.nodes import Node
from cluster.prompt_size import most_tokens
from ledger.client import Caller, HoldPlaced, Price, job_id
from serve_app.decisions import Decision
from serve_app.store.answers import text_of
from serve_app.store.records import Adopted

PROMPT_HEAD = 80  # characters of a prompt that lists show


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a consumer asks, in our words. `request` is in Ollama's form; `prompt_bytes` bounds the prompt's tokens.

    `is_sync`: somebody reads along; else it runs on by itself, and waits for a node as long as it takes. `provider`: a username or node id.
    `webhook`: the URL that is told of the job's end, as `WebhookDesk.check_url` answered it.
    """

    kind: JobKind
    model: str
    request: dict[str, Any]
    max_tokens: int
    prompt_bytes: int
    capabilities: frozenset[str] = frozenset()
    idempotency_key: str | None = None
    digest: str | None = None
    is_sync: bool = True
    provider: str | None = None
    webhook: str | None = None
    is_batch: bool = False  # a line of a batch: at the batch price

    @property
    def is_continuable(self) -> bool:
        """Whether another node could go on in the middle of its answer: plain chat, without tools, format, thinking or logprobs."""
        asked = self.request
        if self.kind is not JobKind.CHAT or any(asked.get(name) for name in ("tools", "format", "think", "logprobs")):
            return False
        return not any(message.get("images") or message.get("tool_calls") for message in asked["messages"])


@dataclass(frozen=True, slots=True)
class Share:
    """What a node served of a job that another one finished."""

    node: str
    attempt: int
    tokens: int


@dataclass(slots=True)
class OpenJob:
    """A recorded job on its way.

    `events` is what was delivered, numbered from 0 over all attempts. `attaches`: its attempt runs already, begun by a driver that was lost.
    `lost_at`: when the node was lost in the middle of the answer; `shares` are what such nodes served. Times are monotonic seconds.
    `cancel_wanted`: its consumer wants it to end.
    """

    id: uuid.UUID
    asked: JobRequest
    placed: HoldPlaced
    node: Node | None
    started_at: float
    number: int = 1
    is_sync: bool = True
    attaches: bool = False
    is_adopted: bool = False
    waited_s: float = 0.0
    events: list[Event] = field(default_factory=list)
    has_text: bool = False
    delivered_tokens: int = 0
    weights: str = ""
    lost_at: float | None = None
    shares: list[Share] = field(default_factory=list)
    failures: int = 0
    failed_on: set[str] = field(default_factory=set)
    crashed_on: set[str] = field(default_factory=set)
    busy: int = 0
    excluded: set[str] = field(default_factory=set)
    too_large_for: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    first_text_at: float | None = None
    is_refused: bool = False  # it failed, and the request is to blame
    cancel_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The job's id as text."""
        return job_id(self.id)

    @property
    def headers(self) -> dict[str, str]:
        """What its client is told beside the answer: the job, and what is left of the account's limit per minute."""
        said = {"X-GFE-Job": self.name}
        if room := self.placed.room:
            said |= {"RateLimit-Limit": str(room.limit), "RateLimit-Remaining": str(room.left), "RateLimit-Reset": str(room.reset_s)}
        return said

    @property
    def first_token_s(self) -> float | None:
        """How long its first token took; None: there was none, or another driver had begun the job."""
        return None if self.first_text_at is None or self.is_adopted else self.first_text_at - self.started_at

    @property
    def text(self) -> str:
        """What was delivered."""
        return text_of(self.events)

    @property
    def unfit(self) -> frozenset[str]:
        """Nodes that it is too large for, and those where its runtime ended although others have the model."""
        return frozenset(self.too_large_for | (self.crashed_on & self.excluded))

    @property
    def served_by(self) -> tuple[str | None, int]:
        """Name the node and the attempt that an end is of: the last ones, or those that were lost where nobody could go on."""
        if self.node is None and self.shares:
            return self.shares[-1].node, self.shares[-1].attempt
        return (self.node.id if self.node else None), self.number

    def note(self, event: Event) -> None:
        """Keep a delivered event."""
        self.events.append(event)
        if isinstance(event, Text):
            if not self.has_text:
                self.has_text, self.first_text_at = True, time.monotonic()
            self.delivered_tokens += event.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job's good end. `cost` in micro-credits."""

    reason: EndReason
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    cost: int


def digest_of(asked: JobRequest) -> str:
    """Digest what a runtime is given."""
    return hashlib.sha256(json.dumps([asked.kind, asked.model, asked.request], sort_keys=True).encode(errors="surrogatepass")).hexdigest()


def prompt_of(request: dict[str, Any]) -> str:
    """Read what was asked, in words: the last message, the prompt, or the first text to be embedded."""
    messages = request.get("messages")
    said = messages[-1].get("content") if messages else request.get("prompt", request.get("input"))
    if isinstance(said, list):
        said = said[0] if said else ""
    return said if isinstance(said, str) else ""


def system_of(request: dict[str, Any]) -> str | None:
    """Read what the model was told before the prompt, if anything was."""
    first = (request.get("messages") or [{}])[0]
    said = first.get("content") if first.get("role") == "system" else None
    return said if isinstance(said, str) else None


def prompt_head(request: dict[str, Any]) -> str:
    """Read its first characters, in one line; what cannot be printed is a blank."""
    return "".join(letter if letter.isprintable() else " " for letter in prompt_of(request)[:PROMPT_HEAD])


# --- as it is kept, for a driver that takes it over ------------------------------------------------------------------------------------


def request_text(asked: JobRequest) -> str:
    """Write what was asked."""
    return json.dumps(asked.request | {"max_tokens": asked.max_tokens})


def _texts(said: Any) -> Iterator[str]:
    """Read the texts of a prompt in parts."""
    for part in said if isinstance(said, list) else ():
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def terms_text(asked: JobRequest, placed: HoldPlaced) -> str:
    """Write what was agreed: the price, the caller's wishes, what the model must be able to do."""
    price = placed.price
    return json.dumps(
        {
            "price": [price.version, price.flat, price.prompt_per_million, price.completion_per_million],
            "privacy": placed.caller.privacy,
            "capabilities": sorted(asked.capabilities),
            "provider": asked.provider,
        },
        separators=(",", ":"),
    )


def adopted_job(row: Adopted, node: Node | None, now: float) -> OpenJob:
    """Rebuild a job from its rows."""
    request = dict(row.request)
    max_tokens = int(request.pop("max_tokens", 1))
    terms = row.terms
    version, flat, prompt, completion = terms.get("price", (0, 0, 0, 0))
    asked = JobRequest(
        kind=JobKind(row.kind), model=row.model, request=request, max_tokens=max_tokens, prompt_bytes=most_tokens(request),
        capabilities=frozenset(terms.get("capabilities", ())), is_sync=row.is_sync, provider=terms.get("provider"),
    )  # fmt: skip
    caller = Caller(user=row.user, username=row.username, key=row.key, scopes=(), privacy=terms.get("privacy", "community"))
    price = Price(version=version, flat=flat, prompt_per_million=prompt, completion_per_million=completion)
    placed = HoldPlaced(status="ok", id=row.id, caller=caller, price=price, held=row.held)
    shares = shares_of(row.served)
    return OpenJob(
        row.id, asked, placed, node, now, number=row.attempt, is_sync=row.is_sync, is_adopted=True, decisions=list(row.why), shares=shares,
        lost_at=now if shares else None,
    )  # fmt: skip


def shares_text(shares: list[Share]) -> str | None:
    """Write what earlier nodes served; None: nothing."""
    return json.dumps([asdict(share) for share in shares], separators=(",", ":")) if shares else None


def shares_of(text: str | None) -> list[Share]:
    """Read it."""
    return [Share(**one) for one in json.loads(text)] if text else []
