"""Ended attempts that the platform has not acknowledged yet, on disk: an agent that is started again still delivers them.

One file per attempt (0600), in the agent's closed folder, for ten minutes at most. The answer is in it, the prompt is not.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from cluster.attempt_log import decode
from cluster.edge.protocol import MAX_RESUMED
from cluster.jobs import End, Fail
from provider_join.agent.home import write_closed
from provider_join.agent.session import Held

log = structlog.get_logger()
KEPT_S = 600.0
SUFFIX = ".ended"


class StoredLog:
    """A log that was read from disk; it has ended."""

    has_ended = True

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines


class Outbox:
    """The folder of ended attempts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, held: Held) -> None:
        """Keep an ended attempt."""
        head = {"job": held.job, "lease": held.lease, "delivered": held.delivered, "model_digest": held.model_digest}
        try:
            write_closed(self._path(held.job, held.lease), b"".join([json.dumps(head).encode() + b"\n", *held.log.lines]))
        except OSError as failed:  # a full disk: it is still in memory
            log.warning("outbox_not_written", job=held.job, error=type(failed).__name__)

    def remove(self, job: str, lease: int) -> None:
        """The platform has it, or does not want it."""
        with suppress(OSError):
            self._path(job, lease).unlink(missing_ok=True)

    def read(self) -> Iterator[Held]:
        """Read what an earlier run left, the newest ones; what is old or broken is removed."""
        self.forget_old()
        for path in self._files()[-MAX_RESUMED:]:
            try:
                yield _read(path)
            except (OSError, ValueError, KeyError, TypeError) as broken:
                log.warning("outbox_file_broken", file=path.name, error=type(broken).__name__)
                path.unlink(missing_ok=True)

    def forget_old(self) -> list[tuple[str, int]]:
        """Remove what nobody asked for in time; answer what that was."""
        gone = []
        for path in self._files():
            with suppress(OSError, ValueError):
                if time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink(missing_ok=True)
                    job, lease = path.name.removesuffix(SUFFIX).rsplit(".", 1)
                    gone.append((job, int(lease)))
        return gone

    def _files(self) -> list[Path]:
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def _path(self, job: str, lease: int) -> Path:
        return self._folder / f"{job}.{lease}{SUFFIX}"


def _read(path: Path) -> Held:
    """Read one.

    Raises:
        ValueError: It is not whole.
    """
    with path.open("rb") as file:
        head = json.loads(file.readline())
        lines = file.readlines()
    if not lines or not isinstance(decode(lines[-1]), End | Fail):
        raise ValueError("it has no end")
    return Held(
        job=str(head["job"]), lease=int(head["lease"]), delivered=int(head["delivered"]), model_digest=str(head["model_digest"]),
        log=StoredLog(lines),
    )  # fmt: skip
