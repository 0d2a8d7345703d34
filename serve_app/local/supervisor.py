"""Keeps the parts of an installation running: starts them in order, watches them, restarts them with back-off, stops them in reverse.

Whoever asks can have a part started again: where two processes of it may run side by side the new one comes first, so that nobody waits.

Each part is one child process in a session of its own, with a log of its own, or with our own output where somebody else keeps that. What a part leaves behind when it dies (Ray has
grandchildren) is ended before it is started again: what was last seen below it, and what is still in its session.
"""

import asyncio
import contextlib
import time
from asyncio.subprocess import Process as Child
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cluster import processes
from serve_app.local.parts import Part, PartStatus, Patience, Progress, State, backoff_s, in_order

LOG_LIMIT_BYTES = 5 * 2**20
START_POLL_S = 0.15
WATCH_POLL_S = 2.0
TABLE_AGE_S = 1.0
SETTLED_S = 60.0  # a part that ran so long starts its back-off anew
LEFTOVERS_POLITE_S = 1.5
LEFTOVERS_LIMIT_S = 4.0
STOP_LIMIT_S = 9.0
CANCEL_AGAIN_S = 0.5


class PartFailed(Exception):
    """A part did not become ready; holds the last lines of its log."""

    def __init__(self, name: str, why: str, log: Path | None) -> None:
        super().__init__(name, why, log)
        self.name = name
        self.why = why
        self.log = log

    def __str__(self) -> str:
        """Say which part and why."""
        return f"`{self.name}` did not start: {self.why}"


class Supervisor:
    """All parts of one installation."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        logs: Path | None,
        tell: Callable[[Progress], None],
        record: Callable[[Sequence[PartStatus]], None],
    ) -> None:
        self._levels = in_order(parts).levels
        self._tell = tell
        self._record = record
        self._keepers = {
            part.name: _Keeper(part, self, None if logs is None else logs / f"{part.name}.log") for level in self._levels for part in level
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._table: dict[int, processes.Row] = {}
        self._table_at = -TABLE_AGE_S

    async def start(self) -> None:
        """Start everything; return when all parts are ready.

        Raises:
            PartFailed: A part did not become ready within its limit and tries; nothing runs any more.
        """
        keepers = self._keepers.values()
        self._tasks = [asyncio.create_task(keeper.keep(), name=keeper.part.name) for keeper in keepers]
        all_ready = asyncio.create_task(_all_set([keeper.ready for keeper in keepers]))
        try:
            await _first_of(all_ready, self._tasks)
        except BaseException:
            await self.stop()
            raise
        finally:
            all_ready.cancel()

    async def stop(self) -> None:
        """Stop everything in reverse order, within `STOP_LIMIT_S`."""
        await _end(self._tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT_S):
                for level in reversed(self._levels):
                    await asyncio.gather(*(self._keepers[part.name].stop() for part in level))

    async def restart(self, name: str) -> None:
        """Start a running part anew; return when it is ready.

        Raises:
            KeyError: There is no such part.
            PartFailed: It does not run now, or was not ready within its limit. Where the new process comes first, the old one goes on then.
        """
        await self._keepers[name].restart()

    def status(self) -> tuple[PartStatus, ...]:
        """Tell where each part stands, in order of their start."""
        return tuple(self._keepers[part.name].status for level in self._levels for part in level)

    def keeper(self, name: str) -> "_Keeper":
        """Find the keeper of a part."""
        return self._keepers[name]

    def recent_table(self) -> dict[int, processes.Row]:
        """Read all processes, once a second at most: each part looks for what is below it, and the table has all of the machine's."""
        if time.monotonic() - self._table_at > TABLE_AGE_S:
            self._table, self._table_at = processes.table(), time.monotonic()
        return self._table

    def changed(self, progress: Progress | None = None) -> None:
        """Note that a part's status changed; tell people when there is something to tell."""
        self._record(self.status())
        if progress is not None:
            self._tell(progress)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: in Python 3.11 `wait_for` swallows a cancellation that arrives together with its result."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


class _Keeper:
    """Keeps one part running."""

    def __init__(self, part: Part, supervisor: Supervisor, log: Path | None) -> None:
        self.part = part
        self.status = PartStatus(name=part.name, state=State.WAITING, since=time.time())
        self.ready = asyncio.Event()
        self.generation = 0  # raised by each start
        self._supervisor = supervisor
        self._log = log
        self._child: Child | None = None
        self._was_ready = False  # from then on it is restarted for ever
        self._is_asked = False  # somebody wants it started again
        self._below: tuple[processes.Process, ...] = ()  # what was last seen below the child

    async def keep(self) -> None:
        """Start, watch, restart; a step ends when it is done.

        Raises:
            PartFailed: The first start used up its tries.
        """
        if self._log is not None:
            _rotate(self._log)
        failures = 0
        while True:
            await self._wait_for_parts_before()
            began = time.monotonic()
            why = await self._start()
            if why is None:
                self.ready.set()
                self._was_ready = True
                took_s = time.monotonic() - began
                self._set(State.DONE if self.part.is_step else State.RUNNING, took_s=took_s)
                if self.part.is_step:
                    return
                why = await self._watch()
                self.ready.clear()
                if time.monotonic() - began - took_s > SETTLED_S:
                    failures = 0
                if self._is_asked:
                    self._is_asked = False
                    self._set(State.RESTARTING, detail="as asked")
                    await self._end_leftovers()
                    continue
            elif not self._was_ready and self.generation >= self.part.tries:
                self._set(State.FAILED, detail=why)
                await self._end_leftovers()
                raise PartFailed(self.part.name, why, self._log)
            wait_s = backoff_s(failures)
            failures += 1
            self.status = replace(self.status, pid=None, start=None, restarts=self.status.restarts + 1)
            self._set(State.RESTARTING, detail=f"{why}; next start in {wait_s:g} s")
            await asyncio.gather(self._end_leftovers(), asyncio.sleep(wait_s))

    async def stop(self) -> None:
        """Ask the child to end, then end it and whatever is below it."""
        if self._child is not None:
            self._note_below()
            await self._ask_to_end(self._child)
        await self._end_leftovers()
        self.status = replace(self.status, pid=None, start=None)
        self._set(State.STOPPED, is_told=False)

    async def restart(self) -> None:
        """See `Supervisor.restart`."""
        old = self._child
        if old is None or self._is_asked or self.status.state not in {State.RUNNING, State.UNHEALTHY}:
            raise PartFailed(self.part.name, f"it is {self.status.state.value} now", self._log)
        if self.part.name_taken is not None:
            await self._hand_over(old, self.part.name_taken)
            return
        self._is_asked = True
        self.ready.clear()
        self._note_below()
        await self._ask_to_end(old)
        with contextlib.suppress(ProcessLookupError):
            old.kill()
        try:
            async with asyncio.timeout(self.part.limit_s + LEFTOVERS_LIMIT_S):
                await self.ready.wait()
        except TimeoutError:
            raise PartFailed(self.part.name, "it was not ready in time, and is tried again", self._log) from None

    async def _hand_over(self, old: Child, name: Path) -> None:
        """Start a new process beside the old one, and stop that when the new one has taken the socket's name and the gate says yes."""
        named, below = _identity(name), processes.descendants(old.pid)
        new = await self._spawn()
        try:
            why = await self._wait_until_ready(new, lambda: _identity(name) != named)
            if why is None and self._child is not old:
                why = "the old process ended meanwhile, and was started again"
            if why is not None:
                raise PartFailed(self.part.name, f"{why}; the old process goes on", self._log)
        except BaseException:
            await self._end_with(new, ())
            raise
        self._child = new
        self._note_below()
        await self._ask_to_end(old)
        await self._end_with(old, below)
        self._note_process(new)
        self._set(State.RUNNING, detail="handed over")

    async def _ask_to_end(self, child: Child) -> None:
        """Ask a child to end, and wait as long as it may take."""
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(self.part.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), self.part.stop_s)

    async def _wait_for_parts_before(self) -> None:
        for name in self.part.after:
            await self._supervisor.keeper(name).ready.wait()

    async def _start(self) -> str | None:
        """Start the child and wait until it is ready; answer why not."""
        self.generation += 1
        self._child = await self._spawn()
        self._note_process(self._child)
        self._set(State.STARTING, is_told=False)
        why = await self._wait_until_ready(self._child)
        if why is None:
            self._note_below()
        return why

    async def _spawn(self) -> Child:
        with contextlib.ExitStack() as opened:
            log = None if self._log is None else opened.enter_context(self._log.open("ab"))  # None: the child writes where we do
            return await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.part.environment),
                cwd="/",  # neutral: nothing of ours is imported from a working directory
                start_new_session=True,
            )

    def _note_process(self, child: Child) -> None:
        found = processes.process_of(child.pid)
        self.status = replace(self.status, pid=child.pid, start=None if found is None else found.start)

    async def _wait_until_ready(self, child: Child, has_taken_over: Callable[[], bool] = lambda: True) -> str | None:
        patience = Patience(self.part)
        why: str | None = "its gate was never asked"
        while not patience.is_over():
            if await _ended(child, START_POLL_S):
                return None if self.part.is_step and child.returncode == 0 else self._how_it_ended(child)
            if self.part.gate is not None and (why := await self.part.gate()) is None:
                if has_taken_over():
                    return None
                why = "it has not taken over"
            if why is not None and patience.hear(why):
                self._set(State.STARTING, detail=why)
        if self._was_ready and has_taken_over() and await self._is_alive():
            return None
        return f"not ready within {self.part.limit_s:g} s ({why})"

    async def _watch(self) -> str:
        """Wait until the part must be started again; answer why."""
        assert self.part.gate is not None
        others = {name: self._supervisor.keeper(name).generation for name in self.part.restarts_with}
        healthy_at = time.monotonic()
        while True:
            child = self._child
            assert child is not None
            if await _ended(child, WATCH_POLL_S):
                if child is self._child:
                    return self._how_it_ended(child)
                continue  # it has handed over
            self._note_below(self._supervisor.recent_table())
            for name, generation in others.items():
                if self._supervisor.keeper(name).generation != generation:
                    return f"`{name}` was started again"
            why = await self.part.gate()
            if why is None or await self._is_alive():
                healthy_at = time.monotonic()
            if why is None:
                if self.status.state is State.UNHEALTHY:
                    self._set(State.RUNNING, detail="answers again")
            elif child.returncode is None:
                if self.status.state is State.RUNNING:
                    self._set(State.UNHEALTHY, detail=why)
                if time.monotonic() - healthy_at > self.part.unhealthy_limit_s:
                    return f"no good answer for {self.part.unhealthy_limit_s:g} s"

    async def _is_alive(self) -> bool:
        return self.part.alive is not None and await self.part.alive() is None

    def _how_it_ended(self, child: Child) -> str:
        code = child.returncode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        lines = [] if self._log is None or (code is not None and code < 0) else _last_lines(self._log, 1)
        return f"{how}{': ' + lines[0] if lines else ''}"

    def _note_below(self, rows: dict[int, processes.Row] | None = None) -> None:
        if self._child is not None and self._child.returncode is None:
            self._below = processes.descendants(self._child.pid, rows)

    async def _end_leftovers(self) -> None:
        if self._child is not None:
            await self._end_with(self._child, self._below)
            self._below = ()

    async def _end_with(self, child: Child, below: Sequence[processes.Process]) -> None:
        """End a child, what is in its session, and what was below it."""

        def find() -> tuple[processes.Process, ...]:
            rows = processes.table()
            alive = (process for process in below if processes.is_alive(process))
            return tuple({*processes.in_session(child.pid, rows), *processes.descendants(child.pid, rows), *alive})

        await asyncio.to_thread(processes.end_all, find, polite_s=LEFTOVERS_POLITE_S, limit_s=LEFTOVERS_LIMIT_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 1)

    def _set(self, state: State, *, took_s: float | None = None, detail: str = "", is_told: bool = True) -> None:
        self.status = replace(self.status, state=state, since=time.time(), detail=detail)
        told = Progress(part=self.part.name, state=state, took_s=took_s, detail=detail) if is_told else None
        self._supervisor.changed(told)


async def _all_set(events: Sequence[asyncio.Event]) -> None:
    """Wait until every event is set."""
    for event in events:
        await event.wait()


async def _first_of(goal: asyncio.Task[None], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until the goal is reached, or one of the tasks fails: then raise its error."""
    waiting = {goal, *tasks}
    while not goal.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _ended(child: Child, limit_s: float) -> bool:
    """Wait at most so long for a child to end; tell whether it has."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), limit_s)
    return child.returncode is not None


def _identity(path: Path) -> int | None:
    """Tell which file a name leads to; None: there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _rotate(log: Path) -> None:
    """Keep one older log when the current one has become too large."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def _last_lines(log: Path, count: int) -> list[str]:
    """Read the last lines that are not empty, at most 300 characters each."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    return [line.strip()[:300] for line in lines if line.strip()][-count:]
