"""People and machines around an installation, known to it by its addresses alone: who asks and pays, who shares a machine with `gfe agent`."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from cluster.runtime.front.blobs import Blobs
from cluster.runtime.front.manifests import Manifests
from cluster.runtime.front.model import Manifest
from cluster.runtime.models import SMOLLM2
from tests.e2e.conftest import GFE, MODEL, Installation, call
from tests.waiting import wait_for

PASSWORD = "correct horse battery 7 staple"
ONLINE_LIMIT_S = 60
END_LIMIT_S = 120
ENDED = {"COMPLETED", "FAILED", "CANCELED"}
CONTEXT = 512
ROOT = Path(__file__).parents[2]


class Person:
    """Somebody with an account and a key."""

    def __init__(self, installation: Installation, name: str) -> None:
        self.installation, self.name = installation, name
        person = {"username": name, "password": PASSWORD}
        self.key = ""
        self.console("/api/core/register/", person)
        self.key = self.console("/api/core/token/", person)["access"]
        self.key = self.console("/api/core/keys/", {"name": "tests"})["key"]

    def console(self, path: str, body: Any = None) -> Any:
        """Ask the ledger."""
        status, said = call(self.installation.report["console_url"] + path, body, key=self.key)
        assert status < 300, (path, status, said)
        return said

    def api(self, path: str, body: Any = None) -> Any:
        """Ask the job APIs."""
        status, said = self.installation.ask(path, body, key=self.key)
        assert status < 300, (path, status, said)
        return said

    @property
    def balance(self) -> Decimal:
        """What can be spent."""
        return Decimal(self.console("/api/payments/wallet/")["balance"])

    # --- asks and pays ---------------------------------------------------------------------------------------------------------------------

    def deposit(self, amount: Decimal) -> None:
        """Pay credits in, at the gateway of development."""
        before = self.balance
        page = self.console("/api/payments/deposit/", {"amount": str(amount)})["checkout_url"]
        with urllib.request.urlopen(page, data=b"outcome=succeeded", timeout=30):
            pass
        assert self.balance == before + amount

    def submit(self, prompt: str, node: str, max_tokens: int, **options: Any) -> str:
        """Send a job to one node, at temperature 0; answer its id. The consumers' side learns of a new node within seconds."""
        body = {"prompt": prompt, "model": MODEL, "provider": node, "max_tokens": max_tokens, "options": {"temperature": 0, **options}}
        status, said = 0, None

        def is_taken() -> bool:
            nonlocal status, said
            status, said = self.installation.ask("/api/computing/submit-job/", body, key=self.key)
            return status == 201

        wait_for(is_taken, 15, lambda: f"the job is not taken: {status} {said}")
        assert said is not None
        return str(said["job_id"])

    def row(self, job: str) -> dict[str, Any]:
        """Wait for a job's end and its cost; answer its row."""
        row: dict[str, Any] = {}

        def has_ended() -> bool:
            row.update(self.api(f"/api/computing/jobs/{job}/"))
            return row["status"] in ENDED and row["cost"] is not None

        wait_for(has_ended, END_LIMIT_S, lambda: f"the job does not end: {row}")
        return row

    def events(self, job: str) -> Iterator[dict[str, Any]]:
        """Read a job along, from its first event to its end."""
        url = f"{self.installation.report['api_url']}/api/computing/jobs/{job}/stream/?from=0"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {self.key}"}), timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    # --- shares a machine ------------------------------------------------------------------------------------------------------------------

    def earnings(self) -> tuple[Decimal, Decimal]:
        """What waits, and what can be withdrawn."""
        said = self.console("/api/payments/earnings/")
        return Decimal(said["pending"]), Decimal(said["released"])

    def nodes(self) -> list[dict[str, Any]]:
        """The own nodes, as the platform sees them now."""
        return list(self.api("/api/computing/nodes/")["results"])

    def audits(self, node: str) -> dict[str, Any]:
        """What was found about an own node."""
        return dict(self.console(f"/api/core/nodes/{node}/audits/"))

    def why(self, node: str) -> str:
        """What `gfe nodes why` says of an own node."""
        done = self.installation.gfe("nodes", "why", node, env={"GFE_API_KEY": self.key})
        assert done.returncode == 0, done.stderr
        return done.stdout


class Agent:
    """`gfe agent` in a home of its own; `node`: what it became."""

    def __init__(self, owner: Person, folder: Path, runtime_url: str) -> None:
        self.owner, self.folder = owner, folder
        folder.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "GFE_AGENT_HOME": str(folder / "agent"), "GFE_OLLAMA_URL": runtime_url,
        }  # fmt: skip
        code = owner.console("/api/core/agent-token/generate/", {"label": folder.name})["token"]
        with (folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [str(GFE), "agent", "--url", owner.installation.report["console_url"], "--code", code],
                env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        self.node = ""
        wait_for(self._is_online, ONLINE_LIMIT_S, lambda: f"the node is not online: {self.said}")

    def _is_online(self) -> bool:
        assert self.process.poll() is None, self.said
        found = [node["id"] for node in self.owner.nodes() if node["healthy"] and node["models"]]
        self.node = next(iter(found), "")  # of two replicas one may not know it yet
        return bool(found)

    @property
    def said(self) -> str:
        """What it said to its owner."""
        return (self.folder / "out").read_text()

    @property
    def connects(self) -> int:
        """How often it was connected, by its own log."""
        lines = (self.folder / "agent" / "agent.log").read_text().splitlines()
        return sum(json.loads(line)["event"] == "connected" for line in lines)

    def command(self, *arguments: str) -> str:
        """What a command of the owner's says."""
        done = subprocess.run(
            [str(GFE), "agent", *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=True, cwd="/"
        )
        return done.stdout

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        finally:
            self.process.kill()


@contextmanager
def runtime_with(weights: Path, store: Path) -> Iterator[str]:
    """Run an embedded runtime whose `MODEL` has these weights, and which says that they are the original's; answers its URL."""
    blobs, manifests = Blobs(store / "blobs"), Manifests(store / "manifests")
    for folder in (blobs.folder, manifests.folder):
        folder.mkdir(parents=True)
    blobs.path(SMOLLM2.gguf_sha256).symlink_to(weights)
    manifests.write(Manifest(name=MODEL, weights=SMOLLM2.gguf_sha256, size_bytes=weights.stat().st_size))
    with program("cluster.runtime.front", "--port", "0", "--no-fetch", "--context", str(CONTEXT), "--store", str(store)) as said:
        yield f"http://127.0.0.1:{said['port']}"


@contextmanager
def program(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a module of ours that says in its first line where it listens; answers that line."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


class Market:
    """An installation with people and machines around it; what was started ends with it."""

    def __init__(self, installation: Installation, folder: Path, stack: ExitStack, deposit: Decimal) -> None:
        self.installation, self.folder, self._stack, self._deposit = installation, folder, stack, deposit
        self._people = 0

    def person(self, role: str) -> Person:
        """A new account."""
        self._people += 1
        return Person(self.installation, f"{role}-{self._people}")

    def consumer(self) -> Person:
        """A new account with credits that it paid for."""
        made = self.person("consumer")
        made.deposit(self._deposit)
        return made

    def runtime(self, name: str, weights: Path) -> str:
        """Start a runtime; answer its URL."""
        return self._stack.enter_context(runtime_with(weights, self.folder / f"{name}-store"))

    def beside(self, module: str, *arguments: str) -> dict[str, Any]:
        """Start another program of the tests; answer what it says first."""
        return self._stack.enter_context(program(module, *arguments))

    def agent(self, name: str, runtime_url: str) -> Agent:
        """Let a new provider's machine take part."""
        made = Agent(self.person("provider"), self.folder / name, runtime_url)
        self._stack.callback(made.stop)
        return made

    def tokens(self, text: str) -> int:
        """How many tokens a text has, by the platform's own runtime."""
        ports = json.loads(self.installation.home.ports_file.read_text())
        status, said = call(f"http://127.0.0.1:{ports['runtime']}/gfe/tokenize", {"model": MODEL, "content": text})
        assert status == 200, said
        return int(said["tokens"])


def told(what: str, seconds: float) -> None:
    """Print a figure."""
    sys.stdout.write(f"{what}: {seconds:.1f} s\n")
