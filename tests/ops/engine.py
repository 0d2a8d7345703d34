"""Runs services of compose.yaml without a container engine, so that what the file promises is what the kernel does.

Each service has namespaces of its own (network, mounts, processes), the root of its image, read only, its user without capabilities, its
mounts, and an address in each of its networks, which are bridges. Names are told by /etc/hosts. What images of other people would bring has
stand-ins that its caller gives. Memory limits and internal networks' missing way out are not reproduced: there is no way out at all.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from tests.ops.built import ROOT, Image
from tests.ops.compose import environment_of, filled, mounts_of, networks_of

START_LIMIT_S = 240
STOP_LIMIT_S = 40
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# The first process of a service: mounts are made, then it becomes an init that passes SIGTERM on and waits for whoever is left behind.
INIT = """set -e
{mounts}
trap 'kill -TERM $child' TERM
chroot {root} /usr/bin/setpriv {rights} /usr/bin/env -i -C {folder} {settings} {command} &
child=$!
set +e
wait $child; status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
exit $status
"""


class Service:
    """One service: how it is started, and what has become of it."""

    def __init__(self, engine: "Engine", name: str, image: Image) -> None:
        self.engine, self.name, self.image = engine, name, image
        self.config = engine.config["services"][name]
        mode = str(self.config.get("network_mode", ""))
        self.host = mode.removeprefix("service:") if mode.startswith("service:") else name  # whose network it is in
        self.namespace = f"{engine.tag}-{self.host}"
        self.log = engine.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, str]:
        return {**self.image.environment, **environment_of(self.config, self.engine.environment)}

    @property
    def rights(self) -> list[str]:
        """Its user and groups, and of root's powers what the file adds."""
        uid, _, gid = str(self.config.get("user", self.image.user)).partition(":")
        groups = ",".join(map(str, self.config.get("group_add", ())))
        added = "".join(f",+{name.lower()}" for name in self.config.get("cap_add", ()))
        kept = [f"--bounding-set=-all{added}", f"--inh-caps=-all{added}"]
        return [f"--reuid={uid}", f"--regid={gid or uid}", f"--groups={groups}" if groups else "--clear-groups", *kept, "--no-new-privs"]

    def start(self) -> None:
        """Start it; its root, its networks and its mounts are its own."""
        root = self.engine.folder / "roots" / self.name
        root.mkdir(parents=True, exist_ok=True)
        command = self.config.get("command") or self.image.command
        script = INIT.format(
            mounts="\n".join(self._mounts(root)), root=root, rights=shlex.join(self.rights), folder=self.image.folder,
            settings=shlex.join(f"{name}={value}" for name, value in self.settings.items()),
            command=shlex.join([*self.engine.entries.get(self.name, ()), *map(str, command)]),
        )  # fmt: skip
        inside = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--ipc",
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _mounts(self, root: Path) -> list[str]:
        """The commands that make its file system; places of mounts are made in a layer of their own, for nothing else can be written."""
        top = self.engine.folder / "tops" / self.name
        (top / "etc").mkdir(parents=True, exist_ok=True)
        (top / "etc/hosts").write_text(self.engine.hosts(self.host))
        yours = [*mounts_of(self.config)]
        temporary = [one.partition(":") for one in self.config.get("tmpfs", ())]
        for place in (*(place for _, place, _ in yours), *(place for place, _, _ in temporary), "/dev", "/proc", "/usr/local"):
            inside = top / place.lstrip("/")
            source = next((source for source, where, _ in yours if where == place), "")
            if source.startswith("./") and (ROOT / source).is_file():
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            elif not place.startswith("/usr"):
                inside.mkdir(parents=True, exist_ok=True)
        words = [f"mount -t overlay overlay -o lowerdir={':'.join([str(top), *self.image.layers])} {root}"]
        words += [f"mount --bind /usr {root}/usr", f"mount --bind {sys.base_prefix} {root}/usr/local"]
        words += [f"mount -o remount,bind,ro,nosuid {root}/usr{more}" for more in ("", "/local")]
        words += [f"mount -t proc proc {root}/proc", f"mount -t tmpfs -o size=64k,mode=755 tmpfs {root}/dev"]
        words += [f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}" for name in DEVICES]
        words += [
            f"mkdir -m 1777 {root}/dev/shm && mount -t tmpfs -o size={self.config.get('shm_size', '64m')},mode=1777 tmpfs {root}/dev/shm"
        ]
        words += [f"ln -s /proc/self/fd {root}/dev/fd"]
        for place, _, options in temporary:
            modes = options if "mode=" in options else f"{options},mode=1777"
            words.append(f"mount -t tmpfs -o noexec,nosuid,nodev,{modes} tmpfs {root}{place}")
        for source, place, is_writable in yours:
            words.append(f"mount --bind {self.engine.source(source)} {root}{place}")
            words.append(f"mount -o remount,bind,nosuid,nodev{'' if is_writable else ',ro'} {root}{place}")
        return words

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, as the same user: `docker compose exec`."""
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        enter = ["nsenter", "--target", str(self._inner()), "--net", "--mount", "--pid", "--ipc"]
        inside = [
            "chroot",
            str(self.engine.folder / "roots" / self.name),
            "/usr/bin/setpriv",
            *self.rights,
            "/usr/bin/env",
            "-i",
            "-C",
            "/",
            *settings,
        ]
        return subprocess.run([*enter, *inside, *command], capture_output=True, text=True, check=False, timeout=60)

    def _inner(self) -> int:
        """The init: the child of what waits for it."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(path.read_text().split()[0])

    def health(self) -> str | None:
        """Ask its health check; None: well."""
        said = self.config.get("healthcheck", {}).get("test")
        command = list(map(str, said[1:])) if said else self.image.health
        done = self.run(*command)
        return None if done.returncode == 0 else (done.stderr or done.stdout or f"status {done.returncode}").strip()

    def wait_until_well(self) -> None:
        assert self.process is not None
        until = time.monotonic() + START_LIMIT_S
        why: str | None = "not asked"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")
            try:
                if (why := self.health()) is None:
                    return
            except (OSError, IndexError, subprocess.TimeoutExpired) as early:
                why = str(early)
            time.sleep(0.5)
        raise AssertionError(f"{self.name} is not well: {why}\n{self.said()}")

    def wait_until_done(self) -> None:
        assert self.process is not None
        status = self.process.wait(START_LIMIT_S)
        assert status == 0, f"{self.name} ended with {status}:\n{self.said()}"

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def stop(self) -> int:
        """Ask it to end as an engine does; answer its status."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self._inner(), 15)
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -9


class Engine:
    """The services of one file, each by the image that it names or a stand-in."""

    def __init__(
        self, folder: Path, config: dict[str, Any], environment: dict[str, str], images: dict[str, Image], entries: dict[str, list[str]]
    ) -> None:
        self.folder, self.environment = folder, environment
        self.config = filled(config, environment)
        self.entries = entries  # what stands before a service's command, as an image's entry point does
        self.tag = f"gfe-{uuid.uuid4().hex[:5]}"
        self.hub = f"{self.tag}-hub"
        self._numbers = itertools.count(100)
        self._namespaces: list[str] = []
        self._used = [name for name, service in self.config["services"].items() if service.get("build", {}).get("target", name) in images]
        self.services = {
            name: Service(self, name, images[self.config["services"][name].get("build", {}).get("target", name)]) for name in self._used
        }
        self._addresses = {name: dict(self._placed(networks_of(self.config["services"][name]))) for name in self._used}

    def _placed(self, networks: dict[str, str | None]) -> Any:
        for name, address in networks.items():
            yield name, address or str(self._subnet(name)[next(self._numbers)])

    def _subnet(self, name: str) -> Any:
        known = (self.config["networks"][name].get("ipam") or {}).get("config")
        return ip_network(known[0]["subnet"] if known else f"172.30.{200 + sorted(self.config['networks']).index(name)}.0/24")

    def hosts(self, name: str) -> str:
        """What a service knows of the others: who shares a network with it, by his address there."""
        mine = self._addresses[name]
        lines = ["127.0.0.1 localhost"]
        lines += [f"{there[network]} {other}" for other, there in self._addresses.items() for network in mine if network in there]
        return "\n".join(lines) + "\n"

    def source(self, source: str) -> Path:
        """Where a volume is, or a file of the repository; a folder that the operator brings is empty here."""
        if source.startswith("./") and (ROOT / source).exists():
            return ROOT / source
        path = self.folder / "volumes" / re.sub(r"\W", "_", source)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Self:
        self._make(self.hub)
        for number in range(len(self.config["networks"])):
            _ip("-n", self.hub, "link", "add", f"b{number}", "type", "bridge")
            _ip("-n", self.hub, "link", "set", f"b{number}", "up")
        ports = itertools.count()
        for name, service in self.services.items():
            if service.host != name:
                continue
            self._make(service.namespace)
            _ip("-n", service.namespace, "link", "set", "lo", "up")
            for network, address in self._addresses[name].items():
                port, bridge = next(ports), f"b{list(self.config['networks']).index(network)}"
                _ip("-n", self.hub, "link", "add", f"p{port}", "type", "veth", "peer", "name", f"v{port}", "netns", service.namespace)
                _ip("-n", self.hub, "link", "set", f"p{port}", "master", bridge, "up")
                _ip("-n", service.namespace, "addr", "add", f"{address}/24", "dev", f"v{port}")
                _ip("-n", service.namespace, "link", "set", f"v{port}", "up")
        return self

    def _make(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)

    def up(self, *names: str) -> None:
        """Start these and what they wait for, in that order, as far as it is among the services."""
        for name in names:
            service = self.services[name]
            if service.process is not None:
                continue
            conditions = service.config.get("depends_on") or {}
            self.up(*(other for other in conditions if other in self.services))
            for other, how in conditions.items():
                if other in self.services and how["condition"] == "service_healthy":
                    self.services[other].wait_until_well()
                elif other in self.services:
                    self.services[other].wait_until_done()
            service.start()

    def __exit__(self, *_: object) -> None:
        for service in reversed([one for one in self.services.values() if one.process is not None]):
            service.stop()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def over(image: Image, layer: Path, **changes: Any) -> Image:
    """An image with one more layer on top, and other settings."""
    return replace(image, layers=[str(layer), *image.layers], **changes)
