"""Joins a machine of the operator's own to the cluster: `ray start` with labels and pinned ports, believed only when the head has come back.

A raylet that says "started" proves nothing: behind NAT it shows alive at the head, runs nothing, and is dropped after half a minute
(measured). Here the head's Dispatcher must have started the worker on this machine and opened its connection to it; the worker says so in
a file of this machine's owner.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import processes, ray_start
from cluster.invite import Invite
from cluster.runtime.choose import RuntimeUnusable, choose_for
from provider_join import doctor
from provider_join.errors import JoinError, NotFit, NotReachable, StartFailed, TokenRefused
from provider_join.home import NodeHome

PORT_BASE = 8076
WORKER_WINDOW = (10_002, 100)  # first port and how many, of Ray's processes
TRIES = 3
START_LIMIT_S = 120.0
REJOIN_LIMIT_S = 1800.0  # how long a machine that had joined tries to come back
REJOIN_FIRST_S = 1.0
REJOIN_LAST_S = 20.0
REACH_LIMIT_S = 60.0  # from Ray's start to the head's visit
RUNTIME_LIMIT_S = 180.0  # the first start of the embedded runtime fetches a model
DRAIN_LIMIT_S = 900.0
LOOK_S = 0.2
STARTED = "Ray runtime started"
NO_TOKEN = ("InvalidAuthToken", "AuthenticationError", "Unauthenticated")
TAIL_BYTES = 4000
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of a node, all of which the head must reach."""

    base: int = PORT_BASE
    window: int = WORKER_WINDOW[0]

    @property
    def single(self) -> tuple[int, ...]:
        """Node manager, object manager, runtime environments, agent, agent's gRPC, metrics, our worker, the embedded runtime."""
        return tuple(range(self.base, self.base + 8))

    @property
    def words(self) -> str:
        """How a firewall's owner reads them."""
        return f"{self.base} to {self.base + 6} and {self.window} to {self.window + WORKER_WINDOW[1] - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides how this machine joins."""

    invite: Invite
    home: NodeHome
    ports: Ports
    address: str
    runtime_url: str | None  # None: the embedded one
    slots: int | None
    simulated_gpus: str | None


def plan(
    invite: Invite, home: NodeHome, ports: Ports, tell: Tell, *, address: str | None, slots: int | None, environment: Mapping[str, str]
) -> Plan:
    """Check the machine, tell what was found, and decide.

    Raises:
        NotFit: It lacks something.
        HeadUnreachable: The head does not answer.
    """
    own = address or doctor.reach(invite.head)
    doctor.check(invite, ports.single, own, tell)
    try:
        runtime = choose_for(environment)
    except RuntimeUnusable as unusable:
        raise NotFit(unusable.what, unusable.hint) from unusable
    simulated = environment.get("GFE_SIMULATED_GPUS")
    tell("no Ollama answers here: the embedded runtime" if runtime.url is None else f"Ollama {runtime.version} at {runtime.url}")
    tell(doctor.gpus(simulated))
    return Plan(invite=invite, home=home, ports=ports, address=own, runtime_url=runtime.url, slots=slots, simulated_gpus=simulated)


def command_of(plan: Plan, python: Path) -> list[str]:
    """Write the command that starts Ray here."""
    manager, objects, environments, agent, agent_grpc, metrics, *_ = plan.ports.single
    invite, name = plan.invite, _label(plan.invite.name)
    return [
        str(python), "-P", "-m", "ray.scripts.scripts", "start", "--address", invite.head, "--block", "--node-ip-address", plan.address,
        "--node-manager-port", str(manager), "--object-manager-port", str(objects), "--runtime-env-agent-port", str(environments),
        "--dashboard-agent-listen-port", str(agent), "--dashboard-agent-grpc-port", str(agent_grpc), "--metrics-export-port", str(metrics),
        "--min-worker-port", str(plan.ports.window), "--max-worker-port", str(plan.ports.window + WORKER_WINDOW[1] - 1),
        "--num-cpus", "0", "--num-gpus", "0", "--node-name", name, "--labels", f"gfe.io/node={invite.node},gfe.io/name={name},gfe.io/role=worker",
        "--object-store-memory", str(ray_start.OBJECT_STORE_BYTES), "--temp-dir", str(plan.home.ray), "--disable-usage-stats",
        "--log-style", "record", "--log-color", "false",
    ]  # fmt: skip


def environment_of(plan: Plan, given: Mapping[str, str]) -> dict[str, str]:
    """Write Ray's environment: the caller's without what is ours or Ray's, then what this node says to its worker."""
    dropped = ("GFE_", "RAY_")
    passed = {name: value for name, value in given.items() if not name.startswith(dropped) and name != "PYTHONDONTWRITEBYTECODE"}
    runtime_url = plan.runtime_url or f"http://127.0.0.1:{plan.ports.single[7]}"
    own = {
        "GFE_NODE_RUNTIME_URL": runtime_url, "GFE_NODE_HOST": plan.address, "GFE_NODE_PORT": str(plan.ports.single[6]),
        "GFE_NODE_NOTES": str(plan.home.notes), processes.MARK: plan.home.tag,
    }  # fmt: skip
    if plan.slots is not None:
        own["GFE_NODE_SLOTS"] = str(plan.slots)
    if plan.simulated_gpus:
        own["GFE_NODE_GPUS"] = plan.simulated_gpus
    if given.get("GFE_ZONE"):
        own["GFE_NODE_ZONE"] = given["GFE_ZONE"]
    own |= {name: given[name] for name in ("GFE_NODE_PULL", "GFE_NODE_PARTIAL") if given.get(name)}
    return passed | ray_start.settings(plan.home.token_file) | own


def _label(name: str) -> str:
    """Write a name as Ray takes labels: letters, digits, `-`, `_` and `.`, 63 at most, no such sign at its ends."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in name)[:63].strip("-_.") or "node"


class Joined:
    """This machine as a node: what runs for it, until it leaves."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self._plan = plan
        self._tell = tell
        self._runtime: subprocess.Popen[bytes] | None = None
        self._ray: subprocess.Popen[bytes] | None = None
        self._stops = 0

    def stop(self, *_: object) -> None:
        """Wish to leave (a signal handler): the first time after what runs, the second time at once."""
        self._stops += 1

    def join(self) -> dict[str, Any]:
        """Start, and wait until the head has come to this machine; answer what it offers.

        Raises:
            JoinError: It did not work; nothing is left running.
        """
        home, invite = self._plan.home, self._plan.invite
        try:
            self._end_leftovers()
            home.make()
            home.keep_secret(home.token_file, invite.token)
            offer = self._start()
        except BaseException:
            self.end()
            raise
        home.state_file.write_text(json.dumps({"pid": os.getpid(), "node": invite.node, "name": invite.name, "head": invite.head}))
        return offer

    def _start(self) -> dict[str, Any]:
        """Start what does not run, and wait for the head; answer what is offered."""
        self._plan.home.forget_visit()
        if self._runtime is None or self._runtime.poll() is not None:
            self._start_runtime()
        self._start_ray()
        return self._wait_for_head()

    def serve(self) -> None:
        """Serve until somebody wishes to leave; when Ray ends here, as it does when the head restarts, join again.

        Raises:
            JoinError: For `REJOIN_LIMIT_S` it could not join again, or it is not wanted any more.
        """
        while True:
            try:
                self._wait()
            except StartFailed as ended:
                self._tell(f"{ended}; joins again")
                self._rejoin()
            else:
                self._drain()
                return

    @property
    def _wishes_to_leave(self) -> bool:
        return bool(self._stops) or (self._plan.home.notes / "drain").exists()

    def _wait(self) -> None:
        """Wait for the wish to leave.

        Raises:
            StartFailed: Ray or the runtime ended by itself.
        """
        while not self._wishes_to_leave:
            self._require_alive()
            time.sleep(LOOK_S)

    def _rejoin(self) -> None:
        """Try to join again until it works, or somebody wishes to leave."""
        until, wait_s = time.monotonic() + REJOIN_LIMIT_S, REJOIN_FIRST_S
        while not self._wishes_to_leave:
            self._end_ray()
            try:
                doctor.reach(self._plan.invite.head)
                self._start()
            except (TokenRefused, NotFit):
                raise
            except JoinError as failed:
                if time.monotonic() > until:
                    raise
                self._tell(f"{failed}; tries again in {wait_s:.0f} s")
            else:
                self._tell("joined again")
                return
            self._pause(wait_s)
            wait_s = min(REJOIN_LAST_S, 2 * wait_s)

    def _pause(self, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not self._wishes_to_leave and time.monotonic() < until:
            time.sleep(LOOK_S)

    def _drain(self) -> None:
        notes = self._plan.home.notes
        (notes / "drain").touch()
        self._tell("takes no new jobs; waits for those that run (again to end them)")
        until = time.monotonic() + DRAIN_LIMIT_S
        while not (notes / "drained").exists() and self._stops < 2 and time.monotonic() < until:
            if self._ray is None or self._ray.poll() is not None:
                return
            time.sleep(LOOK_S)

    def end(self) -> None:
        """End everything that runs for this node."""
        self._end_leftovers()
        for process in (self._ray, self._runtime):
            if process is not None:
                process.wait()
        self._plan.home.state_file.unlink(missing_ok=True)
        self._plan.home.token_file.unlink(missing_ok=True)

    def _end_leftovers(self) -> None:
        left = processes.end_all(lambda: processes.marked(self._plan.home.tag), polite_s=8, limit_s=20)
        if left:
            raise StartFailed(f"processes of an earlier join do not end: {left[0].pid}", f"kill -KILL {left[0].pid}")

    # --- the runtime ---------------------------------------------------------------------------------------------------------------

    def _start_runtime(self) -> None:
        """Start the embedded runtime where no Ollama answers."""
        if self._plan.runtime_url is not None:
            return
        self._tell("starting the embedded runtime")
        port, store = str(self._plan.ports.single[7]), str(self._plan.home.models)
        command = [sys.executable, "-P", "-m", "cluster.runtime.front", "--host", "127.0.0.1", "--port", port, "--store", store]
        self._runtime = self._spawn(command, dict(os.environ) | {processes.MARK: self._plan.home.tag}, self._plan.home.root / "runtime.log")
        from cluster.runtime.choose import probe  # noqa: PLC0415 - only here

        until = time.monotonic() + RUNTIME_LIMIT_S
        while probe(f"http://127.0.0.1:{port}") is None:
            if self._runtime.poll() is not None or time.monotonic() > until:
                raise StartFailed("the embedded runtime did not start", f"see {self._plan.home.root / 'runtime.log'}")
            time.sleep(LOOK_S)

    # --- Ray -----------------------------------------------------------------------------------------------------------------------

    def _start_ray(self) -> None:
        python = ray_start.ray_python(self._plan.home.ray / "python")
        said = ""
        for attempt in range(1, TRIES + 1):
            self._tell(f"starting Ray (try {attempt} of {TRIES})")
            self._plan.home.log.write_bytes(b"")
            self._ray = self._spawn(command_of(self._plan, python), environment_of(self._plan, os.environ), self._plan.home.log)
            if self._has_started():
                return
            said = _tail(self._plan.home.log)
            if any(word in said for word in NO_TOKEN):
                raise TokenRefused(self._plan.invite.head)
            self._end_ray()
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise StartFailed(f"Ray did not start on this machine: {last[:200]}", f"see {self._plan.home.log}")

    def _has_started(self) -> bool:
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until and not self._stops:
            assert self._ray is not None
            if STARTED in _tail(self._plan.home.log):
                return True
            if self._ray.poll() is not None:
                return False
            time.sleep(LOOK_S)
        return False

    def _end_ray(self) -> None:
        """End this try's processes by id, so that the next one finds no leftovers."""
        runtime = None if self._runtime is None else processes.process_of(self._runtime.pid)
        kept = {runtime, *(processes.descendants(self._runtime.pid) if self._runtime else ())}
        processes.end_all(lambda: tuple(one for one in processes.marked(self._plan.home.tag) if one not in kept), polite_s=5, limit_s=15)

    def _wait_for_head(self) -> dict[str, Any]:
        self._tell("waiting for the head to come to this machine")
        offer = self._plan.home.notes / "offer"
        until = time.monotonic() + REACH_LIMIT_S
        while not offer.exists():
            if self._stops:
                raise StartFailed("the join was given up", "run the same command again")
            if self._ray is None or self._ray.poll() is not None or time.monotonic() > until:
                raise NotReachable(self._plan.address, self._plan.ports.words)
            time.sleep(LOOK_S)
        said: dict[str, Any] = json.loads(offer.read_text())
        return said

    def _require_alive(self) -> None:
        for name, process in (("Ray", self._ray), ("the embedded runtime", self._runtime)):
            if process is not None and process.poll() is not None:
                raise StartFailed(f"{name} ended on this machine", f"see {self._plan.home.log}; then run `gfe join` again")

    def _spawn(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd="/", start_new_session=True)


def run(plan: Plan, tell: Tell, joined: Callable[[dict[str, Any]], None]) -> None:
    """Join, say so, serve until told to leave.

    Raises:
        JoinError: It did not work, or ended by itself.
    """
    node = Joined(plan, tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, node.stop)
    joined(node.join())
    try:
        node.serve()
    finally:
        node.end()


def leave(home: NodeHome, tell: Tell) -> str | None:
    """Let what runs here finish, then leave; answer the node's name, None when this machine had not joined.

    Raises:
        JoinError: It does not end.
    """
    try:
        state = json.loads(home.state_file.read_text())
    except (OSError, ValueError):
        return None
    process = processes.process_of(int(state["pid"]))
    if process is None:
        return None
    (home.notes / "drain").touch()
    tell("takes no new jobs; waits for those that run")
    if processes.wait_gone([process], DRAIN_LIMIT_S + 30):
        raise JoinError(f"it does not end (process {process.pid})", f"kill -TERM {process.pid} twice ends it with its jobs")
    return str(state["name"])


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
