"""The agent of one machine: runs the platform's jobs on its own runtime, over one outbound connection.

worker (slots, attempts, their logs) ── session (what to say next) ── connection ──▶ edge gateway
                                    └── outbox (ends on disk)       sharing (when the owner comes first)
"""

import asyncio
import random
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from cluster.attempt_log import decode
from cluster.edge import protocol as wire
from cluster.errors import AttemptSuperseded, NodeBusy
from cluster.free_memory import LOOPBACK, free_bytes
from cluster.gpus import GpuReader
from cluster.jobs import End, EndReason, Event, Fail, Text
from cluster.limits import LIMITS, Limits
from cluster.running import Running
from cluster.worker import Care, Worker
from provider_join.agent.asking import attempt_of
from provider_join.agent.connection import Connection
from provider_join.agent.enroll import Access, Platform, agent_version
from provider_join.agent.home import AgentHome, Enrollment
from provider_join.agent.inventory import facts_of, machine_memory
from provider_join.agent.keys import AgentKey
from provider_join.agent.outbox import Outbox
from provider_join.agent.reconnect import Again, Ended, GiveUp, Reconnect
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.session import Admit, AgentSession, Effect, Forget, Held, Renewed, Stop, Told
from provider_join.agent.sharing import Sharing, Wishes
from provider_join.agent.watching import Watcher
from provider_join.errors import AgentRefused, AgentTooOld, JoinError, PlatformUnreachable, StartFailed

log = structlog.get_logger()
LOOK_S = 1.0
OWNER_LOOK_S = 3.0  # at what the owner does with the machine
INVENTORY_S = 30.0
DRAIN_LIMIT_S = 60.0
LAST_WORDS_S = 5.0  # to have ends acknowledged before the process ends
SPEED_S = 10.0  # over which tokens per second are told
REFUSALS = {"busy": "busy", "draining": "draining"}
RETRY_BUSY_S = 1.0
MAX_HELD = wire.MAX_RESUMED


@dataclass(slots=True)
class Tally:
    """What this run of the agent did."""

    done: int = 0
    failed: int = 0
    tokens: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))

    def said(self, tokens: int, now: float) -> None:
        """The model said something."""
        self.tokens += tokens
        self.recent.append((now, tokens))

    def per_s(self, now: float) -> float:
        """Tokens per second of late."""
        while self.recent and now - self.recent[0][0] > SPEED_S:
            self.recent.popleft()
        return sum(count for _, count in self.recent) / SPEED_S


class Agent:
    """One node, from its start to its end."""

    def __init__(
        self, home: AgentHome, enrollment: Enrollment, key: AgentKey, runtime: SharedRuntime, gpus: GpuReader, *, wishes: Wishes | None = None,
        watcher: Watcher | None = None, limits: Limits | None = None, rng: random.Random | None = None, name: str = "",
        is_runtime_gone: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        self.home, self.enrollment, self._key = home, enrollment, key
        self._limits = limits or replace(LIMITS, inventory_s=INVENTORY_S)
        care = Care(free_memory=free_bytes)
        self.worker = Worker(enrollment.node, name or enrollment.node, runtime, gpus, limits=self._limits, care=care)
        self.outbox = Outbox(home.outbox)
        self.sharing = Sharing(wishes or Wishes())
        self.tally = Tally()
        self._watcher = watcher or Watcher(minds_others=self.sharing.wishes.minds_others)
        self._reconnect = Reconnect(rng or random.Random())
        self._ram_bytes = machine_memory()
        self._is_runtime_gone = is_runtime_gone or (lambda: False)
        self.paused = ""
        self._noted: tuple[object, str] = (None, "")
        self.is_leaving = False
        self._leave_now = asyncio.Event()
        self._stop_reason = ""
        self._ended: JoinError | None = None
        self._access: Access | None = None
        self._access_at = 0.0
        self._renews = False
        self.connected_at: float | None = None
        self.next_try_at: float | None = None
        self.last_problem = ""
        self._reading: set[Running] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.session = AgentSession(
            boot_id=uuid.uuid4().hex, agent_version=agent_version(), sign=partial(key.receipt, enrollment.node),
            facts=facts_of(self.worker.node, "starting", ram_bytes=self._ram_bytes),
        )  # fmt: skip

    # --- life --------------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            AgentRefused: The platform wants this node no more, or its key is used elsewhere.
            AgentTooOld: It speaks newer versions only.
        """
        for held in self.outbox.read():
            self.session.keep(held)
        is_near = urlsplit(self.enrollment.url).hostname in LOOPBACK
        async with aiohttp.ClientSession(trust_env=not is_near) as http:
            self.platform = Platform(self.enrollment.url, http)
            self._connection = Connection(http, self.session, self._do)
            await self.worker.start()
            looking = asyncio.create_task(self._look_for_ever())
            try:
                await self._stay_connected()
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                await self.worker.aclose()
                for held in self.session.held:
                    if held.log.has_ended:
                        self.outbox.put(held)
                for task in tuple(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ended:
            raise self._ended

    def stop(self, reason: str = "stopped by its owner") -> None:
        """Finish what runs, then leave; a second time: leave at once."""
        if self.is_leaving:
            self._leave_now.set()
            return
        self.is_leaving, self._stop_reason = True, reason
        self._spawn(self._leave())

    async def _leave(self) -> None:
        self.worker.drain(self.worker.node.id)
        self._note_facts()
        self.session.say(self._drain())
        self._connection.wake()
        await self._until(lambda: not self.worker.node.running, DRAIN_LIMIT_S)
        await self._until(lambda: not self.session.held or not self.session.is_connected, LAST_WORDS_S)
        self.session.say(wire.Bye(reason=self._stop_reason))
        self._connection.wake()
        await self._until(lambda: not self.session.has_words, LAST_WORDS_S)
        self._leave_now.set()
        await self._connection.leave()

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not is_so() and not self._leave_now.is_set() and time.monotonic() < until:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._leave_now.wait()

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT stop the agent."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the connection ----------------------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while not self._leave_now.is_set():
            ended = await self._connect_once()
            if ended is None or self._leave_now.is_set():
                return
            verdict = self._reconnect.after(ended, time.monotonic())
            if isinstance(verdict, GiveUp):
                kind = AgentTooOld if verdict.exit_code == AgentTooOld.exit_code else AgentRefused
                self._ended = kind(verdict.what, verdict.hint)
                return
            await self._wait(verdict)

    async def _wait(self, again: Again) -> None:
        if again.renews:
            self._access = None
        self.next_try_at = time.monotonic() + again.wait_s
        log.info("connects_again", in_s=round(again.wait_s, 1))
        with suppress(TimeoutError):
            async with asyncio.timeout(again.wait_s):
                await self._leave_now.wait()
        self.next_try_at = None

    async def _connect_once(self) -> Ended | None:
        """Connect, and stay until the connection ends; None: this node is not wanted any more."""
        try:
            access, good_for_s = await self._token()
        except AgentRefused as refused:
            self._ended = refused
            return None
        except PlatformUnreachable as unreachable:
            self._problem(str(unreachable))
            return Ended(retry_after_s=unreachable.retry_after_s)
        try:
            ended = await self._connection.run(self.enrollment.ws_url, access.token, good_for_s, self._opened)
        finally:
            self._closed()
        if ended.status is not None:
            self._problem(f"the edge gateway refuses the connection ({ended.status})")
        elif ended.lasted_s == 0.0:
            self._problem(f"the edge gateway at {self.enrollment.ws_url} does not answer")
        else:
            self._problem(f"the connection ended ({ended.code})")
        return replace(ended, is_at_work=self.worker.node.running > 0)

    def _problem(self, what: str) -> None:
        if not self.is_leaving:
            self.last_problem = what
            log.warning("not_connected", why=what)

    async def _token(self) -> tuple[Access, float]:
        """Answer a token that is good for a while: the one from before, or a fresh one."""
        now = time.monotonic()
        if self._access is not None and (left := self._access.expires_in_s - (now - self._access_at)) > wire.OFFLINE_S:
            return self._access, left
        self._access, self._access_at = await self.platform.token(self.enrollment.node, self._key), now
        return self._access, self._access.expires_in_s

    async def _renew(self) -> None:
        try:
            now = time.monotonic()
            self._access, self._access_at = await self.platform.token(self.enrollment.node, self._key), now
        except AgentRefused as refused:
            self._ended = refused
            self._leave_now.set()
            await self._connection.leave()
            return
        except PlatformUnreachable as unreachable:
            log.warning("token_not_renewed", why=str(unreachable))
            return
        self.session.say(wire.Auth(token=self._access.token))
        self._connection.wake()

    def _opened(self) -> None:
        self.connected_at = time.monotonic()
        self.last_problem = ""
        log.info("connected", url=self.enrollment.ws_url)
        for held in self.session.held:
            if (running := self._running(held)) and not running.log.has_ended:
                self._read(running)
        if self.is_leaving:
            self.session.say(self._drain())

    def _drain(self) -> wire.Drain:
        return wire.Drain(reason=self._stop_reason, deadline_s=DRAIN_LIMIT_S)

    def _closed(self) -> None:
        """From when the platform was heard last, running attempts have 15 s: then nobody reads them, and they end (the lease is over)."""
        self.connected_at = None
        for running in self._reading:
            running.log.closed(self.session.heard_at)
            running.hold_back(holds=False)
            running.look(time.monotonic(), self._limits)  # a machine that slept is too late at once, however fast it connects again
        self._reading.clear()

    def _read(self, running: Running) -> None:
        if running not in self._reading:
            self._reading.add(running)
            running.log.opened()

    # --- what the platform wants ---------------------------------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> None:
        match effect:
            case Admit(offer):
                self._admit(offer)
            case Stop(job, lease):
                self.worker.cancel(job, lease)
            case Forget(job, lease):
                self.outbox.remove(job, lease)
            case Renewed(expires_in_s):
                log.info("token_renewed", good_for_s=expires_in_s)
            case Told(what):
                log.warning("platform_says", what=what)
        self._hold_back()

    def _admit(self, offer: wire.Offer) -> None:
        if len(self.session.held) >= MAX_HELD:
            self.session.reject(offer, "busy", RETRY_BUSY_S)
            return
        try:
            running = self.worker.admit(attempt_of(offer, self.enrollment.node))
        except NodeBusy as busy:
            reason = "no_model" if busy.reason.startswith(("no_model", "another", "no_room")) else REFUSALS.get(busy.reason, "internal")
            self.session.reject(offer, "draining" if self.paused else reason, RETRY_BUSY_S)
            return
        except (AttemptSuperseded, ValueError) as wrong:
            log.warning("offer_refused", job=offer.job, lease=offer.lease, error=type(wrong).__name__)
            self.session.reject(offer, "internal")
            return
        held = Held(
            job=offer.job, lease=offer.lease, delivered=len(running.attempt.delivered), model_digest=offer.model_digest, log=running.log
        )
        self.session.accept(held)
        self._read(running)
        self._spawn(self._follow(held, running))

    async def _follow(self, held: Held, running: Running) -> None:
        """Wake the sender whenever the log grew; keep its end on disk until the platform has it."""
        seq = held.first
        while not running.log.has_ended:
            _, now_at, _ = await running.lines_from(seq)
            for line in running.log.lines[seq:now_at]:
                self._count(decode(line))
            seq = now_at
            self._connection.wake()
            self._hold_back()
        if self.session.find(held.job, held.lease):
            self.outbox.put(held)
            self._connection.wake()

    def _count(self, event: Event) -> None:
        match event:
            case Text():
                self.tally.said(event.tokens, time.monotonic())
            case End() if event.reason is not EndReason.CANCELED:
                self.tally.done += 1
            case Fail():
                self.tally.failed += 1
            case _:
                pass

    def _hold_back(self) -> None:
        """Let the runtime wait for the platform, attempt by attempt."""
        for held in self.session.held:
            if (running := self._running(held)) and not running.log.has_ended:
                running.hold_back(holds=self.session.is_behind(held))

    def _running(self, held: Held) -> Running | None:
        try:
            return self.worker.find(held.job, held.lease)
        except AttemptSuperseded:
            return None

    # --- the machine -----------------------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        owner_at = outbox_at = 0.0
        while True:
            try:
                now = time.monotonic()
                if now >= owner_at:
                    owner_at = now + OWNER_LOOK_S
                    await self.look_at_owner()
                self._note_facts()
                if self._is_runtime_gone():
                    self._ended = StartFailed(
                        "the embedded runtime ended", f"see {self.home.root / 'runtime.log'}; `gfe agent` starts both again"
                    )
                    self._leave_now.set()
                    await self._connection.leave()
                if self.session.wants_token(now):
                    self._spawn(self._renew())
                if now >= outbox_at:
                    outbox_at = now + INVENTORY_S
                    for job, lease in self.outbox.forget_old():
                        self.session.forget(job, lease)
            except Exception:
                log.exception("look_failed")
            await asyncio.sleep(LOOK_S)

    async def look_at_owner(self) -> None:
        """See whether the owner wants the machine for himself now."""
        node = self.worker.node
        seen = await asyncio.to_thread(self._watcher.look, node.gpus, jobs=node.running, is_paused=self.home.paused.exists())
        self.set_paused(self.sharing.look(seen, time.monotonic()))

    def set_paused(self, why: str) -> None:
        """Take no jobs for this reason, or take them again; what runs is finished."""
        if why == self.paused:
            return
        log.info("paused" if why else "shares", why=why)
        self.paused = why
        if not self.is_leaving:
            (self.worker.drain if why else self.worker.resume)(self.worker.node.id)
        self._note_facts()

    def _note_facts(self) -> None:
        why = self.paused or (self._stop_reason if self.is_leaving else "")
        known, self._noted = self._noted, (self.worker.node, why)
        if known[0] is not self._noted[0] or known[1] != why:
            self.session.note(facts_of(self.worker.node, why, ram_bytes=self._ram_bytes))
            self._connection.wake()

    async def about_me(self) -> Mapping[str, Any] | None:
        """Ask what the platform says of this node; None where it does not tell, or not now."""
        with suppress(JoinError):
            access, _ = await self._token()
            return await self.platform.status(access.token)
        return None
