"""Writes boards and rules: `python -m serve_app.boards helm/gpu-for-everyone/boards`."""

import sys
from pathlib import Path

from serve_app.boards.alerts import rules
from serve_app.boards.boards import BOARDS


def files() -> dict[str, str]:
    """Write every file, by its name."""
    return {"rules.yml": rules(), **{f"{board.name}.json": board.to_json() for board in BOARDS}}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)
