"""Writes `docs/reference/cli.md` from the help of every command: `python -m serve_app.cli.reference docs/reference/cli.md`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from serve_app.cli import COMMANDS, app

HEAD = """# Commands

Made by `python -m serve_app.cli.reference docs/reference/cli.md`; do not edit.
"""


def sections(name: str, command: Any) -> Iterator[str]:
    """Describe a command and, below it, its own commands."""
    lines = [f"## `{name}`", "", (command.help or "").strip().splitlines()[0] if command.help else "", ""]
    rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
    if rows:
        lines += ["| Argument or option | Meaning |", "|---|---|", *rows, ""]
    yield "\n".join(lines)
    for below, inner in (getattr(command, "commands", None) or {}).items():
        yield from sections(f"{name} {below}", inner)


def _row(parameter: Any) -> str | None:
    if parameter.name in {"help", "install_completion", "show_completion"}:
        return None
    shown = (
        ", ".join(f"`{option}`" for option in parameter.opts)
        if parameter.param_type_name == "option"
        else f"`{(parameter.metavar or parameter.name).upper()}`"
    )
    return f"| {shown} | {getattr(parameter, 'help', '') or ''} |"


def reference() -> str:
    """Write the page."""
    group: Any = get_command(app)
    parts = [HEAD]
    for name in COMMANDS:
        parts.extend(sections(f"gfe {name}", group.get_command(None, name)))
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Write the page to the file named first."""
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(reference())


if __name__ == "__main__":
    main()
