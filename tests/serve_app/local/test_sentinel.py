import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import processes
from serve_app.local import client
from serve_app.local.sentinel import LOCK_IS_HELD
from tests.serve_app.local.programs import FAMILY

# A supervisor that starts a family (see programs.py) and then waits.
SUPERVISOR = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], sys.argv[2]], start_new_session=True)
with open(sys.argv[3], "w") as file: file.write("on")
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a sentinel over a supervisor with grandchildren; ends what a failed test leaves."""
    started = []

    def begin(*command: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "serve_app.local.sentinel", str(tmp_path / "lock"), sys.executable, *command]
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        for left in (*processes.descendants(process.pid), *filter(None, [processes.process_of(process.pid)])):
            processes.send(left, signal.SIGKILL)
        process.wait(60)


def wait_for_text(path: Path) -> str:
    until = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until, f"{path} was never written"
        time.sleep(0.02)
    return path.read_text()


def family(start, tmp_path) -> tuple[subprocess.Popen, processes.Process, list[processes.Process]]:
    sentinel = start("-S", "-c", SUPERVISOR, FAMILY, str(tmp_path / "note"), str(tmp_path / "on"))
    wait_for_text(tmp_path / "on")
    grandchild = int(wait_for_text(tmp_path / "note"))
    everyone = list(processes.descendants(sentinel.pid))
    assert grandchild in {process.pid for process in everyone}
    return sentinel, everyone[0], everyone


def test_sigkill_of_the_supervisor_leaves_nothing_not_even_stubborn_grandchildren(start, tmp_path):
    sentinel, supervisor, everyone = family(start, tmp_path)
    assert len(everyone) == 3
    processes.send(supervisor, signal.SIGKILL)
    assert sentinel.wait(60) != 0
    assert [process for process in everyone if processes.is_alive(process)] == []


def test_the_lock_is_held_until_nothing_is_left(start, tmp_path):
    sentinel, supervisor, everyone = family(start, tmp_path)
    assert client.is_locked(tmp_path / "lock")
    processes.send(supervisor, signal.SIGKILL)
    while client.is_locked(tmp_path / "lock"):
        time.sleep(0.01)
    assert not any(processes.is_alive(process) for process in everyone)
    sentinel.wait(60)


def test_a_second_sentinel_of_the_same_installation_gives_way(start, tmp_path):
    family(start, tmp_path)
    assert start("-c", "print('never runs')").wait(60) == LOCK_IS_HELD


def test_a_request_to_stop_reaches_the_supervisor(start, tmp_path):
    program = "import pathlib, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); pathlib.Path(sys.argv[1]).write_text('on'); signal.pause()"
    sentinel = start("-c", program, str(tmp_path / "on"))
    wait_for_text(tmp_path / "on")
    sentinel.send_signal(signal.SIGTERM)
    assert sentinel.wait(60) == 7


def test_the_supervisor_is_told_when_the_sentinel_dies(start, tmp_path):
    program = "import os, pathlib, signal, sys; pathlib.Path(sys.argv[1]).write_text('on'); signal.pause()"
    sentinel = start("-c", program, str(tmp_path / "on"))
    wait_for_text(tmp_path / "on")
    supervisor = processes.descendants(sentinel.pid)[0]
    os.kill(sentinel.pid, signal.SIGKILL)
    assert processes.wait_gone([supervisor], 5) == ()


def test_a_process_with_a_used_again_id_is_not_touched():
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    try:
        real = processes.process_of(child.pid)
        stranger = processes.Process(real.pid, real.start - 1)
        processes.send(stranger, signal.SIGKILL)
        assert processes.is_alive(real)
        assert not processes.is_alive(stranger)
    finally:
        child.kill()
        child.wait()


def test_processes_are_found_by_their_installations_mark():
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, env={processes.MARK: "0123abcd", "GFE_PART": "ray"}
    )
    try:
        until = time.monotonic() + 5
        while processes.environment_of(child.pid).get("GFE_PART") != "ray":  # between fork and exec it still shows ours
            assert time.monotonic() < until
        assert [process.pid for process in processes.marked("0123abcd")] == [child.pid]
        assert processes.marked("ffffffff") == ()
    finally:
        child.kill()
        child.wait()
        child.stdin.close()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ray::ServeReplica:gfe:Api", "replica"),
        ("ray::ServeController", "serve_controller"),
        ("ray::DispatcherActor.exchange", "dispatcher"),
        ("ray::WorkerActor", "worker"),
        ("/a b/haproxy\0-db\0-f\0/tmp/haproxy.cfg", "haproxy"),
        ("ray::HAProxyManager.ready", "haproxy_manager"),
        ("/v/bin/python\0-P\0-m\0cluster.runtime.child", "model"),
        ("/bin/sh\0-c\0true", None),
    ],
)
def test_processes_are_named_for_operators(command, name):
    assert client.kind_of(command.split("\0")) == name
