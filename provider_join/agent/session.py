"""The agent's side of `gfe.agent.v1`, from the first connection to the last. Pure: frames in, frames out, the clock is an argument.

The log of an attempt outlives its connections. What was sent is counted per connection; what the platform has, it says itself (`welcome`,
`ack`). Only `next_text` sends an attempt's chunks, in order from there, so replay and live text are one thing and cannot overtake each other.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cluster.attempt_log import UNREAD_LIMIT_S, decode
from cluster.edge import protocol as wire
from cluster.jobs import Beat, End, EndReason, Fail, Text

WELCOME_LIMIT_S = 10.0
RENEW_BEFORE_S = 120.0
RENEW_AGAIN_S = 10.0
FAIL_CODES: dict[int, wire.FailCode] = {0: "runtime_unreachable", 404: "model_missing", 502: "bad_output", 504: "timed_out"}


class Log(Protocol):
    """What is kept of an attempt: `cluster.attempt_log.AttemptLog`, or one that was read from disk."""

    @property
    def lines(self) -> Sequence[bytes]:
        """All events, from number 0 on."""

    @property
    def has_ended(self) -> bool:
        """Whether the last one is the end."""


Sign = Callable[["Held", End, str, str], wire.SignedReceipt | None]  # (attempt, its end, content, thinking)


@dataclass(slots=True, kw_only=True)
class Held:
    """An attempt whose log the agent has, and how far it is sent in this connection."""

    job: str
    lease: int
    delivered: int  # events of earlier attempts
    model_digest: str
    log: Log
    sent: int = 0  # chunks, in this connection or before it
    is_open: bool = False  # the platform said in this connection where to go on
    end_sent: bool = False
    unacked: deque[int] = field(default_factory=deque)  # bytes of each chunk on its way
    unacked_bytes: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.job, self.lease

    @property
    def first(self) -> int:
        """The number of chunk 0 in the log."""
        return wire.first_seq(self.delivered)

    @property
    def produced(self) -> int:
        """Count its chunks so far."""
        return len(self.log.lines) - self.first - bool(self.log.has_ended)

    @property
    def is_sent(self) -> bool:
        """Whether all chunks are on their way."""
        return self.sent >= self.produced

    def open_at(self, seq: int) -> None:
        """Send from this chunk on."""
        self.sent, self.is_open, self.end_sent = seq, True, False
        self.unacked.clear()
        self.unacked_bytes = 0

    def acked(self, seq: int) -> None:
        """The platform has the chunks before this one."""
        while self.unacked and self.sent - len(self.unacked) < seq:
            self.unacked_bytes -= self.unacked.popleft()

    def may_send(self, limits: wire.SessionLimits) -> bool:
        """Tell whether the next chunk fits into the window."""
        return self.is_open and not self.is_sent and not self.is_window_full(limits)

    def is_window_full(self, limits: wire.SessionLimits) -> bool:
        """Tell whether as much is on its way as may be."""
        return len(self.unacked) >= limits.unacked_chunks or self.unacked_bytes >= limits.unacked_bytes


@dataclass(frozen=True, slots=True)
class Admit:
    """Take this offer, or refuse it: `AgentSession.accept` or `AgentSession.reject`."""

    offer: wire.Offer


@dataclass(frozen=True, slots=True)
class Stop:
    """End what runs for an attempt."""

    job: str
    lease: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The platform has all of an attempt, or wants none of it."""

    job: str
    lease: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The token in the session is good for so long."""

    expires_in_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """The platform says something that a person may want to read."""

    what: str


Effect = Admit | Stop | Forget | Renewed | Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How the machine is now."""

    inventory: wire.Inventory
    slots_free: int
    loads: tuple[wire.AgentGpuLoad, ...] = ()

    def same_offer(self, other: "Facts") -> bool:
        """Tell whether it offers the same; free memory changes all the time and is no news."""
        return _without_free(self.inventory) == _without_free(other.inventory)


def _without_free(inventory: wire.Inventory) -> wire.Inventory:
    return inventory.model_copy(update={"gpus": [gpu.model_copy(update={"free_bytes": None}) for gpu in inventory.gpus]})


class AgentSession:
    """What the agent owes the platform, and what it may say next."""

    def __init__(self, *, boot_id: str, agent_version: str, sign: Sign, facts: Facts) -> None:
        self._boot_id = boot_id
        self._agent_version = agent_version
        self._sign = sign
        self._facts = facts
        self._has_news = True  # the platform does not know what is offered now
        self._held: dict[tuple[str, int], Held] = {}
        self._out: deque[wire.Frame] = deque()
        self._has_left = False  # `bye` was the last word
        self._turn = 0  # whose chunk is next
        self._beats = 0
        self._beat_at = 0.0
        self._token_expires_at = float("inf")
        self._renew_at = float("inf")
        self.is_connected = False
        self.welcome: wire.Welcome | None = None
        self.heard_at = 0.0
        self._connected_at = 0.0

    # --- connections -----------------------------------------------------------------------------------------------------------------

    def connect(self, now: float, token_expires_in_s: float) -> None:
        """A connection is open: `hello` is the first thing to say."""
        self._out.clear()
        self.welcome, self._has_news = None, True
        self.is_connected, self._has_left = True, False
        self.heard_at = self._connected_at = now
        self._set_token(now, token_expires_in_s)
        resume = [
            wire.Held(job=held.job, lease=held.lease, next_seq=held.produced, delivered=held.delivered, ended=held.log.has_ended)
            for held in list(self._held.values())[: wire.MAX_RESUMED]
        ]
        for held in self._held.values():
            held.is_open = False
        hello = wire.Hello(versions=list(wire.VERSIONS), agent_version=self._agent_version, boot_id=self._boot_id, resume=resume)
        self._out.append(hello)

    def disconnect(self) -> None:
        """It is closed; what is held waits for the next one."""
        self.is_connected = False
        self.welcome = None
        self._out.clear()

    def is_dead(self, now: float) -> bool:
        """Tell whether the platform has been silent for too long: sooner while something runs, as that is acknowledged all the time."""
        if self.welcome is None:
            limit_s = WELCOME_LIMIT_S
        else:
            limit_s = wire.OFFLINE_S if all(held.log.has_ended for held in self.held) else UNREAD_LIMIT_S
        return self.is_connected and now - self.heard_at > limit_s

    def _set_token(self, now: float, expires_in_s: float) -> None:
        self._token_expires_at = now + expires_in_s
        self._renew_at = now + max(0.0, expires_in_s - RENEW_BEFORE_S)

    def wants_token(self, now: float) -> bool:
        """Tell whether it is time for a fresh token; asks again only after a while."""
        if self.welcome is None or now < self._renew_at:
            return False
        self._renew_at = now + RENEW_AGAIN_S
        return True

    # --- what the machine does --------------------------------------------------------------------------------------------------------

    @property
    def held(self) -> Sequence[Held]:
        """All attempts whose logs are kept."""
        return tuple(self._held.values())

    def find(self, job: str, lease: int) -> Held | None:
        """Look one up."""
        return self._held.get((job, lease))

    def keep(self, held: Held) -> None:
        """Keep an attempt of an earlier run of the agent: it is offered to the platform at the next connection."""
        self._held[held.key] = held

    def accept(self, held: Held) -> None:
        """An offer was taken."""
        held.open_at(0)
        self._held[held.key] = held
        self._out.append(wire.Accept(job=held.job, lease=held.lease))

    def reject(self, offer: wire.Offer, reason: str, retry_after_s: float | None = None) -> None:
        """An offer was not taken; nothing was started."""
        self._out.append(wire.Reject(job=offer.job, lease=offer.lease, reason=reason, retry_after_s=retry_after_s))

    def say(self, frame: wire.Frame) -> None:
        """Say something as soon as the platform listens."""
        if self.welcome is not None:
            self._out.append(frame)

    @property
    def has_words(self) -> bool:
        """Whether something waits to be said beside the attempts' own."""
        return bool(self._out)

    def forget(self, job: str, lease: int) -> None:
        """Keep an attempt's log no longer."""
        self._held.pop((job, lease), None)

    def note(self, facts: Facts) -> None:
        """The machine was looked at."""
        self._has_news = self._has_news or not facts.same_offer(self._facts)
        self._facts = facts

    def is_behind(self, held: Held) -> bool:
        """Tell whether so much waits for the platform that the runtime should wait too."""
        limits = self._limits
        return self.welcome is not None and held.is_window_full(limits) and held.produced - held.sent >= limits.unacked_chunks

    @property
    def _limits(self) -> wire.SessionLimits:
        return self.welcome.limits if self.welcome else wire.SessionLimits()

    # --- what the platform says -------------------------------------------------------------------------------------------------------

    def take(self, frame: wire.FromPlatform, now: float) -> Iterator[Effect]:
        """Take a frame in; yields what is to be done."""
        self.heard_at = now
        match frame:
            case wire.Welcome():
                yield from self._begin(frame, now)
            case wire.Error():
                yield Told(f"{frame.code}: {frame.detail}" if frame.detail else frame.code)
            case wire.Bye():
                yield Told(f"the platform says goodbye: {frame.reason}")
            case _ if self.welcome is None:
                return  # nothing else counts before it
            case wire.Offer():
                yield from self._offered(frame)
            case wire.Ack():
                yield from self._acked(frame)
            case wire.Cancel():
                yield from self._canceled(frame)
            case wire.AuthOk():
                self._set_token(now, frame.expires_in_s)
                yield Renewed(frame.expires_in_s)
            case wire.Drain():
                yield Told(f"the platform restarts: {frame.reason}")
            case _:
                return

    def _begin(self, welcome: wire.Welcome, now: float) -> Iterator[Effect]:
        self.welcome = welcome
        self._beat_at = now
        wanted = {(one.job, one.lease): one.next_seq for one in welcome.resume}
        for held in self.held:
            seq = wanted.get(held.key)
            if seq is None or seq > held.produced:
                yield from self._drop(held)
            else:
                held.open_at(seq)

    def _offered(self, offer: wire.Offer) -> Iterator[Effect]:
        if (offer.job, offer.lease) in self._held:
            self._out.append(wire.Accept(job=offer.job, lease=offer.lease))
            return
        for older in [held for held in self.held if held.job == offer.job]:
            if older.lease > offer.lease:
                self.reject(offer, "internal")
                return
            yield from self._drop(older)
        yield Admit(offer)

    def _drop(self, held: Held) -> Iterator[Effect]:
        self.forget(held.job, held.lease)
        yield Stop(held.job, held.lease)
        yield Forget(held.job, held.lease)

    def _acked(self, ack: wire.Ack) -> Iterator[Effect]:
        held = self.find(ack.job, ack.lease)
        if held is None:
            return
        held.acked(ack.seq)
        if ack.end and held.end_sent:
            self.forget(held.job, held.lease)
            yield Forget(held.job, held.lease)

    def _canceled(self, cancel: wire.Cancel) -> Iterator[Effect]:
        held = self.find(cancel.job, cancel.lease)
        self._out.append(wire.Canceled(job=cancel.job, lease=cancel.lease, seq=held.sent if held else 0))
        if held:
            yield from self._drop(held)

    # --- what is said -----------------------------------------------------------------------------------------------------------------

    def next_text(self, now: float) -> str | None:
        """Write the next frame that may be sent; None: nothing for now. What it answers counts as sent."""
        if not self.is_connected or self._has_left:
            return None
        if self._out and (self.welcome or isinstance(self._out[0], wire.Hello)):
            frame = self._out.popleft()
            self._has_left = isinstance(frame, wire.Bye)
            return frame.text()
        if self.welcome is None:
            return None
        if self._has_news:
            self._has_news = False
            return self._facts.inventory.text()
        if now >= self._beat_at:
            self._beat_at = now + self._limits.heartbeat_s
            return self._heartbeat().text()
        return self._next_of_an_attempt()

    def _heartbeat(self) -> wire.AgentHeartbeat:
        self._beats += 1
        running = [wire.Running(job=held.job, lease=held.lease) for held in self.held if not held.log.has_ended]
        return wire.AgentHeartbeat(n=self._beats, slots_free=self._facts.slots_free, jobs=running, gpu=list(self._facts.loads))

    def _next_of_an_attempt(self) -> str | None:
        """Take turns, so that a long replay keeps nobody waiting."""
        everyone = self.held
        for n in range(len(everyone)):
            held = everyone[(self._turn + n) % len(everyone)]
            if held.may_send(self._limits):
                self._turn += n + 1
                return self._chunk(held)
            if held.is_open and held.log.has_ended and held.is_sent and not held.end_sent:
                held.end_sent = True
                self._turn += n + 1
                return self._end(held).text()
        return None

    def _chunk(self, held: Held) -> str:
        event = decode(held.log.lines[held.first + held.sent])
        assert isinstance(event, Text | Beat)
        text = wire.chunk_of(held.job, held.lease, event, held.delivered).text()
        held.sent += 1
        held.unacked.append(len(text))
        held.unacked_bytes += len(text)
        return text

    def _end(self, held: Held) -> wire.Frame:
        end = decode(held.log.lines[-1])
        if isinstance(end, Fail):
            return _failed(held, end)
        assert isinstance(end, End)
        if end.reason is EndReason.CANCELED:  # not at the platform's wish: nobody read it for too long
            why = "the agent had no connection for too long"
            return wire.Fail(job=held.job, lease=held.lease, seq=held.produced, code="timed_out", status=504, detail=why)
        usage = wire.RuntimeUsage(prompt_eval_count=end.usage.prompt_tokens, eval_count=end.usage.completion_tokens)
        content, thinking = _said(held.log)
        return wire.End(
            job=held.job, lease=held.lease, total=held.produced, usage=usage, reason="length" if end.reason is EndReason.LENGTH else "stop",
            receipt=self._sign(held, end, content, thinking),
        )  # fmt: skip


def _failed(held: Held, fail: Fail) -> wire.Fail:
    code = FAIL_CODES.get(fail.status, "runtime_status" if fail.status >= 400 else "internal")
    if fail.status >= 500 and "memory" in fail.detail:
        code = "out_of_memory"
    return wire.Fail(
        job=held.job, lease=held.lease, seq=held.produced, code="bad_request" if fail.is_request_fault else code, status=fail.status,
        detail=fail.detail[:500].encode(errors="replace").decode(), retryable=not fail.is_request_fault,
    )  # fmt: skip


def _said(log: Log) -> tuple[str, str]:
    """Join all content, and all thinking, of an answer; what earlier attempts delivered is part of it."""
    events = [event for line in log.lines if isinstance(event := decode(line), Text)]
    return "".join(event.content for event in events), "".join(event.thinking for event in events)
