"""Runs what a page of the documentation tells its reader to type, and compares what comes with what the page shows.

One shell runs all `sh` blocks of a page, line by line as a reader would, and ends at the first line that fails. The page is run as it stands but for two addresses: those of the installation under test stand in for the ports 8000 and 8080.
A block that follows right below (`text`, `json`) is what the reader sees: `…` stands for anything, and figures, ids and blanks for others of their kind.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.e2e.conftest import GFE, Installation

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN, SHOWN = {"sh", "python"}, {"text", "json"}
BORDER = "=== block"  # between the outputs of blocks
PIECES = re.compile(r"(?P<any>…)|(?P<id>\b(?:job|node)_\w+)|(?P<figure>\d+)|(?P<blank>\s+)")
MEANS = {"any": ".*?", "id": r"(?:job|node)_\w+", "figure": r"\d+", "blank": r"\s+"}
SHELL = "set -eE\ntrap 'echo \"this line failed: $BASH_COMMAND\"' ERR\n"


@dataclass(frozen=True, slots=True)
class Block:
    """What is typed, and what is seen then; `shown`: None where the page does not say."""

    language: str
    typed: str
    shown: str | None


def blocks_of(text: str) -> list[Block]:
    """Read the blocks that are run."""
    found = list(FENCE.finditer(text))
    shown = {one.end(): two.group(2) for one, two in pairwise(found) if two.group(1) in SHOWN and not text[one.end() : two.start()].strip()}
    return [Block(one.group(1), one.group(2), shown.get(one.end())) for one in found if one.group(1) in RUN]


def pattern_of(shown: str) -> str:
    """Write what is shown as a pattern."""
    written, end = [], 0
    shown = shown.strip()
    for piece in PIECES.finditer(shown):
        written += [re.escape(shown[end : piece.start()]), MEANS[str(piece.lastgroup)]]
        end = piece.end()
    return "".join([*written, re.escape(shown[end:])])


def script_of(blocks: list[Block]) -> str:
    """Write a page as one script for a shell."""
    python = "%s - <<'END_OF_PROGRAM'\n%sEND_OF_PROGRAM\n"
    lines = [one.typed if one.language == "sh" else python % (sys.executable, one.typed) for one in blocks]
    return SHELL + "".join(f"printf '\\n{BORDER} {n}\\n'\n{text}" for n, text in enumerate(lines))


def run_page(path: str, installation: Installation, folder: Path, limit_s: float = 180) -> str:
    """Do all that a page says, in a folder where `./gfe` is; answer what was seen.

    Raises:
        AssertionError: A line failed, or something else is seen than the page shows.
    """
    text = (ROOT / path).read_text()
    for port, url in (("8000", installation.report["api_url"]), ("8080", installation.report["console_url"])):
        text = text.replace(f"http://127.0.0.1:{port}", url)
    blocks = blocks_of(text)
    assert blocks, f"{path} says nothing to type"
    (folder / "gfe").symlink_to(GFE)
    status, said = _run(script_of(blocks), installation.environment | _elsewhere(folder), folder, limit_s)
    assert status == 0, f"{path}: {said}"
    for block, seen in zip(blocks, _parts(said), strict=True):
        if block.shown is not None:
            assert re.search(pattern_of(block.shown), seen, re.DOTALL), f"{path} shows\n\n{block.shown}\nand this was seen:\n\n{seen}"
    return said


def _elsewhere(folder: Path) -> dict[str, str]:
    """A home of its own, so that nothing of whoever runs the tests is touched; the models that were fetched stay at hand."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {"HOME": str(folder), "XDG_CACHE_HOME": cache}


def _run(script: str, environment: dict[str, str], folder: Path, limit_s: float) -> tuple[int, str]:
    shell = subprocess.Popen(
        ["bash", "-c", script], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = shell.communicate(timeout=limit_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)  # what a page started beside it
    return shell.returncode, said


def _parts(said: str) -> Iterator[str]:
    """Cut what was seen at the borders of blocks."""
    return iter(re.split(rf"^{BORDER} \d+\n", said, flags=re.MULTILINE)[1:])
