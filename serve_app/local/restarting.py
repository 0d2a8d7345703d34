"""What `gfe restart` can start anew while everything runs, and how, so that nobody's request is lost.

ledger                  the new process comes first, the old one goes when that serves
edge, guard, auditor    a moment without: agents come back and go on where they were, readers of the guard sign in anew
serve                   Ray Serve replaces the replicas one after the other; each ends what it streams
dispatcher              Ray starts the actor anew; replicas go on by what they know, and tell it who waits
worker, runtime         the node is drained: what runs ends, new jobs wait (or go to other machines) until it is back
postgres                new jobs get 503 until it is back
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cluster import processes
from serve_app.local import client
from serve_app.local.errors import Refused
from serve_app.local.home import Home
from serve_app.local.supervisor import PartFailed, Supervisor

LOOK_S = 0.2
BACK_LIMIT_S = 120.0
STREAMS_LIMIT_S = 900.0  # a replica may stream so long
ACTORS = ("dispatcher", "worker")  # Ray starts them anew when they end
PARTS = ("guard", "auditor", "ledger", "edge", "dispatcher", "worker", "serve")  # an upgrade, in this order
ALL = (*PARTS, "runtime", "postgres")
NOTHING_ENDS = "the rest of the installation goes on; see `gfe status` and `gfe logs`"


class Restarts:
    """Starts parts anew, one at a time."""

    def __init__(self, home: Home, supervisor: Supervisor, api_url: str) -> None:
        self._home = home
        self._supervisor = supervisor
        self._api_url = api_url
        self._one = asyncio.Lock()

    async def restart(self, name: str, wait_s: float) -> None:
        """Start one anew; return when it is there again, and what was there before has ended. `wait_s`: for what runs, where that must end.

        Raises:
            Refused: There is no such part here, or it did not come back in time.
        """
        known = {status.name for status in self._supervisor.status()} & set(ALL) | set(ACTORS)
        if name not in known:
            raise Refused(f"`{name}` is nothing that can be started anew here", f"known: {', '.join(one for one in ALL if one in known)}")
        async with self._one:
            try:
                await self._restart(name, wait_s)
            except PartFailed as failed:
                raise Refused(f"`{name}` was not started anew: {failed.why}", f"see {failed.log}") from failed
            except TimeoutError:
                raise Refused(f"`{name}` did not come back in time", NOTHING_ENDS) from None

    async def _restart(self, name: str, wait_s: float) -> None:
        match name:
            case "serve":
                replaced = _living("replica")
                await self._supervisor.restart(name)
                await _until(lambda: not any(map(processes.is_alive, replaced)), STREAMS_LIMIT_S)
            case "dispatcher":
                await self._replace("dispatcher")
            case "worker":
                async with self._drained(wait_s):
                    await self._replace("worker")
            case "runtime":
                async with self._drained(wait_s):
                    await self._supervisor.restart(name)
                    await self._replace("worker")  # which takes jobs again
            case _:
                await self._supervisor.restart(name)

    async def _replace(self, kind: str) -> None:
        """End an actor's process; Ray starts another, with the code that is installed now."""
        old = _living(kind)
        for process in old:
            processes.send(process, signal.SIGKILL)

        def is_back() -> bool:
            return not any(map(processes.is_alive, old)) and bool(_living(kind)) and client.ready_says(self._api_url)[0]

        await _until(is_back, BACK_LIMIT_S)

    @contextlib.asynccontextmanager
    async def _drained(self, wait_s: float) -> AsyncIterator[None]:
        """Let this machine take no new job, and wait so long until nothing runs; afterwards it takes jobs again, if it did before."""
        notes = self._home.notes
        wish, done, lasting = notes / "drain", notes / "drained", notes / "draining"
        ours = (wish, done) if lasting.exists() else (wish, done, lasting)  # whom somebody else drained stays so
        wish.touch()
        try:
            with contextlib.suppress(TimeoutError):
                await _until(done.exists, wait_s)
            _forget(ours)  # the worker that runs drains all the same; the next one will not
            yield
        finally:
            _forget(ours)


def _forget(notes: tuple[Path, ...]) -> None:
    for note in notes:
        note.unlink(missing_ok=True)


def _living(kind: str) -> list[processes.Process]:
    """List this supervisor's processes of a kind."""
    return [one for one in processes.descendants(os.getpid()) if client.kind_of(processes.words_of(one.pid)) == kind]


async def _until(is_true: Callable[[], bool], limit_s: float) -> None:
    """Wait for something that only looking tells.

    Raises:
        TimeoutError: It does not come true.
    """
    async with asyncio.timeout(limit_s):
        while not await asyncio.to_thread(is_true):  # noqa: ASYNC110 - only the process table and the ingress know
            await asyncio.sleep(LOOK_S)
