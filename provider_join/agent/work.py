"""The attempts of an agent: offers become attempts of the worker, their logs go to the session, their ends to the disk until they are acknowledged."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from cluster.attempt_log import decode
from cluster.edge import protocol as wire
from cluster.errors import AttemptSuperseded, NodeBusy
from cluster.jobs import End, EndReason, Event, Fail, Text
from cluster.limits import Limits
from cluster.running import Running
from cluster.worker import Worker
from provider_join.agent.asking import attempt_of
from provider_join.agent.outbox import Outbox
from provider_join.agent.session import Admit, AgentSession, Effect, Forget, Held, Renewed, Stop, Told

log = structlog.get_logger()
SPEED_S = 10.0  # over which tokens per second are told
RETRY_BUSY_S = 1.0
MAX_HELD = wire.MAX_RESUMED
NOT_HERE = ("no_model", "another", "no_room")  # how the worker's refusals for want of a model begin


@dataclass(slots=True)
class Tally:
    """What this run of the agent did."""

    done: int = 0
    failed: int = 0
    tokens: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))

    def heard(self, event: Event, now: float) -> None:
        """An attempt said something."""
        match event:
            case Text():
                self.tokens += event.tokens
                self.recent.append((now, event.tokens))
            case End() if event.reason is not EndReason.CANCELED:
                self.done += 1
            case Fail():
                self.failed += 1
            case _:
                pass

    def per_s(self, now: float) -> float:
        """Tokens per second of late."""
        while self.recent and now - self.recent[0][0] > SPEED_S:
            self.recent.popleft()
        return sum(count for _, count in self.recent) / SPEED_S


class Work:
    """Does what the session asks for. `wake` says that there may be something to send."""

    def __init__(self, worker: Worker, session: AgentSession, outbox: Outbox, limits: Limits, wake: Callable[[], None]) -> None:
        self._worker, self._session, self._outbox, self._limits, self._wake = worker, session, outbox, limits, wake
        self.tally = Tally()
        self._reading: set[Running] = set()
        self._following: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Take up what an earlier run of the agent left."""
        for held in self._outbox.read():
            self._session.keep(held)

    def forget_old(self) -> None:
        """Let go of ends that nobody asked for in time."""
        for job, lease in self._outbox.forget_old():
            self._session.forget(job, lease)

    async def aclose(self) -> None:
        """Keep on disk what ended and is not acknowledged; the worker has stopped."""
        for held in self._session.held:
            if held.log.has_ended:
                self._outbox.put(held)
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    # --- what the platform wants -----------------------------------------------------------------------------------------------------

    def do(self, effect: Effect) -> None:
        """Do what follows from a frame."""
        match effect:
            case Admit(offer):
                self._admit(offer)
            case Stop(job, lease):
                self._worker.cancel(job, lease)
            case Forget(job, lease):
                self._outbox.remove(job, lease)
            case Renewed(expires_in_s):
                log.info("token_renewed", good_for_s=expires_in_s)
            case Told(what):
                log.warning("platform_says", what=what)
        self._hold_back()

    def _admit(self, offer: wire.Offer) -> None:
        if len(self._session.held) >= MAX_HELD:
            self._session.reject(offer, "busy", RETRY_BUSY_S)
            return
        try:
            running = self._worker.admit(attempt_of(offer, self._worker.node.id))
        except NodeBusy as busy:
            self._session.reject(offer, _word_for(busy.reason), RETRY_BUSY_S)
            return
        except (AttemptSuperseded, ValueError) as wrong:
            log.warning("offer_refused", job=offer.job, lease=offer.lease, error=type(wrong).__name__)
            self._session.reject(offer, "internal")
            return
        delivered = len(running.attempt.delivered)
        held = Held(job=offer.job, lease=offer.lease, delivered=delivered, model_digest=offer.model_digest, log=running.log)
        self._session.accept(held)
        self._read(running)
        task = asyncio.create_task(self._follow(held, running))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _follow(self, held: Held, running: Running) -> None:
        """Wake the sender whenever the log grew; keep its end on disk until the platform has it."""
        seq = held.first
        while not running.log.has_ended:
            _, now_at, _ = await running.lines_from(seq)
            for line in running.log.lines[seq:now_at]:
                self.tally.heard(decode(line), time.monotonic())
            seq = now_at
            self._wake()
            self._hold_back()
        if self._session.find(held.job, held.lease):
            self._outbox.put(held)
            self._wake()

    # --- readers ---------------------------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """There is a connection: somebody reads what runs."""
        for held in self._session.held:
            if running := self._live(held):
                self._read(running)

    def disconnected(self) -> None:
        """From when the platform was heard last, running attempts have 15 s: then nobody reads them, and they end (their lease is over)."""
        for running in self._reading:
            running.log.closed(self._session.heard_at)
            running.hold_back(holds=False)
            running.look(time.monotonic(), self._limits)  # a machine that slept is too late at once, however fast it connects again
        self._reading.clear()

    def _read(self, running: Running) -> None:
        if running not in self._reading:
            self._reading.add(running)
            running.log.opened()

    def _hold_back(self) -> None:
        """Let the runtime wait for the platform, attempt by attempt."""
        for held in self._session.held:
            if running := self._live(held):
                running.hold_back(holds=self._session.is_behind(held))

    def _live(self, held: Held) -> Running | None:
        try:
            running = self._worker.find(held.job, held.lease)
        except AttemptSuperseded:
            return None
        return running if running and not running.log.has_ended else None


def _word_for(reason: str) -> str:
    """Say the worker's refusal in the protocol's words."""
    if reason in {"busy", "draining"}:
        return reason
    return "no_model" if reason.startswith(NOT_HERE) else "internal"
