"""The processes of this machine as /proc shows them: who is whose child, since when, and how to end them for sure.

A process is named by its id *and* its start time, so that an id that was used again never costs a stranger its life.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STAT_BYTES = 4096  # more than such a line can have: 52 numbers and a name of 64 bytes at most
MARK = "GFE_INSTALLATION"  # environment variable that every process of an installation inherits


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `start` is in clock ticks since the machine's start."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Row:
    """What one line of the process table says."""

    process: Process
    parent: int
    session: int
    state: str

    @property
    def is_zombie(self) -> bool:
        """Tell whether it has ended and waits for its parent to notice."""
        return self.state in {"Z", "X"}


def row_of(pid: int) -> Row | None:
    """Read one process; None when it is gone."""
    try:
        file = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY)  # a Path and a text file for each process cost four times as much
        try:
            text = os.read(file, STAT_BYTES).decode(errors="replace")
        finally:
            os.close(file)
    except OSError:
        return None
    # The name in parentheses may hold blanks and parentheses: what follows the last one is well-formed (proc_pid_stat(5)).
    fields = text[text.rfind(")") + 2 :].split()
    return Row(Process(pid, int(fields[19])), int(fields[1]), int(fields[3]), fields[0])


def table() -> dict[int, Row]:
    """Read all processes."""
    found = {}
    for entry in os.listdir(PROC):  # noqa: PTH208 - a Path per process costs ten times as much, several times a second
        if entry.isdigit() and (row := row_of(int(entry))) is not None:
            found[row.process.pid] = row
    return found


def is_alive(process: Process) -> bool:
    """Tell whether this very process still runs."""
    row = row_of(process.pid)
    return row is not None and row.process == process and not row.is_zombie


def process_of(pid: int) -> Process | None:
    """Name a running process; None when there is none."""
    row = row_of(pid)
    return None if row is None or row.is_zombie else row.process


def descendants(ancestor: int, rows: dict[int, Row] | None = None) -> tuple[Process, ...]:
    """List the children of a process and theirs, parents first; zombies are left out."""
    rows = table() if rows is None else rows
    children: dict[int, list[int]] = {}
    for pid, row in rows.items():
        children.setdefault(row.parent, []).append(pid)
    found, waiting = [], [ancestor]
    while waiting:
        for pid in children.get(waiting.pop(0), []):
            waiting.append(pid)
            if not rows[pid].is_zombie:
                found.append(rows[pid].process)
    return tuple(found)


def in_session(session: int, rows: dict[int, Row]) -> tuple[Process, ...]:
    """List the processes of a session: what a part started and did not move elsewhere, orphans included."""
    return tuple(row.process for row in rows.values() if row.session == session and not row.is_zombie)


def environment_of(pid: int) -> dict[str, str]:
    """Read the environment that a process was started with; empty when it is not ours to read or was overwritten by a title."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def user_of(pid: int) -> int | None:
    """Tell as which user a process acts now, by number; None when it is gone."""
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[2]) for line in lines if line.startswith("Uid:")), None)


def folder_of(pid: int) -> Path | None:
    """Name a process's current folder; None when it is gone or not ours to know."""
    try:
        return Path((PROC / str(pid) / "cwd").readlink())
    except OSError:
        return None


def words_of(pid: int) -> list[str]:
    """Read the words of a command line, or the title that the process gave itself; empty when it is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0")


def command_of(pid: int) -> str:
    """Read the command line as one text."""
    return " ".join(words_of(pid)).strip()


def marked(tag: str) -> tuple[Process, ...]:
    """List the processes whose environment carries the mark of an installation, this process excepted."""
    return tuple(
        row.process for pid, row in table().items() if pid != os.getpid() and not row.is_zombie and environment_of(pid).get(MARK) == tag
    )


def send(process: Process, signal_number: signal.Signals) -> None:
    """Signal this very process; nothing happens when it is gone."""
    with contextlib.suppress(OSError):  # gone, or its id was used again between the two calls: the descriptor prevents the latter
        descriptor = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, signal_number)
        finally:
            os.close(descriptor)


def wait_gone(processes: Iterable[Process], limit_s: float) -> tuple[Process, ...]:
    """Wait until all have ended or the limit passed; answer who is still there."""
    until = time.monotonic() + limit_s
    left = tuple(processes)
    while True:
        left = tuple(process for process in left if is_alive(process))
        if not left or time.monotonic() >= until:
            return left
        _wait_for_one(left[0], min(0.1, max(0.0, until - time.monotonic())))


def _wait_for_one(process: Process, limit_s: float) -> None:
    """Wait until a process ends, at most so long."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        select.select([descriptor], [], [], limit_s)
    finally:
        os.close(descriptor)


def is_postmaster(process: Process) -> bool:
    """Tell whether it is a PostgreSQL server's first process, which ends all others of its server by itself."""
    words = words_of(process.pid)
    return bool(words) and Path(words[0]).name == "postgres" and "-D" in words


def end_all(find: Callable[[], tuple[Process, ...]], *, polite_s: float, limit_s: float) -> tuple[Process, ...]:
    """End whatever `find` finds, PostgreSQL by its fast shutdown, and look again until nothing is found.

    Asked first, killed after `polite_s`; a database server gets until 2 s before `limit_s`. Answers who outlived even that.
    """
    began = time.monotonic()
    asked: set[Process] = set()
    while True:
        found = find()
        spent = time.monotonic() - began
        if not found or spent >= limit_s:
            return found
        servers = {process for process in found if is_postmaster(process)}
        sheltered = _families(servers) if spent < limit_s - 2 else set()
        for process in found:
            if process in servers and process in sheltered:
                if process not in asked:
                    send(process, signal.SIGINT)
            elif process in sheltered:
                continue
            elif spent >= polite_s:
                send(process, signal.SIGKILL)
            elif process not in asked:
                send(process, signal.SIGTERM)
            asked.add(process)
        wait_gone(found, 0.2)


def _families(servers: set[Process]) -> set[Process]:
    """Add the processes below to those given."""
    rows = table()
    return servers.union(*(descendants(server.pid, rows) for server in servers))
