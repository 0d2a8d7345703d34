"""How the commands `up`, `down`, `status` and `logs` see an installation from outside: its state file, its lock, its processes."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import processes
from serve_app.local.home import Home, read_json

START_LIMIT_S = 600.0
STOP_LIMIT_S = 40.0
POLL_S = 0.1
READY_LIMIT_S = 3.0

# Who is who below the parts, by the title or the command line a process shows. The first that fits names it.
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("replica", r"^ray::ServeReplica"),
        ("serve_controller", r"^ray::ServeController"),
        ("serve_proxy", r"^ray::ProxyActor"),
        ("haproxy_manager", r"^ray::HAProxyManager"),
        ("dispatcher", r"^ray::\w*Dispatcher"),
        ("worker", r"^ray::\w*Worker"),
        ("haproxy", r"^haproxy "),
        ("gcs", r"gcs_server"),
        ("raylet", r"raylet/raylet"),
        ("dashboard", r"dashboard/dashboard\.py"),
        ("model", r"cluster[./]runtime[./]child"),
    )
)


def is_up(home: Home) -> bool:
    """Tell whether something of the installation runs."""
    return is_locked(home.lock_file)


def is_locked(lock: Path) -> bool:
    """Tell whether a running installation holds this lock."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def supervisor_of(state: Mapping[str, Any] | None) -> processes.Process | None:
    """Name the supervisor that wrote a state; None when it is gone."""
    if not state:
        return None
    named = processes.Process(int(state["supervisor_pid"]), int(state["supervisor_start"] or 0))
    return named if processes.is_alive(named) else None


def state_of(home: Home) -> dict[str, Any] | None:
    """Read the state of a running installation; None when there is none."""
    state = read_json(home.state_file)
    return state if isinstance(state, dict) and supervisor_of(state) is not None else None


def wait_until_free(home: Home, limit_s: float) -> bool:
    """Wait until nothing of the installation runs any more; tell whether that came true."""
    return _wait(lambda: not is_up(home), limit_s)


def wait_until_ready(home: Home, limit_s: float = START_LIMIT_S) -> dict[str, Any] | None:
    """Wait for a start that somebody else began; answer its state, None when it did not come up."""

    def is_over() -> bool:
        return not is_up(home) or bool((state_of(home) or {}).get("ready"))

    _wait(is_over, limit_s)
    return state_of(home)


def _wait(is_true: Callable[[], bool], limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


@dataclass(slots=True)
class Start:
    """A start under way: the sentinel's process and the lines that the supervisor tells."""

    sentinel: subprocess.Popen[bytes]
    lines: Iterator[dict[str, Any]]

    def stop(self) -> int:
        """Ask it to stop and wait until nothing is left; answer the exit status."""
        if self.sentinel.poll() is None:
            self.sentinel.send_signal(signal.SIGTERM)
        return self.sentinel.wait(STOP_LIMIT_S)


@contextmanager
def starting(home: Home, port_base: int | None, *, is_detached: bool) -> Iterator[Start]:
    """Start sentinel and supervisor. Unless detached they stop when this process ends, however it ends."""
    told, tell = os.pipe()
    owner, own = os.pipe()
    command = [sys.executable, "-P", "-m", "serve_app.local.up", "--progress", str(tell)]
    if port_base is not None:
        command += ["--port-base", str(port_base)]
    if not is_detached:
        command += ["--owner", str(owner)]
    with (home.logs / "supervisor.log").open("ab") as log:
        sentinel = subprocess.Popen(
            [sys.executable, "-P", "-m", "serve_app.local.sentinel", str(home.lock_file), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(tell,) if is_detached else (tell, owner),
            start_new_session=True,
            cwd="/",
            env=environment_of_supervisor(home),
        )
    os.close(tell)
    os.close(owner)
    with os.fdopen(told, "r") as reader, os.fdopen(own, "w"):
        yield Start(sentinel, map(json.loads, reader))


def environment_of_supervisor(home: Home) -> dict[str, str]:
    """Hand on the caller's environment, less what would hurt the parts."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", processes.MARK, "GFE_PART"}
    return {name: value for name, value in os.environ.items() if name not in unwanted} | {"GFE_HOME": str(home.root)}


def ready_says(api_url: str) -> tuple[bool, Any]:
    """Ask the API whether it is ready; answer that, and what it says or why it says nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{api_url}/readyz", timeout=READY_LIMIT_S) as answer:
            return True, _json_or_text(answer.read(4096))
    except urllib.error.HTTPError as refused:
        return False, _json_or_text(refused.read(4096))
    except OSError as unreachable:
        return False, {"detail": str(unreachable)}


def _json_or_text(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return {"detail": raw.decode(errors="replace")}


def report(home: Home, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell what `--json` prints: where everything is, the key, and each part with what runs below it."""
    key = home.secrets / "first_api_key"
    fixed = {
        name: (state or {}).get(name)
        for name in ("api_url", "console_url", "dashboard_url", "guard_url", "agent_url", "supervisor_pid", "database", "runtime")
    }
    parts = [dict(part) for part in (state or {}).get("parts", [])]
    rows = processes.table()
    marks = _by_part(home.tag)
    for part in parts:
        below = {process.pid for process in processes.descendants(part["pid"], rows)} if part["pid"] else set()
        pids = sorted(below | marks.get(part["name"], set()) - {part["pid"]})
        part["children"] = [{"name": kind, "pid": pid} for pid in pids if (kind := kind_of(processes.words_of(pid))) is not None]
    return {
        "api_url": fixed["api_url"],
        "api_key": key.read_text().strip() if key.exists() else None,
        "console_url": fixed["console_url"],
        "dashboard_url": fixed["dashboard_url"],
        "guard_url": fixed["guard_url"],
        "agent_url": fixed["agent_url"],
        "home": str(home.root),
        "supervisor_pid": fixed["supervisor_pid"],
        "ready": is_green(state),
        "database": fixed["database"],
        "runtime": fixed["runtime"],
        "parts": parts,
    }


def is_green(state: Mapping[str, Any] | None) -> bool:
    """Tell whether every part does what it should."""
    return bool(state and state.get("ready") and all(part["state"] in {"running", "done"} for part in state["parts"]))


def kind_of(words: Sequence[str]) -> str | None:
    """Name a process by the words of its command line; None when it is of no interest to operators."""
    command = " ".join((Path(words[0]).name if words[0].startswith("/") else words[0], *words[1:])) if words else ""
    return next((name for name, pattern in KINDS if pattern.search(command)), None)


def _by_part(tag: str) -> dict[str, set[int]]:
    """Find the processes of an installation that are below no part any more, by the marks in their environment."""
    found: dict[str, set[int]] = {}
    for process in processes.marked(tag):
        part = processes.environment_of(process.pid).get("GFE_PART", "")
        found.setdefault(part, set()).add(process.pid)
    return found
