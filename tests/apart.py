"""What tests need that does not go with our own packages, or is too large for everybody: environments of their own. Made once, kept.

Each is a folder `.venv-<name>` beside the checkout's own, from pins in `requirements/`. Where it cannot be made, the tests that need it say so.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 120  # for each step, within what a test may take


class NotToBeHad(Exception):
    """It could not be made here."""


def run(*command, **more):
    """Run a step; answer what it says, or why it cannot be."""
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


@contextmanager
def _alone(folder):
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made(folder, of, make):
    """Make a folder from what it is `of`, unless it is there from the same."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in of) + sys.version.encode()).hexdigest()
    with _alone(folder):
        stamp = folder / ".made-from"
        if stamp.exists() and stamp.read_text() == digest:
            return
        shutil.rmtree(folder, ignore_errors=True)
        make()
        stamp.write_text(digest)


def environment(name, *alone):
    """Make an environment of `requirements/<name>.txt`, and of pins whose own needs are left out (`alone`); answer its Python.

    Raises:
        NotToBeHad: It cannot be made here.
    """
    uv, folder = str(Path(sys.executable).with_name("uv")), ROOT / f".venv-{name}"
    python = folder / "bin" / "python"
    pins = [ROOT / "requirements" / f"{one}.txt" for one in (name, *alone)]

    def make():
        run(uv, "venv", "-q", "--python", sys.executable, str(folder))
        for path in pins:
            needs = () if path is pins[0] else ("--no-deps",)
            run(uv, "pip", "install", "-q", "--compile-bytecode", "--require-hashes", *needs, "--python", str(python), "-r", str(path))

    made(folder, pins, make)
    return python
