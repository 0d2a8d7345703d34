"""Row 19 of the fault matrix: an agent's network is cut in mid-answer, both ways or one way, and heals; nothing is charged or paid twice."""

import contextlib
import json
import os
import subprocess
import sys
import time

import psycopg
import pytest

from ledger.client import uuid_of_job
from tests.books import unquiet
from tests.scripted_models import words_of
from tests.waiting import wait_for
from tests.world.network import why_not
from tests.world.platform import CONSOLE, GFE
from tests.world.test_edge_agent import ONLINE_LIMIT_S, ROOT, Provider, ask, certificate

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)
]  # fmt: skip
PROVIDER = "divided"
PUBLIC = "10.88.0.1"  # the platform's address, as agents know it
MODEL, WORDS = "fake:long=100@0.3", 100  # 30 s: longer than an agent may go on by itself
SILENCE_TARGET_S = 25
STOPS_TARGET_S = 15
BACK_LIMIT_S = 90
ENDED_LIMIT_S = 120


class AgentsMachine:
    """A provider's machine: a scripted runtime, and `gfe agent`."""

    def __init__(self, platform, machine, name, trusted):
        self.platform, self.machine, self.name = platform, machine, name
        self.home = platform.folder / f"home-{name}"
        self.home.mkdir()
        self.log = platform.folder / f"{name}.log"
        self.environment = {
            "HOME": str(self.home), "PATH": os.environ["PATH"], "SSL_CERT_FILE": str(trusted), "GFE_OLLAMA_URL": "http://127.0.0.1:11434",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def start(self, code):
        runtime = [sys.executable, "-m", "tests.scripted_runtime", "--port", "11434", "--model", MODEL]
        self.runtime = self.machine.start(runtime, environment=self.environment, log=f"{self.log}.runtime", folder=ROOT)
        command = [*GFE, "agent", "--code", code, "--url", CONSOLE, "--name", self.name]
        self.agent = self.machine.start(command, environment=self.environment, log=self.log)
        wait_for(self.is_online, ONLINE_LIMIT_S, lambda: f"{self.name} to be online: {self.log.read_text()}")

    def is_online(self):
        return (row := self.platform.nodes().get(self.name)) is not None and row["healthy"]

    def done(self):
        """How many jobs the agent did."""
        said = self.machine.run([*GFE, "agent", "status", "--json"], environment=self.environment, capture_output=True).stdout
        return json.loads(said)["jobs_done"]

    def answers(self):
        """How many answers its runtime is giving."""
        asking = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:11434/scripted/running').read().decode())"
        return int(self.machine.run([sys.executable, "-S", "-c", asking], capture_output=True).stdout)

    def stop(self):
        for process in (self.agent, self.runtime):
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def agents(platform, tmp_path_factory):
    """Two machines of one provider that reach the platform at its public address, and the provider's name."""
    own, trusted = certificate(tmp_path_factory.mktemp("proxy"), PUBLIC)
    head, machines = platform.machine, platform.world.machines[1:3]
    ports = json.loads((platform.folder / "home" / "run" / "ports.json").read_text())
    pairs = [f"{PUBLIC}:{port}=127.0.0.1:{ports[part]}" for port, part in ((9000, "console"), (9001, "edge"))]
    with contextlib.ExitStack() as stack:
        head.also_has(PUBLIC)
        stack.callback(subprocess.run, ["ip", "-n", head.namespace, "addr", "del", f"{PUBLIC}/32", "dev", "lo"], check=True)
        for machine in machines:
            subprocess.run(["ip", "-n", machine.namespace, "route", "add", PUBLIC, "via", head.address], check=True)
            stack.callback(subprocess.run, ["ip", "-n", machine.namespace, "route", "del", PUBLIC], check=False)
        proxy = head.start(
            [sys.executable, "-m", "tests.world.forwarder", "--tls", str(own), *pairs], environment=platform.environment,
            log=platform.folder / "proxy.log", folder=ROOT,
        )  # fmt: skip
        stack.callback(proxy.terminate)
        reaches = f"import urllib.request as u; u.urlopen('{CONSOLE}/.well-known/jwks.json', timeout=2)"
        trusting = os.environ | {"SSL_CERT_FILE": str(trusted)}
        wait_for(
            lambda: not machines[0].run([sys.executable, "-c", reaches], environment=trusting, capture_output=True).returncode,
            30,
            "the proxy",
        )
        provider = Provider(machines[0], PROVIDER, trusted)
        started = [AgentsMachine(platform, machine, name, trusted) for machine, name in zip(machines, ("port", "starboard"), strict=True)]
        for one in started:
            one.start(provider.call("POST", "/api/core/agent-token/generate/", {"label": one.name})["token"])
            stack.callback(one.stop)
        yield started


def one_of(platform, query, job):
    with psycopg.connect(platform.admin_url) as connection:
        ((value,),) = connection.execute(query.encode(), [uuid_of_job(job)]).fetchall()
    return value


class Consumer:
    """Somebody on the head's machine who wants a job done by this provider."""

    def __init__(self, platform):
        self.platform = platform
        self.key = (platform.secrets / "first_api_key").read_text().strip()

    def call(self, method, path, body=None):
        return ask(self.platform.machine, method, f"{self.platform.url}/api/computing/{path}", self.key, body)

    def submitted(self, prompt):
        """A job of a long answer; the consumers' side learns of a new node within seconds."""
        body = {"prompt": prompt, "model": MODEL, "provider": PROVIDER, "max_tokens": WORDS}

        def taken():
            with contextlib.suppress(AssertionError):
                return self.call("POST", "submit-job/", body)["job_id"]

        return wait_for(taken, 15, "a job for the provider")

    def ended(self, job):
        row = self.call("GET", f"jobs/{job}/")
        return row if row["status"] in {"COMPLETED", "FAILED"} else None


def times_of(platform, job, serving):
    """After how many seconds another machine went on, and the agent that is cut off stopped by itself."""
    began, found = time.monotonic(), {}
    conditions = {
        "another machine went on": lambda: one_of(platform, "SELECT attempt FROM serve_app.job WHERE id = %s", job) == 2,
        "the agent stopped by itself": lambda: not serving.answers(),
    }
    while len(found) < len(conditions):
        now = time.monotonic() - began
        assert now < 3 * SILENCE_TARGET_S, found
        found |= {what: round(now, 1) for what, holds in conditions.items() if what not in found and holds()}
    return found


@pytest.mark.parametrize(("ways", "harm", "mend"), [("both ways", "cut", "heal"), ("one way", "deafen", "undeafen")])
def test_row_19_an_agent_that_is_cut_off_in_mid_answer_is_not_paid_twice_and_stops_by_itself(platform, agents, ways, harm, mend):
    consumer = Consumer(platform)
    nodes = {one: platform.nodes()[one.name]["id"] for one in agents}
    done = {one: one.done() for one in agents}
    job = consumer.submitted(prompt := f"who is cut {ways}")
    serving = wait_for(lambda: next((one for one in agents if one.answers()), None), 10, "a machine that serves it")
    (other,) = set(agents) - {serving}
    getattr(serving.machine, harm)()
    try:
        figures = times_of(platform, job, serving)
        row = wait_for(lambda: consumer.ended(job), ENDED_LIMIT_S, "the job's end")
    finally:
        getattr(serving.machine, mend)()
    healed = time.monotonic()
    wait_for(serving.is_online, BACK_LIMIT_S, lambda: f"the machine to be back: {serving.log.read_text()[-500:]}")
    figures["back after the network healed"] = round(time.monotonic() - healed, 1)
    sys.stdout.write(f"\nrow 19, cut {ways}, seconds: {json.dumps(figures)}\n")
    assert (row["status"], row["attempts"], row["node"]["id"]) == ("COMPLETED", 2, nodes[other])
    assert row["result"]["output"] == "".join(words_of(prompt, WORDS))
    assert serving.done() == done[serving], "it stopped before it was through"
    wait_for(lambda: not unquiet(platform.admin_url), 60, lambda: unquiet(platform.admin_url))
    meta = one_of(platform, "SELECT meta FROM ledger.txn WHERE id = %s AND kind = 2", job)  # one capture
    ((first, attempt, share),) = meta["shares"]
    assert (first, attempt, meta["node"], meta["attempt"]) == (nodes[serving], 1, nodes[other], 2)
    assert 0 < share < meta["completion_tokens"] == WORDS
    assert figures["the agent stopped by itself"] <= 3 * STOPS_TARGET_S
    assert platform.gfe("ledger", "audit").returncode == 0
