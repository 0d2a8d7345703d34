"""What a part of an installation is: a child process, what must be ready before it, and how one sees that it is ready itself."""

import asyncio
import contextlib
import http.client
import json
import signal
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path

Gate = Callable[[], Awaitable[str | None]]  # None: ready; else why not

GATE_LIMIT_S = 3.0
PATIENCE_S = 7200.0
TELL_EVERY_S = 5.0
GATE_READ_BYTES = 4096
GATE_WORDS = 300


class State(StrEnum):
    """Where a part stands."""

    WAITING = "waiting"  # for the parts before it
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"  # it runs, but its gate says no
    RESTARTING = "restarting"
    DONE = "done"  # a step that has been taken
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: how to start it, what it needs, when it counts as ready, how it is stopped."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    gate: Gate | None = None  # None: a step, ready when it has ended with 0
    alive: Gate | None = None  # yes, though its gate says no: what is missing is elsewhere, and a restart of this part brings nothing
    after: tuple[str, ...] = ()
    restarts_with: tuple[str, ...] = ()  # when one of these starts anew, so does this
    limit_s: float = 60  # to become ready
    is_patient: bool = False  # its gate's words are progress, shown to people, and as long as they change the limit begins anew
    tries: int = 2  # at the first start; later a part is restarted for ever
    unhealthy_limit_s: float = 120  # then it is restarted
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 3
    name_taken: Path | None = None  # a Unix socket's name that a newer process takes over when it serves: then two may run at a time

    @property
    def is_step(self) -> bool:
        """Tell whether it runs once and ends."""
        return self.gate is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """What is known of a part now."""

    name: str
    state: State
    pid: int | None = None
    start: int | None = None  # the process's start time, in the kernel's ticks
    restarts: int = 0
    since: float = 0.0  # Unix time of the last change of state
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One line for people: what happened to a part."""

    part: str
    state: State
    took_s: float | None = None
    detail: str = ""


class Patience:
    """How long one waits for a part: its limit; a patient one's begins anew whenever its gate says something new, but not for ever."""

    def __init__(self, part: Part, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._limit_s, self._is_patient = clock, part.limit_s, part.is_patient
        self._began = self._changed = clock()
        self._heard, self._told, self._told_at = "", "", self._began

    def is_over(self) -> bool:
        """Tell whether one has waited long enough."""
        now = self._clock()
        return now - self._changed >= self._limit_s or (self._is_patient and now - self._began >= PATIENCE_S)

    def hear(self, why: str) -> bool:
        """Take why it is not ready yet; tell whether people should hear it."""
        if not self._is_patient:
            return False
        now = self._clock()
        if why != self._heard:
            self._heard, self._changed = why, now
        if why == self._told or now - self._told_at < TELL_EVERY_S:
            return False
        self._told, self._told_at = why, now
        return True


@dataclass(frozen=True, slots=True)
class Order:
    """The parts in levels: each needs only parts of earlier levels."""

    levels: tuple[tuple[Part, ...], ...] = field(default=())


class UnknownPart(Exception):
    """A part waits for one that does not exist, or for itself."""


def in_order(parts: Sequence[Part]) -> Order:
    """Sort the parts into levels.

    Raises:
        UnknownPart: A part waits for one that is not there, or two wait for each other.
    """
    levels: list[tuple[Part, ...]] = []
    placed: set[str] = set()
    left = list(parts)
    while left:
        level = tuple(part for part in left if placed.issuperset(part.after))
        if not level:
            raise UnknownPart(", ".join(part.name for part in left))
        levels.append(level)
        placed.update(part.name for part in level)
        left = [part for part in left if part not in level]
    return Order(tuple(levels))


def backoff_s(failures: int) -> float:
    """Choose the wait before the next start after so many failures in a row: 0.5, 1, 2 … at most 10 s."""
    return float(min(10.0, 0.5 * 2 ** min(failures, 10)))


def http_gate(url: str, *others: str) -> Gate:
    """Make a gate that is ready when every URL answers 200."""

    async def ask() -> str | None:
        for each in (url, *others):
            if (why := await asyncio.to_thread(_why_not, each)) is not None:
                return why
        return None

    return ask


def runtime_gate(url: str) -> Gate:
    """Make a gate that is ready when the embedded runtime has a model; it tells how far the first one is."""

    async def ask() -> str | None:
        why, text = await asyncio.to_thread(_asked, f"{url}/api/version")
        if why is not None:
            return why
        with contextlib.suppress(ValueError, AttributeError):
            problem = json.loads(text).get("gfe_problem")
            return None if problem is None else str(problem)
        return f"{url} is no embedded runtime"

    return ask


def _why_not(url: str) -> str | None:
    """Ask once; None when the answer is 200."""
    return _asked(url)[0]


def _asked(url: str) -> tuple[str | None, str]:
    """Ask once; answer why the answer is not 200, None when it is, and its body."""
    parsed = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parsed.hostname or "127.0.0.1", parsed.port, timeout=GATE_LIMIT_S)
    try:
        connection.request("GET", parsed.path or "/")
        answer = connection.getresponse()
        text = answer.read(GATE_READ_BYTES).decode(errors="replace")
        return None if answer.status == HTTPStatus.OK else f"{url} answers {answer.status}: {text[:GATE_WORDS]}", text
    except (OSError, http.client.HTTPException) as refused:
        return f"{url}: {refused}", ""
    finally:
        connection.close()


def postgres_gate(url: str) -> Gate:
    """Make a gate that is ready when the server lets a login in."""

    def ask() -> str | None:
        import psycopg  # noqa: PLC0415 - only the embedded server needs it here

        try:
            psycopg.connect(url, connect_timeout=2, dbname="postgres").close()
        except psycopg.OperationalError as refused:
            return str(refused).strip().splitlines()[-1]
        return None

    async def gate() -> str | None:
        return await asyncio.to_thread(ask)

    return gate
