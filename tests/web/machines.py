"""Machines for tests of the console: a scripted runtime and a real `gfe agent`, each a process of its own."""

import json
import os
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

from tests.edge_agent import Agent

ROOT = Path(__file__).parents[2]
LIMIT_S = 90  # for a process that ends by itself


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GFE_", "OLLAMA_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


class Runtime:
    """A scripted runtime that speaks Ollama's API."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            command("tests.scripted_runtime"), env=environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Machine:
    """Somebody's machine with `gfe agent` on it."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        folder.mkdir()
        self._folder, self._said = folder, folder / "said.log"
        self._environment = environment() | {"GFE_AGENT_HOME": str(folder / "agent"), "OLLAMA_HOST": runtime.address, "HOME": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Run `gfe agent` with these words."""
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                command("serve_app.cli", "agent", *arguments), env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=said,
                stderr=said,
            )  # fmt: skip

    def ended(self) -> int:
        """Wait until it ends by itself; answer its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent goes on: {self._said.read_text()}") from None

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def submit_to(site, account, provider, **job) -> dict:
    """Submit a job for the machines of one provider, as soon as the job APIs have heard that there are some."""
    asked = {"prompt": "hello", "provider": provider.username} | job
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            return account.call("POST", f"{site.api_url}/api/computing/submit-job/", asked)
        except urllib.error.HTTPError as refused:
            if refused.code != 400 or time.monotonic() > until:
                raise
        time.sleep(0.3)


def enroll(site, account, label: str) -> str:
    """Make a node that is never online: it has a key and no agent. Answers its id."""
    code = account.call("POST", "/api/core/agent-token/generate/", {"label": label})["token"]
    agent = Agent(None)
    proof = agent.sign("gfe.agent.enroll.v1", code, agent.public_key)
    body = {"code": code, "public_key": agent.public_key, "proof": proof, "agent_version": "0.1.0", "platform": "linux-x86_64"}
    return site.call("POST", "/api/core/agent/enroll/", body)["node_id"]
