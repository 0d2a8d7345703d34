"""The agent's own log: a file that stays small."""

import sys
from pathlib import Path
from typing import TextIO

MAX_BYTES = 1024 * 1024  # then it becomes the `.1` beside it, and a new one begins


class LogFile:
    """Takes lines; also passes them on, for a service manager's journal."""

    def __init__(self, path: Path, also: TextIO | None = None) -> None:
        self._path = path
        self._also = also
        self._file = path.open("a", encoding="utf-8", errors="replace")
        path.chmod(0o600)

    def write(self, text: str) -> None:
        """Write."""
        if self._file.tell() > MAX_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("a", encoding="utf-8", errors="replace")
            self._path.chmod(0o600)
        self._file.write(text)
        if self._also:
            self._also.write(text)

    def flush(self) -> None:
        """Write what waits."""
        self._file.flush()
        if self._also:
            self._also.flush()

    def isatty(self) -> bool:
        """It is no terminal."""
        return False


def journal() -> TextIO | None:
    """Where lines go beside the file: to standard error, unless a person looks at it."""
    return None if sys.stderr.isatty() else sys.stderr


def last_lines(path: Path, count: int) -> list[str]:
    """Read the end of a log."""
    lines: list[str] = []
    for one in (path.with_suffix(".log.1"), path):
        if one.exists():
            lines += one.read_text(errors="replace").splitlines()
    return lines[-count:]
