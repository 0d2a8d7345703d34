"""Machines join a platform over a real network of their own: `gfe admin invite`, `gfe join`, jobs there, `gfe leave`; and the refusals."""

import json
import sys
from pathlib import Path

import pytest

import provider_join
from cluster import invite as invites
from cluster import processes
from provider_join.home import NodeHome
from tests.waiting import wait_for
from tests.world.network import why_not
from tests.world.platform import Newcomer

REASON = why_not()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.timeout(600)]


def chat_served_by(platform):
    """One chat; answers the node that served it."""
    key = (platform.folder / "home" / "secrets" / "first_api_key").read_text()
    body = json.dumps({"model": "smollm2:135m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    port = json.loads((platform.folder / "home" / "run" / "ports.json").read_text())["api"]
    url = f"http://127.0.0.1:{port}"
    headers = ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    done = platform.machine.run(
        ["curl", "-s", "-i", "--max-time", "60", *headers, "-d", body, f"{url}/v1/chat/completions"], capture_output=True
    )
    head, _, answer = done.stdout.replace("\r", "").partition("\n\n")
    assert " 200 " in head.splitlines()[0], done.stdout
    job = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("x-gfe-job"))
    shown = platform.machine.run(["curl", "-s", *headers, f"{url}/api/computing/jobs/{job}/"], capture_output=True)
    assert json.loads(answer)["choices"][0]["message"]["role"] == "assistant"
    return json.loads(shown.stdout)["node"]["id"]


def test_a_machine_joins_serves_jobs_and_leaves(platform):
    newcomer = Newcomer(platform, platform.world.machines[1], "attic")
    invite = platform.invite("attic")
    newcomer.join(invite).joined()
    assert "RTX 3060 (12 GiB)" in newcomer.said()
    assert "smollm2:135m" in newcomer.said()
    node = invites.read(invite).node
    assert (newcomer.home / "ray_token").stat().st_mode & 0o777 == 0o400
    served = {chat_served_by(platform) for _ in range(8)}
    assert node in served
    left = newcomer.leave()
    assert (left.returncode, "attic has left" in left.stdout) == (0, True), left.stderr
    assert newcomer.process.wait(60) == 0
    assert processes.marked(NodeHome(newcomer.home).tag) == ()
    assert {chat_served_by(platform) for _ in range(2)} - {node}
    assert platform.gfe("ledger", "audit").returncode == 0


@pytest.mark.nightly
def test_the_shell_form_joins_too(platform):
    machine = platform.world.machines[2]
    node = platform.ask("admin", "add-node", "cellar")["node_id"]
    runtime = machine.start(
        [sys.executable, "-P", "-m", "cluster.runtime.front", "--host", "127.0.0.1", "--port", "11434", "--store", str(platform.folder / "models")],
        environment=platform.environment, log=platform.folder / "runtime.log",
    )  # fmt: skip
    ports = json.loads((platform.folder / "home" / "run" / "ports.json").read_text())
    own = {
        "GFE_HEAD": f"{platform.machine.address}:{ports['gcs']}", "GFE_NODE": node, "GFE_NAME": "cellar", "GFE_PYTHON": sys.executable,
        "GFE_TOKEN_FILE": str(platform.folder / "home" / "ray_secrets" / "ray_token"), processes.MARK: f"shell-{platform.world.name}",
    }  # fmt: skip
    script = Path(provider_join.__file__).with_name("ray-start.sh")
    log = platform.folder / "shell.log"
    process = machine.start(["sh", str(script)], environment=platform.environment | own, log=log)
    try:
        wait_for(lambda: node in {chat_served_by(platform) for _ in range(4)}, 120, "a job on the machine that joined by the shell")
    finally:
        process.terminate()
        process.wait(60)
        assert processes.end_all(lambda: processes.marked(f"shell-{platform.world.name}"), polite_s=5, limit_s=20) == ()
        runtime.terminate()


def test_row_44_a_machine_with_a_wrong_token_of_the_cluster_is_refused_in_a_sentence(platform):
    newcomer = Newcomer(platform, platform.world.machines[1], "stranger").join(platform.invite("stranger", token="0" * 64))
    said = newcomer.refused()
    assert "refuses the token of this invite" in said
    assert "hint: ask for a new invite" in said


@pytest.mark.parametrize(
    ("field", "version", "remedy"), [("ray", "2.59.0", "pip install 'ray[default]==2.59.0'"), ("python", "3.9", "install Python 3.9")]
)
def test_another_version_is_refused_before_anything_starts(platform, field, version, remedy):
    newcomer = Newcomer(platform, platform.world.machines[1], f"old-{field}").join(platform.invite("old", **{field: version}))
    said = newcomer.refused(30)
    assert version in said
    assert remedy in said
    assert "starting Ray" not in said


def test_a_head_that_nobody_reaches_is_refused_in_a_sentence(platform):
    newcomer = Newcomer(platform, platform.world.machines[1], "lost").join(platform.invite("lost", head="10.77.0.99:6379"))
    said = newcomer.refused(60)
    assert "the cluster's head does not answer at 10.77.0.99:6379" in said
    assert "hint: both machines must be in one private network" in said


def test_a_machine_that_the_head_cannot_reach_is_refused_and_told_of_the_agent(platform):
    machine = platform.world.machines[2]
    machine.also_has("10.99.0.5")
    newcomer = Newcomer(platform, machine, "nat").join(platform.invite("nat"), "--address", "10.99.0.5")
    said = newcomer.refused(300)
    assert "the head cannot open connections to 10.99.0.5 (NAT or a firewall)" in said
    assert "`gfe agent`" in said
