"""Machines of a test's own: namespaces on one bridge. What runs in one sees its own addresses, ports and processes, and no other network."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from cluster import processes

NETWORK = "10.77.0"


def why_not() -> str | None:
    """Tell why there can be no namespaces here; None: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (iproute2)"
    done = subprocess.run(["ip", "netns", "add", name := f"gfe-try-{uuid.uuid4().hex[:6]}"], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


# The first process of a machine: it waits for what others leave behind, and all end with it.
INIT = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", "while :; do sleep 1; done"]
START_LIMIT_S = 10


class Started(subprocess.Popen):
    """A command on a machine, seen from outside: `nsenter` waits for it and passes its status on, but no signals."""

    def terminate(self):
        for process in processes.descendants(self.pid)[:1]:
            processes.send(process, signal.SIGTERM)


class Machine:
    """One set of namespaces with one address on the bridge."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.namespace = f"{world.name}-{number}"
        self.address = f"{NETWORK}.{number}"

    def boot(self):
        """Start its first process."""
        self._init = subprocess.Popen(["ip", "netns", "exec", self.namespace, *INIT], start_new_session=True)
        until = time.monotonic() + START_LIMIT_S
        while not (found := processes.descendants(self._init.pid)):
            assert time.monotonic() < until, f"{self.address} does not boot"
            time.sleep(0.01)
        self._inside = ["nsenter", "--target", str(found[0].pid), "--net", "--pid", "--mount", "--"]

    def shut_down(self):
        """End it and all that runs on it."""
        self._init.kill()
        self._init.wait()

    def run(self, command, *, environment=None, **options):
        """Run a command there to its end."""
        return subprocess.run([*self._inside, *command], env=environment, text=True, check=False, **options)

    def start(self, command, *, environment, log, folder="/"):
        """Start a command there; ended with the world."""
        with Path(log).open("ab") as file:
            words = [*self._inside, "env", "-C", str(folder), *command]
            process = Started(words, env=environment, stdout=file, stderr=file, start_new_session=True)
        self.world.processes.append(process)
        return process

    def also_has(self, address):
        """Give it an address that nobody else can reach: what a router's inner side looks like from outside."""
        _ip("-n", self.namespace, "addr", "add", f"{address}/32", "dev", "lo")

    def cut(self):
        """Pull the plug of its network."""
        _ip("-n", self.world.hub, "link", "set", f"p{self.number}", "down")

    def heal(self):
        """Put it in again."""
        _ip("-n", self.world.hub, "link", "set", f"p{self.number}", "up")

    def deafen(self):
        """Lose all that is sent to it; what it sends still arrives (a partition in one direction)."""
        self._bridge("replace", f"p{self.number % len(self.world.machines) + 1}")  # frames for it leave by another machine's port

    def undeafen(self):
        """Let it hear again."""
        self._bridge("replace", f"p{self.number}")

    def _bridge(self, verb, port):
        shown = self.run(["cat", f"/sys/class/net/v{self.number}/address"], capture_output=True).stdout.strip()
        subprocess.run(["bridge", "-n", self.world.hub, "fdb", verb, shown, "dev", port, "master", "static", "sticky"], check=True)

    def slow_down(self, rate="1mbit", latency="400ms"):
        """Make its line thin: what it sends waits in a queue of at most so long (netem is missing in many kernels)."""
        device = ["dev", f"v{self.number}", "root"]
        subprocess.run(
            ["tc", "-n", self.namespace, "qdisc", "add", *device, "tbf", "rate", rate, "burst", "32k", "latency", latency], check=True
        )

    def speed_up(self):
        """Give it its line back."""
        subprocess.run(["tc", "-n", self.namespace, "qdisc", "del", "dev", f"v{self.number}", "root"], check=True)

    # --- its processes ---------------------------------------------------------------------------------------------------------------

    def processes(self):
        """All processes that run on it."""
        said = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True).stdout
        return [found for pid in said.split() if int(pid) != self._init.pid and (found := processes.process_of(int(pid)))]

    def find(self, *words):
        """Its processes whose command line has all these words."""
        commands = [(one, processes.command_of(one.pid)) for one in self.processes()]
        return [one for one, command in commands if not command.startswith("nsenter ") and all(word in command for word in words)]

    def kill(self, *names):
        """End at once what has one of these names in its command line, without a word."""
        found = [one for name in names for one in self.find(name)]
        assert found, f"{self.address} runs nothing with {names}"
        for one in found:
            processes.send(one, signal.SIGKILL)
        assert processes.wait_gone(found, 10) == ()

    def freeze(self):
        """Stop all that runs on it, as a machine in deep sleep; again until nothing new appears."""
        stopped = set()
        while fresh := set(self.processes()) - stopped:
            for one in fresh:
                processes.send(one, signal.SIGSTOP)
            stopped |= fresh

    def thaw(self):
        """Let it run on; again until none is stopped: `nsenter` stops itself when its child stops."""
        until = time.monotonic() + START_LIMIT_S
        while stopped := [one for one in self.processes() if (row := processes.row_of(one.pid)) and row.state == "T"]:
            assert time.monotonic() < until, f"{stopped} do not run on"
            for one in stopped:
                processes.send(one, signal.SIGCONT)
            time.sleep(0.02)


class World:
    """Machines 1 to n and the bridge between them."""

    def __init__(self, count):
        self.name = f"gfe-{uuid.uuid4().hex[:6]}"
        self.hub = f"{self.name}-hub"
        self.processes = []
        self.machines = [Machine(self, number) for number in range(1, count + 1)]

    def __enter__(self):
        _ip("netns", "add", self.hub)
        _ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "bridge", "up")
        for machine in self.machines:
            _ip("netns", "add", machine.namespace)
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
            inner, outer = f"v{machine.number}", f"p{machine.number}"
            _ip("-n", self.hub, "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", machine.namespace)
            _ip("-n", self.hub, "link", "set", outer, "master", "bridge", "up")
            _ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", inner)
            _ip("-n", machine.namespace, "link", "set", inner, "up")
            machine.boot()
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.thaw()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        for machine in self.machines:
            machine.shut_down()
        for namespace in (*(machine.namespace for machine in self.machines), self.hub):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def _ip(*words):
    subprocess.run(["ip", *words], check=True)
