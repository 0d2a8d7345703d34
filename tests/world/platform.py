"""A platform on the first machine of a world, and machines that join it."""

import json
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import psycopg

from cluster import invite as invites
from cluster import processes
from ledger.client import uuid_of_job
from provider_join.home import NodeHome
from tests.crowd import History, Outcome
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
REJOIN_LIMIT_S = 90
CONSOLE, AGENTS = "https://10.88.0.1:9000", "wss://10.88.0.1:9001/ws/computing/"  # as who is behind a router knows them
GFE = [sys.executable, "-P", "-m", "serve_app.cli"]


class Platform:
    """`gfe up` on the first machine of a world."""

    def __init__(self, machine):
        self.machine = machine
        self.folder = Path(tempfile.mkdtemp(prefix="gfe-world-"))
        self.names = {}  # of all nodes that were ever seen, by id
        passed = {
            name: value for name, value in os.environ.items() if not name.startswith(("GFE_", "RAY_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        own = {"GFE_WELCOME_CREDITS": "100000.00", "GFE_SUBMITS_PER_MINUTE": "100000", "GFE_COMPLETION_PRICE": "1000.00"}
        own |= {"GFE_PUBLIC_URL": CONSOLE, "GFE_AGENT_URL": AGENTS}
        self.environment = passed | own | {"GFE_HOME": str(self.folder / "home"), "GFE_NODE_ADDRESS": machine.address}

    @property
    def secrets(self):
        return self.folder / "home" / "secrets"

    @property
    def admin_url(self):
        """The database's URL, whose socket is a file that every namespace sees."""
        return (self.secrets / "admin_database_url").read_text().strip()

    @property
    def url(self):
        ports = json.loads((self.folder / "home" / "run" / "ports.json").read_text())
        return f"http://127.0.0.1:{ports['api']}"

    def nodes(self):
        """What `gfe nodes` tells, by name; nothing while nobody answers."""
        done = self.gfe("nodes", "--json")
        rows = json.loads(done.stdout) if done.returncode == 0 else []
        self.names |= {row["id"]: row["name"] for row in rows}
        return {row["name"]: row for row in rows}

    def gfe(self, *words, **options):
        return self.machine.run([*GFE, *words], environment=self.environment, capture_output=True, **options)

    def ask(self, *words):
        done = self.gfe(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def invite(self, name, **changes):
        text = self.ask("admin", "invite", "--name", name)["invite"]
        return invites.write(replace(invites.read(text), **changes)) if changes else text

    def stop(self):
        self.gfe("down", "--purge")
        shutil.rmtree(self.folder, ignore_errors=True)


class Newcomer:
    """A machine on which `gfe join` runs."""

    def __init__(self, platform, machine, name):
        self.platform, self.machine, self.name = platform, machine, name
        self.home = platform.folder / name
        self.log = platform.folder / f"{name}.log"
        self.environment = platform.environment | {"GFE_NODE_HOME": str(self.home), "GFE_SIMULATED_GPUS": "RTX 3060:12288:900:8.6"}
        self.environment.pop("GFE_HOME")

    def join(self, invite, *options):
        self.process = self.machine.start([*GFE, "join", "--invite", invite, *options], environment=self.environment, log=self.log)
        return self

    def said(self):
        return self.log.read_text()

    def joined(self):
        wait_for(lambda: "joined: " in self.said() or self.process.poll() is not None, 180, "the join")
        assert "joined: " in self.said(), self.said()
        return self

    def refused(self, limit_s=180):
        """Wait for its end; answer what it said, after seeing that nothing is left running."""
        assert self.process.wait(limit_s) == 1, self.said()
        assert processes.marked(NodeHome(self.home).tag) == ()
        return self.said()

    def leave(self):
        return self.machine.run([*GFE, "leave"], environment=self.environment, capture_output=True)


class Scripted(Newcomer):
    """A machine with a scripted runtime, kept joined as its service unit would do: whenever its join ends, it joins again."""

    def __init__(self, platform, machine, name):
        super().__init__(platform, machine, name)
        self.environment["GFE_OLLAMA_URL"] = "http://127.0.0.1:11434"
        self.joins = 0
        self._stopping = threading.Event()

    def start(self, invite, slots=6):
        self.start_runtime()
        self._options = invite, "--slots", str(slots)
        self.rejoin()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()
        return self

    def start_runtime(self):
        self.runtime = self.machine.start(
            [sys.executable, "-m", "tests.scripted_runtime", "--port", "11434"], environment=self.environment, log=f"{self.log}.runtime",
            folder=ROOT,
        )  # fmt: skip

    def rejoin(self):
        self.joins += 1
        invite, *options = self._options
        self.join(invite, *options)

    def _keep(self):
        while not self._stopping.wait(0.5):
            if self.process.poll() is not None:
                self.rejoin()

    def is_well(self):
        row = self.platform.nodes().get(self.name)
        return row is not None and row["healthy"] and not row["draining"]

    def stop(self):
        self._stopping.set()
        self._keeper.join()
        self.machine.heal()
        self.machine.thaw()
        for process in (self.process, self.runtime):
            if process.poll() is None:
                process.terminate()
        for process in (self.process, self.runtime):
            process.wait(60)


def wait_until_all_are_well(machines, limit_s=REJOIN_LIMIT_S):
    for one in machines:
        wait_for(one.is_well, limit_s, lambda one=one: f"{one.name} to be well; joined {one.joins} times, said last: {one.said()[-600:]}")


class CrowdOnTheHead:
    """A crowd of consumers on the head's machine."""

    def __init__(self, platform, jobs, seed):
        self.history, self.result = platform.folder / f"history-{seed}", platform.folder / f"outcomes-{seed}"
        self.log = platform.folder / f"crowd-{seed}.log"
        command = [sys.executable, "-m", "tests.crowd", "--url", platform.url, "--key-file", str(platform.secrets / "first_api_key")]
        command += ["--history", str(self.history), "--result", str(self.result), "--jobs", str(jobs), "--seed", str(seed)]
        self.process = platform.machine.start(command, environment=platform.environment, log=self.log, folder=ROOT)

    def wait_for(self, ended, limit_s=240):
        wait_for(lambda: History.ended(self.history) >= ended or self.process.poll() is not None, limit_s, f"{ended} ended jobs")

    def outcomes(self, limit_s=240):
        assert self.process.wait(limit_s) == 0, self.log.read_text()
        return [Outcome(**row) for row in json.loads(self.result.read_text())]


def nodes_of(platform, outcomes):
    """How many of these jobs each machine served."""
    platform.nodes()
    with psycopg.connect(platform.admin_url) as connection:
        ids = [uuid_of_job(outcome.jobs[-1]) for outcome in outcomes if outcome.jobs]
        rows = connection.execute("SELECT node, count(*) FROM serve_app.job WHERE id = ANY(%s) GROUP BY node", [ids]).fetchall()
    return {platform.names.get(node, node): count for node, count in rows}
