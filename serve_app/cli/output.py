"""The only place of the command line that prints: data on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


def data(value: Any, *, as_json: bool) -> None:
    """Print data: JSON for programs, text for people."""
    line = json.dumps(value) if as_json else str(value)
    sys.stdout.write(line + "\n")


def piece(text: str) -> None:
    """Print a piece of an answer at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Say something beside the data."""
    sys.stderr.write(text + "\n")


def refuse(what: str, hint: str | None = None) -> NoReturn:
    """Say what is wrong and what to do, and end with 1."""
    sys.stderr.write(f"error: {what}\n")
    if hint:
        sys.stderr.write(f"\nhint: {hint}\n")
    sys.exit(1)


def table(rows: Sequence[tuple[str, ...]], *titles: str) -> str:
    """Lay rows out in columns."""
    every = [titles, *rows]
    widths = [max(len(row[n]) for row in every) for n in range(len(titles))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every)
