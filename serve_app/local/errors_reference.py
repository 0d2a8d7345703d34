"""Writes `docs/reference/errors.md` from the classes of errors: `python -m serve_app.local.errors_reference docs/reference/errors.md`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ledger.errors
import ledger.problems
from serve_app import problems

HEAD = """# Errors

Made by `python -m serve_app.local.errors_reference docs/reference/errors.md`; do not edit.

Every refusal says in `detail` what happened and what to do, and in `code` one word for programs: `application/problem+json` (RFC 9457) on
`/api/`, the shapes of OpenAI on `/v1/`. A status of 429 or 503 comes with `Retry-After` in seconds. The same request with the same
`Idempotency-Key` may always be sent again.
"""
# One class, several codes: a program would act differently.
FINER = {
    "HoldNotOpen": ("hold_captured", "hold_voided", "hold_expired"),
    "RateLimited": ("rate_limited", "open_jobs"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    code: str
    status: int
    meaning: str


def lines_of_ledger() -> Iterator[Line]:
    """Everything that the ledger refuses."""
    for error in _tree(ledger.errors.LedgerError):
        status, _ = ledger.problems.status_of(error.__new__(error))
        for code in FINER.get(error.__name__, (error.code,)):
            yield Line(code, status, _meaning(error))


def lines_of_serve() -> Iterator[Line]:
    """Everything that the job APIs refuse by themselves; the ledger's words come on."""
    for error, (status, code, _) in problems.TABLE.items():
        if code is not None:
            yield Line(code, status, _meaning(error))


def _tree(root: type[ledger.errors.LedgerError]) -> Iterator[type[ledger.errors.LedgerError]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)


def _meaning(error: type[Exception]) -> str:
    return " ".join((error.__doc__ or "").split("\n\n")[0].split())


def reference() -> str:
    """Write the page."""
    parts = [HEAD]
    for title, found in (("Accounts and money", lines_of_ledger()), ("Jobs", lines_of_serve())):
        rows = sorted({(line.status, line.code): line for line in reversed(list(found))}.items())
        parts += [f"## {title}", "", "| Status | Code | Meaning |", "|---|---|---|"]
        parts += [f"| {line.status} | `{line.code}` | {line.meaning} |" for _, line in rows]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
