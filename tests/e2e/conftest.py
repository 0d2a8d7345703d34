"""One whole installation for all end-to-end tests of a run: a home with a blank in its name, ports of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cluster import processes
from serve_app.local import client
from serve_app.local.home import Home
from tests.waiting import wait_for

GFE = Path(sys.executable).with_name("gfe")
START_LIMIT_S = 180
GREEN_LIMIT_S = 60
MODEL = "smollm2:135m"


class Installation:
    """An installation as its owner sees it: commands and URLs."""

    def __init__(self, folder: Path, port_base: int) -> None:
        self.home = Home(folder / "an installation")
        self.port_base = port_base
        self.report: dict[str, Any] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GFE_")}
        self.environment = kept | {"GFE_HOME": str(self.home.root)}

    def gfe(self, *arguments: str, limit_s: float = START_LIMIT_S, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command; `cwd` is neutral on purpose."""
        return subprocess.run(
            [str(GFE), *arguments],
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            cwd="/",
        )

    def json_of(self, *arguments: str) -> Any:
        done = self.gfe(*arguments, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def up(self) -> float:
        """Start it detached; answer how long that took."""
        began = time.monotonic()
        done = self.gfe("up", "--detach", "--json", "--port-base", str(self.port_base))
        assert done.returncode == 0, done.stderr
        self.report = json.loads(done.stdout)
        return time.monotonic() - began

    def status(self) -> dict[str, Any]:
        return json.loads(self.gfe("status", "--json", limit_s=30).stdout)

    def wait_until_green(self, limit_s: float = GREEN_LIMIT_S) -> dict[str, Any]:
        state: dict[str, Any] = {}

        def is_green() -> bool:
            state.update(self.status())
            return bool(state["ready"])

        wait_for(is_green, limit_s, lambda: f"not green: {json.dumps(state, indent=1)}")
        return state

    def pid_of(self, name: str) -> int:
        """Find a part, or a process below one, by its name."""
        state = self.wait_until_green()
        for part in state["parts"]:
            if part["name"] == name:
                return part["pid"]
            for child in part["children"]:
                if child["name"] == name:
                    return child["pid"]
        raise AssertionError(f"there is no `{name}`: {json.dumps(state['parts'], indent=1)}")

    def ask(self, path: str, body: Any = None, *, key: str | None = None, limit_s: float = 60) -> tuple[int, Any]:
        """Call the API; answer status and JSON."""
        return call(self.report["api_url"] + path, body, key=key or self.report["api_key"], limit_s=limit_s)

    def chat(self, text: str = "Say hello", *, key: str | None = None, max_tokens: int = 8) -> tuple[int, Any]:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
        return self.ask("/v1/chat/completions", body, key=key)

    def is_served(self) -> bool:
        try:
            return self.chat()[0] == 200
        except OSError:
            return False

    def balance(self) -> Decimal:
        return Decimal(self.json_of("wallet")["balance"])

    def open_holds(self) -> int:
        with psycopg.connect((self.home.secrets / "admin_database_url").read_text()) as connection:
            row = connection.execute("SELECT count(*) FROM ledger.hold").fetchone()
        assert row is not None
        return int(row[0])

    def require_books(self) -> None:
        """Every rule holds, and nothing is reserved any more."""
        wait_for(lambda: self.open_holds() == 0, 60, lambda: f"{self.open_holds()} holds are open")
        audit = self.gfe("ledger", "audit")
        assert audit.returncode == 0, audit.stdout + audit.stderr

    def processes(self) -> tuple[processes.Process, ...]:
        return processes.marked(self.home.tag)

    def remove(self) -> None:
        self.gfe("down", "--purge")
        left = self.processes()
        for process in left:
            processes.send(process, 9)
        assert not left, [processes.command_of(process.pid) for process in left]


def call(url: str, body: Any = None, *, key: str = "", limit_s: float = 60) -> tuple[int, Any]:
    """Ask, or send a body; answer status and JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=limit_s) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        text = refused.read().decode(errors="replace")
        try:
            return refused.code, json.loads(text)
        except ValueError:
            return refused.code, text


@pytest.fixture(scope="package")
def new_installation():
    """Makes installations, removes them at the end."""
    made: list[tuple[Installation, Path]] = []

    def make(port_base: int) -> Installation:
        folder = Path(tempfile.mkdtemp(prefix="gfe e2e "))
        made.append((Installation(folder, port_base), folder))
        return made[-1][0]

    yield make
    for installation, folder in made:
        installation.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def installation(new_installation) -> Installation:
    """The shared installation, started; a test that breaks it waits until it is green again."""
    found = new_installation(24000)
    found.first_start_s = found.up()
    return found


@pytest.fixture
def green(installation) -> Installation:
    """The shared installation, green."""
    if not client.is_up(installation.home):
        installation.up()
    installation.wait_until_green()
    return installation
