"""Starts an agent on this machine: enroll, check, find the runtime, run, show how it is."""

import asyncio
import ctypes
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO, cast
from urllib.parse import urlsplit

import aiohttp

from cluster import logs
from cluster.free_memory import LOOPBACK
from cluster.gpus import gpus_of
from provider_join.agent import doctor, runtime
from provider_join.agent.agent import Agent
from provider_join.agent.control import Control
from provider_join.agent.enroll import Platform
from provider_join.agent.home import AgentHome, Enrollment
from provider_join.agent.keys import AgentKey
from provider_join.agent.log_file import LogFile, journal
from provider_join.agent.runtime import EmbeddedRuntime, SharedRuntime
from provider_join.agent.sharing import HOTTEST_C, Wishes, read_schedule
from provider_join.agent.telling import live_line, reasons, state_of
from provider_join.errors import EnrollRefused, JoinError, NotFit

START = "GFE_AGENT_START"  # from the command line to the process that it becomes
SHOW_S = 1.0
TRIM_S = 60.0
ASK_PLATFORM_S = 60.0  # how often the live line asks what was earned
LINE_START = "\r\x1b[2K"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What was asked for on the command line, checked there."""

    code: str | None = None
    url: str | None = None
    label: str | None = None
    share: str = ""
    schedule: str = ""
    models: tuple[str, ...] = ()
    hottest_c: int = HOTTEST_C
    minds_battery: bool = True
    minds_others: bool = True

    @property
    def wishes(self) -> Wishes:
        """What the owner wishes.

        Raises:
            BadWish: The schedule cannot be read.
        """
        return Wishes(
            schedule=read_schedule(self.schedule), hottest_c=self.hottest_c, minds_battery=self.minds_battery, minds_others=self.minds_others,
            models=self.models,
        )  # fmt: skip

    @classmethod
    def read(cls, text: str) -> "Start":
        """Read what `become` wrote."""
        said = json.loads(text)
        return cls(**said | {"models": tuple(said["models"])})


def say(text: str) -> None:
    """Tell a person something."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


@contextmanager
def the_only_one(home: AgentHome) -> Iterator[None]:
    """Keep a second agent out of this home.

    Raises:
        NotFit: One runs already.
    """
    with home.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            raise NotFit("an agent runs here already", "`gfe agent status` shows it; GFE_AGENT_HOME names another folder") from held
        yield


def run(home: AgentHome, start: Start) -> None:
    """Run the agent of this home until it is told to stop.

    Raises:
        JoinError: It cannot, or not any more.
    """
    home.make()
    with the_only_one(home):
        logs.configure("agent", into=cast("TextIO", LogFile(home.log, journal())))
        asyncio.run(_run(home, start))


async def _run(home: AgentHome, start: Start) -> None:
    wishes, enrollment = start.wishes, await _enrolled(home, start)
    key = AgentKey.read(home.key)
    url = runtime.find(os.environ)
    doctor.check(url, say)
    embedded = None
    if url is None:
        say("starting the embedded runtime")
        embedded = EmbeddedRuntime(home.models, home.root / "runtime.log")
        url = await embedded.start()
    try:
        agent = Agent(
            home, enrollment, key, SharedRuntime(url, wishes.models, start.share), gpus_of(os.environ.get("GFE_SIMULATED_GPUS")),
            wishes=wishes, is_runtime_gone=lambda: embedded is not None and embedded.has_ended,
        )  # fmt: skip
        agent.handle_signals()
        await _show_while(agent, home)
    finally:
        if embedded:
            await embedded.stop()


async def _enrolled(home: AgentHome, start: Start) -> Enrollment:
    """Enroll with the code, or answer what an earlier start did.

    Raises:
        EnrollRefused: There is no code and no earlier enrollment, or the platform does not take it.
    """
    known = home.enrollment()
    if start.code is None:
        if known is None:
            raise EnrollRefused(
                "this machine is not a node yet", "make a code in the console, then: gfe agent --url https://… --code gfe_enroll_…"
            )
        return known
    url = start.url or (known.url if known else None)
    if url is None:
        raise EnrollRefused("which platform is not said", "name the address of its console: gfe agent --url https://… --code …")
    async with aiohttp.ClientSession(trust_env=urlsplit(url).hostname not in LOOPBACK) as http:
        enrollment = await Platform(url, http).enroll(home, start.code, start.label)
    if known is None or known.node != enrollment.node or known.code != enrollment.code:
        say(f"this machine is {enrollment.node} of {enrollment.url}; its key is in {home.key}")
    return enrollment


async def _show_while(agent: Agent, home: AgentHome) -> None:
    """Run it, answer on the control socket, and show how it is."""
    control = Control(home.socket, lambda what: _answer(agent, home, what))
    await control.start()
    beside = [asyncio.create_task(_show(agent)), asyncio.create_task(_give_memory_back())]
    try:
        await agent.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await control.aclose()
        if sys.stderr.isatty():
            sys.stderr.write(LINE_START)


async def _answer(agent: Agent, home: AgentHome, what: str) -> Mapping[str, Any]:
    match what:
        case "status":
            return {**state_of(agent), "says": await agent.about_me()}
        case "why":
            return {"reasons": reasons(state_of(agent), await agent.about_me())}
        case "pause" | "resume":
            set_wish(home, is_paused=what == "pause")
            await agent.look_at_owner()
            return {"paused": agent.paused}
        case "stop":
            agent.stop()
            return {"leaving": True}
    return {"error": "unknown"}


def set_wish(home: AgentHome, *, is_paused: bool) -> None:
    """Keep the owner's wish, over restarts too."""
    home.make()
    if is_paused:
        home.paused.touch(mode=0o600)
    else:
        home.paused.unlink(missing_ok=True)


async def _give_memory_back() -> None:
    """Give back what the start and each busy time left: the C library keeps it otherwise (glibc, malloc_trim(3))."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    while True:
        await asyncio.sleep(TRIM_S / 10)
        trim(0)
        await asyncio.sleep(TRIM_S)


async def _show(agent: Agent) -> None:
    """Show a live line on a terminal, and elsewhere a line whenever something changed."""
    is_live, told, earned, asked_at = sys.stderr.isatty(), "", None, float("-inf")
    loop = asyncio.get_running_loop()
    while True:
        state = state_of(agent)
        if is_live:
            if state["connected"] and loop.time() - asked_at > ASK_PLATFORM_S:
                asked_at = loop.time()
                earned = _earned(await agent.about_me())
            width = shutil.get_terminal_size().columns
            sys.stderr.write(LINE_START + live_line(state, earned)[: width - 1])
            sys.stderr.flush()
        else:
            line = _changes(state)
            if line != told:
                told = line
                say(line)
        await asyncio.sleep(SHOW_S)


def _earned(said: Mapping[str, Any] | None) -> str | None:
    earned = (said or {}).get("earned_today")
    return None if earned is None else str(earned)


def _changes(state: Mapping[str, Any]) -> str:
    """What a log's reader wants to know of the state, without what changes all the time."""
    where = "connected" if state["connected"] else f"not connected: {state['problem'] or 'connecting'}"
    if state["paused"]:
        return f"{where}; paused: {state['paused']}"
    if not state["healthy"]:
        return f"{where}; {state['reason']}"
    return f"{where}; shares {state['slots']} slots of {', '.join(state['models']) or 'no model'}"


def run_or_refuse(home: AgentHome, start: Start) -> None:
    """Run; what goes wrong is one sentence and what to do about it, and the exit code says whether to start again."""
    try:
        with suppress(KeyboardInterrupt):
            run(home, start)
    except JoinError as failed:
        sys.stderr.write(f"error: {failed.what}\n\nhint: {failed.hint}\n")
        sys.exit(failed.exit_code)
