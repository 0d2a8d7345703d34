"""Keeps watch over the supervisor: when it ends, however it ends, nothing of the installation is left running.

A process of its own, started first. It starts the supervisor and is the reaper of its orphans (`PR_SET_CHILD_SUBREAPER`): when the
supervisor dies, even by SIGKILL, its children and grandchildren become the sentinel's, which finds all of them by walking down from
itself, without records that could be out of date. When the sentinel dies, the supervisor is told by the kernel and stops in order.
"""

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path

from cluster import processes

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36
POLITE_S = 4.0
LIMIT_S = 13.0
LOCK_IS_HELD = 75  # EX_TEMPFAIL of <sysexits.h>


def process_control(option: int, value: int) -> None:
    """Call prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def watch(lock: Path, command: list[str]) -> int:
    """Run the supervisor until it ends, then end what it left; answer its exit status.

    Raises:
        OSError: The lock file cannot be opened, or the kernel refused.
    """
    with lock.open("w") as held:  # held as long as anything of the installation may run; a next start waits for it
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return LOCK_IS_HELD
        process_control(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        supervisor = _start(command)
        for signal_number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, lambda *_: os.kill(supervisor, signal.SIGTERM))
        status = _reap_until(supervisor)
        processes.end_all(_what_is_left, polite_s=POLITE_S, limit_s=LIMIT_S)
        return os.waitstatus_to_exitcode(status)


def _start(command: list[str]) -> int:
    """Start the supervisor so that it hears when this process dies; answer its id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        process_control(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)
        os.execv(command[0], command)  # noqa: S606 - there is no shell to be wanted
    finally:
        os._exit(127)


def _reap_until(supervisor: int) -> int:
    """Reap orphans as they end, until the supervisor does; answer its status."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == supervisor:
            return status


def _what_is_left() -> tuple[processes.Process, ...]:
    """List what runs below this process, after reaping what has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return ()
    return processes.descendants(os.getpid())


if __name__ == "__main__":
    sys.exit(watch(Path(sys.argv[1]), sys.argv[2:]))
