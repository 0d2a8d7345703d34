"""The head's Ray dies without stored state: a running `gfe join` joins again by itself, with the same invite, and a drain lasts."""

import sys
import time
from dataclasses import replace

import pytest

from cluster import invite as invites
from cluster import processes
from provider_join.home import NodeHome
from tests.waiting import wait_for
from tests.world.network import why_not
from tests.world.platform import Newcomer
from tests.world.test_join import chat_served_by

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow, pytest.mark.timeout(600)
]  # fmt: skip
TARGET_S = 90  # from the head's death to a new job on the machine that joined again


@pytest.mark.nightly
def test_after_the_heads_death_a_join_that_runs_joins_again_and_a_drained_machine_stays_drained(platform):
    newcomer = Newcomer(platform, platform.world.machines[2], "annex")
    invite = platform.invite("annex")
    newcomer.join(invite).joined()
    node = invites.read(invite).node
    try:
        assert platform.gfe("nodes", "drain", "annex").returncode == 0
        wait_for(lambda: platform.nodes()["annex"]["draining"], 10, "the drain")
        began = time.monotonic()
        platform.machine.kill("gcs_server", "raylet/raylet")
        wait_for(lambda: "joined again" in newcomer.said(), 3 * TARGET_S, "the machine to join again")
        wait_for(lambda: "annex" in platform.nodes(), TARGET_S, "the head to know it")
        assert platform.nodes()["annex"]["draining"]
        assert platform.gfe("nodes", "resume", "annex").returncode == 0
        wait_for(lambda: platform.nodes().get("annex", {}).get("healthy"), 30, "the machine to be well")
        wait_for(lambda: node in {chat_served_by(platform) for _ in range(4)}, TARGET_S, "a job there")
        took_s = time.monotonic() - began
        sys.stdout.write(
            f"\nrow 22: a job on the machine that joined again {took_s:.0f} s after the head's death; it said:\n{newcomer.said()}\n"
        )
        assert took_s <= 3 * TARGET_S
        assert newcomer.process.poll() is None
    finally:
        left = newcomer.leave()
    assert left.returncode == 0, left.stderr
    assert newcomer.process.wait(60) == 0
    assert processes.marked(NodeHome(newcomer.home).tag) == ()


def test_a_clock_that_is_not_the_heads_is_refused_before_anything_starts(platform):
    machine = platform.world.machines[2]
    program = (
        "import http.server, time, email.utils\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "    def date_time_string(self, t=None): return email.utils.formatdate(time.time() + 95, usegmt=True)\n"
        f"http.server.HTTPServer(('{machine.address}', 8300), H).serve_forever()\n"
    )
    clock = machine.start([sys.executable, "-c", program], environment=platform.environment, log=platform.folder / "clock.log")
    try:
        wait_for(lambda: machine.run(["curl", "-s", f"http://{machine.address}:8300/"]).returncode == 0, 10, "the clock")
        invite = invites.write(replace(invites.read(platform.invite("late")), clock=f"{machine.address}:8300"))
        said = Newcomer(platform, machine, "late").join(invite).refused(60)
    finally:
        clock.terminate()
    assert "behind the head's" in said
    assert "hint: set both by the network's time" in said
    assert "starting Ray" not in said


@pytest.mark.nightly
def test_the_heads_own_clock_is_asked_for_and_agrees(platform):
    machine = platform.world.machines[2]
    wait_for(lambda: platform.gfe("status").returncode == 0, TARGET_S, "the head to be well")
    invite = invites.read(platform.invite("asks"))
    newcomer = Newcomer(platform, machine, "asks").join(invites.write(replace(invite, token="0" * 64)))
    said = newcomer.refused()
    assert "the clock agrees with the head's" in said
    assert "no Ollama answers here: the embedded runtime" in said
    assert "GPU RTX 3060 (12 GiB)" in said
