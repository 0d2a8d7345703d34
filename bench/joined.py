"""More nodes for an installation under measurement, on this machine: real Ray nodes with real workers, joined on loopback.

Each is a raylet of its own that carries our label, so the Dispatcher finds it, starts its worker there and watches it, as it does with a
machine that came by `gfe join`. What is missing is the network between them, and that the machines would not share two cores.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import descendants
from cluster.processes import environment_of
from cluster.service_tokens import ServiceTokens
from serve_app.auth import OWN_MACHINE
from serve_app.local.home import Home

START_LIMIT_S = 120.0
RAY_NODE = Path(__file__).resolve().parent.parent / "tests" / "cluster" / "ray_node.py"


def gfe(home: Path, *command: str) -> Any:
    """Run a `gfe` command of the installation; answer what it printed."""
    environment = {**os.environ, "GFE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.cli", *command, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


class JoinedNodes:
    """Nodes beside the installation's own."""

    def __init__(self, home: Path, status: dict[str, Any], stub_url: str, slots: int) -> None:
        self._home = home
        self._nodes_url = status["api_url"] + "/api/admin/nodes/"
        tokens = ServiceTokens((Home(home).ray_secrets / "service_serve.pem").read_bytes(), "gfe")
        self._token = lambda: tokens.mint(OWN_MACHINE)
        self.ids: list[str] = []
        self._raylets: list[subprocess.Popen[bytes]] = []
        serve_pid = next(part["pid"] for part in status["parts"] if part["name"] == "serve")
        given = environment_of(serve_pid)
        self._address = given["GFE_RAY_ADDRESS"]
        self._python = Path(f"/proc/{serve_pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        self._environment = {name: value for name, value in given.items() if not name.startswith("GFE_")} | {
            "GFE_NODE_RUNTIME_URL": stub_url, "GFE_NODE_HOST": "127.0.0.1", "GFE_NODE_SLOTS": str(slots),
        }  # fmt: skip
        self._folder = self._temp_folder(next(part["pid"] for part in status["parts"] if part["name"] == "ray"))

    def _temp_folder(self, ray_pid: int) -> str:
        words = Path(f"/proc/{ray_pid}/cmdline").read_bytes().decode().split("\0")
        return words[words.index("--temp-dir") + 1]

    @property
    def pids(self) -> set[int]:
        """The raylets' launchers; all that belongs to the nodes descends from them."""
        return {raylet.pid for raylet in self._raylets}

    def start(self, count: int) -> None:
        """Register nodes with the ledger, start them, and wait until jobs could go there."""
        for number in range(count):
            id_ = gfe(self._home, "admin", "add-node", "--owner", "operator", f"bench-{number}")["node_id"]
            self.ids.append(id_)
            self._raylets.append(
                subprocess.Popen(
                    [self._python, "-P", str(RAY_NODE), self._address, id_, self._folder],
                    env=self._environment,
                    cwd="/",
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        self._until(lambda rows: all(row["healthy"] for row in rows) and len(rows) == count)

    def offer(self, *, are_open: bool) -> None:
        """Let jobs go to these nodes, or to the installation's own alone."""
        for id_ in self.ids:
            self._call("POST", f"{id_}/{'resume' if are_open else 'drain'}/")
        self._until(lambda rows: all(row["draining"] is not are_open for row in rows))

    def _until(self, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait for something to be true of these nodes, as the replica sees them."""
        end = time.monotonic() + START_LIMIT_S
        while not holds(rows := [row for row in self._call("GET", "")["results"] if row["id"] in self.ids]):
            if time.monotonic() > end:
                raise SystemExit(f"the nodes are not as they should be: {rows}")
            time.sleep(0.2)

    def _call(self, method: str, path: str) -> Any:
        """Call the operator's routes, as `gfe nodes` does on the platform's own machine."""
        request = urllib.request.Request(f"{self._nodes_url}{path}", method=method, headers={"Authorization": f"Bearer {self._token()}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.loads(answer.read())

    def stop(self) -> None:
        """End them, with all that they started."""
        for raylet in self._raylets:
            for pid in sorted(descendants({raylet.pid}), reverse=True):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            raylet.wait(10)
