"""Every port of the head and of a machine that joined, tried from another machine: only the listed ones answer."""

import json
import sys

import pytest

from provider_join.join import WORKER_WINDOW, Ports
from serve_app.local.listening import listening
from tests.listed_ports import EVERYWHERE, OPERATIONS, WINDOWS, listed, name_of
from tests.world.network import why_not
from tests.world.platform import wait_until_all_are_well

REASON = why_not()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.timeout(600)]
OTHERS = "GFE_NODE_ADDRESS"  # how the table calls what other machines may reach
SCAN = """
import json, socket, sys
opened = []
for port in range(1, 65536):
    with socket.socket() as trying:
        trying.settimeout(2)
        if trying.connect_ex((sys.argv[1], port)) == 0:
            opened.append(port)
print(json.dumps(opened))
"""


def scan(source, target):
    """Try each port of one machine from another."""
    done = source.run([sys.executable, "-c", SCAN, target.address], capture_output=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_of_the_head_only_the_listed_ports_answer(platform):
    opened = scan(platform.world.machines[1], platform.machine)
    rows, ports = listed(), json.loads((platform.folder / "home" / "run" / "ports.json").read_text())
    held = {socket.port: socket for socket in listening(one.pid for one in platform.machine.processes()) if not socket.is_loopback}
    names = {port: name_of(held[port], ports) for port in opened}
    assert {name for name in names.values() if not (OTHERS in rows[name].bound or rows[name].bound.startswith(EVERYWHERE))} == set()
    reachable = {name for name, row in rows.items() if OTHERS in row.bound}
    assert reachable - set(names.values()) == set()
    assert {"api", "console", "dashboard", "guard", "edge"} & set(names.values()) == set()
    assert len(opened) < len(reachable) + WINDOWS["worker_window"]


def test_of_a_machine_that_joined_only_its_nodes_ports_answer(platform, machines):
    wait_until_all_are_well(machines)
    plan = Ports()
    opened = scan(platform.machine, machines[0].machine)
    first, length = WORKER_WINDOW
    assert opened - {*plan.single[:7], *range(first, first + length)} == set()
    assert set(plan.single[:7]) <= opened
    assert plan.words in OPERATIONS.read_text()
