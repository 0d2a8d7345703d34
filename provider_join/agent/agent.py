"""The agent of one machine: runs the platform's jobs on its own runtime, over one outbound connection.

worker (slots, attempts, their logs) ── work ── session (what to say next) ── connection ──▶ edge gateway
                                         └── outbox (ends on disk)      sharing (when the owner comes first)
"""

import asyncio
import random
import signal
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from cluster.edge import protocol as wire
from cluster.free_memory import LOOPBACK, free_bytes
from cluster.gpus import GpuReader
from cluster.limits import LIMITS, Limits
from cluster.worker import Care, Worker
from provider_join.agent.access import Tokens
from provider_join.agent.connection import Connection
from provider_join.agent.enroll import Platform, agent_version
from provider_join.agent.home import AgentHome, Enrollment
from provider_join.agent.inventory import facts_of, machine_memory
from provider_join.agent.keys import AgentKey
from provider_join.agent.outbox import Outbox
from provider_join.agent.reconnect import Again, Ended, GiveUp, Reconnect
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.session import AgentSession
from provider_join.agent.sharing import Sharing, Wishes
from provider_join.agent.watching import Watcher
from provider_join.agent.work import Tally, Work
from provider_join.errors import AgentRefused, AgentTooOld, JoinError, PlatformUnreachable, StartFailed

log = structlog.get_logger()
LOOK_S = 1.0
OWNER_LOOK_S = 3.0  # at what the owner does with the machine
INVENTORY_S = 30.0
DRAIN_LIMIT_S = 60.0
LAST_WORDS_S = 5.0  # to have ends acknowledged before the process ends
STEP_S = 0.05


class Agent:
    """One node, from its start to its end."""

    def __init__(
        self, home: AgentHome, enrollment: Enrollment, key: AgentKey, runtime: SharedRuntime, gpus: GpuReader, *, wishes: Wishes | None = None,
        watcher: Watcher | None = None, limits: Limits | None = None, rng: random.Random | None = None,
        is_runtime_gone: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.home, self.enrollment, self._key = home, enrollment, key
        limits = limits or replace(LIMITS, inventory_s=INVENTORY_S)
        self.worker = Worker(enrollment.node, enrollment.node, runtime, gpus, limits=limits, care=Care(free_memory=free_bytes))
        self.session = AgentSession(
            boot_id=uuid.uuid4().hex, agent_version=agent_version(), sign=partial(key.receipt, enrollment.node),
            facts=facts_of(self.worker.node, "starting", ram_bytes=machine_memory()),
        )  # fmt: skip
        self._work = Work(self.worker, self.session, Outbox(home.outbox), limits, self._wake)
        self._connection = Connection(self.session, self._work.do)
        self._sharing = Sharing(wishes or Wishes())
        self._watcher = watcher or Watcher(minds_others=self._sharing.wishes.minds_others)
        self._reconnect = Reconnect(rng or random.Random())
        self._is_runtime_gone = is_runtime_gone
        self._platform: Platform | None = None
        self._tokens: Tokens | None = None
        self._noted: tuple[object, str] = (None, "")
        self._leave_now = asyncio.Event()
        self._stop_reason = ""
        self._ended: JoinError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.paused = ""
        self.is_leaving = False
        self.connected_at: float | None = None
        self.next_try_at: float | None = None
        self.last_problem = ""

    @property
    def tally(self) -> Tally:
        """What this run did."""
        return self._work.tally

    def _wake(self) -> None:
        self._connection.wake()

    # --- life --------------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            AgentRefused: The platform wants this node no more, or its key is used elsewhere.
            AgentTooOld: It speaks newer versions only.
            StartFailed: The embedded runtime ended.
        """
        self._work.restore()
        is_near = urlsplit(self.enrollment.url).hostname in LOOPBACK
        async with aiohttp.ClientSession(trust_env=not is_near) as http:
            self._platform = Platform(self.enrollment.url, http)
            self._tokens = Tokens(self._platform, self.enrollment.node, self._key)
            await self.worker.start()
            looking = asyncio.create_task(self._look_for_ever())
            try:
                await self._stay_connected(http, self._tokens)
            finally:
                for task in (looking, *self._tasks):
                    task.cancel()
                await asyncio.gather(looking, *self._tasks, return_exceptions=True)
                await self.worker.aclose()
                await self._work.aclose()
        if self._ended:
            raise self._ended

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT stop the agent."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

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
        self._say(wire.Drain(reason=self._stop_reason, deadline_s=DRAIN_LIMIT_S))
        await self._until(lambda: not self.worker.node.running, DRAIN_LIMIT_S)
        await self._until(lambda: not self.session.held or not self.session.is_connected, LAST_WORDS_S)
        self._say(wire.Bye(reason=self._stop_reason))
        await self._until(lambda: not self.session.has_words, LAST_WORDS_S)
        await self._cut()

    async def _cut(self, why: JoinError | None = None) -> None:
        """End now."""
        self._ended = self._ended or why
        self._leave_now.set()
        await self._connection.leave()

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not is_so() and not self._leave_now.is_set() and time.monotonic() < until:
            await self._rest(STEP_S)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not when the agent is to leave."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leave_now.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, frame: wire.Frame) -> None:
        self.session.say(frame)
        self._wake()

    # --- the connection ----------------------------------------------------------------------------------------------------------------

    async def _stay_connected(self, http: aiohttp.ClientSession, tokens: Tokens) -> None:
        while not self._leave_now.is_set():
            ended = await self._connect_once(http, tokens)
            if ended is None or self._leave_now.is_set():
                return
            verdict = self._reconnect.after(ended, time.monotonic())
            if isinstance(verdict, GiveUp):
                kind = AgentTooOld if verdict.exit_code == AgentTooOld.exit_code else AgentRefused
                self._ended = kind(verdict.what, verdict.hint)
                return
            if verdict.renews:
                tokens.drop()
            await self._wait(verdict)

    async def _wait(self, again: Again) -> None:
        self.next_try_at = time.monotonic() + again.wait_s
        log.info("connects_again", in_s=round(again.wait_s, 1))
        await self._rest(again.wait_s)
        self.next_try_at = None

    async def _connect_once(self, http: aiohttp.ClientSession, tokens: Tokens) -> Ended | None:
        """Connect, and stay until the connection ends; None: this node is not wanted any more."""
        url = self.enrollment.ws_url
        try:
            access = await tokens.good()
        except AgentRefused as refused:
            self._ended = refused
            return None
        except PlatformUnreachable as unreachable:
            self._problem(str(unreachable))
            return Ended(retry_after_s=unreachable.retry_after_s)
        try:
            ended = await self._connection.run(http, url, access.token, access.expires_in_s, self._opened)
        finally:
            self.connected_at = None
            self._work.disconnected()
        if ended.status is not None:
            self._problem(f"the edge gateway refuses the connection ({ended.status})")
        elif ended.lasted_s == 0.0:
            self._problem(f"the edge gateway at {url} does not answer")
        else:
            self._problem(f"the connection ended ({ended.code})")
        return replace(ended, is_at_work=self.worker.node.running > 0)

    def _opened(self) -> None:
        self.connected_at, self.last_problem = time.monotonic(), ""
        log.info("connected", url=self.enrollment.ws_url)
        self._work.connected()

    def _problem(self, what: str) -> None:
        if not self.is_leaving:
            self.last_problem = what
            log.warning("not_connected", why=what)

    async def _renew(self, tokens: Tokens) -> None:
        try:
            access = await tokens.fresh()
        except AgentRefused as refused:
            await self._cut(refused)
        except PlatformUnreachable as unreachable:
            log.warning("token_not_renewed", why=str(unreachable))
        else:
            self._say(wire.Auth(token=access.token))

    async def about_me(self) -> Mapping[str, Any] | None:
        """Ask what the platform says of this node; None where it does not tell, or not now."""
        if self._platform is None or self._tokens is None:
            return None
        with suppress(JoinError):
            return await self._platform.status((await self._tokens.good()).token)
        return None

    # --- the machine -----------------------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        owner_at = outbox_at = 0.0
        while True:
            now = time.monotonic()
            try:
                if now >= owner_at:
                    owner_at = now + OWNER_LOOK_S
                    await self.look_at_owner()
                if now >= outbox_at:
                    outbox_at = now + INVENTORY_S
                    self._work.forget_old()
                self._note_facts()
                if self._tokens and self.session.wants_token(now):
                    self._spawn(self._renew(self._tokens))
                if self._is_runtime_gone():
                    hint = f"see {self.home.root / 'runtime.log'}; `gfe agent` starts both again"
                    await self._cut(StartFailed("the embedded runtime ended", hint))
            except Exception:
                log.exception("look_failed")
            await asyncio.sleep(LOOK_S)

    async def look_at_owner(self) -> None:
        """See whether the owner wants the machine for himself now: then no new jobs are taken, and what runs is finished."""
        node = self.worker.node
        seen = await asyncio.to_thread(self._watcher.look, node.gpus, jobs=node.running, is_paused=self.home.paused.exists())
        why = self._sharing.look(seen, time.monotonic())
        if why == self.paused:
            return
        log.info("paused" if why else "shares", why=why)
        self.paused = why
        if not self.is_leaving:
            (self.worker.drain if why else self.worker.resume)(node.id)
        self._note_facts()

    def _note_facts(self) -> None:
        """Tell the session how the machine is, when that changed."""
        node, why = self.worker.node, self.paused or (self._stop_reason if self.is_leaving else "")
        if self._noted[0] is node and self._noted[1] == why:
            return
        self._noted = (node, why)
        self.session.note(facts_of(node, why, ram_bytes=machine_memory()))
        self._wake()
