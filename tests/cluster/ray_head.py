"""A real Ray head of one machine for a test run: token mode, loopback, a folder and ports of its own."""

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from functools import cached_property
from pathlib import Path

from cluster import processes
from serve_app.local import ports
from serve_app.local.up import ray_python
from tests.cluster.autoscaled import AUTOSCALER, groups_config

START_LIMIT_S = 120
TRIES = 3
WORKER_PORTS = 60
NODE = "node_test"


class NotStarted(Exception):
    """The head did not come up; its log is the message."""


class RayHead:
    """Started by `start`, ended by `stop`; only processes that carry our mark are ever ended."""

    def __init__(self, *, labels=None, control=1000, cluster=None):
        """`cluster`: a RayCluster whose groups Ray's autoscaler starts and ends (`autoscaled.py`); None: no node comes by itself."""
        self.cluster = cluster
        self.labels = labels or {"gfe.io/role": "control", "gfe.io/node": NODE}
        self.control = control
        self.folder = Path(tempfile.mkdtemp(prefix="gfe-ray-", dir="/tmp"))  # short: Ray keeps Unix sockets below
        self.tag = f"ray-test-{uuid.uuid4().hex}"
        (self.folder / "token").write_text(secrets.token_hex(32))
        (self.folder / "token").chmod(0o400)
        self.settings = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self.ports = []

    @property
    def address(self):
        return f"127.0.0.1:{self.ports[0]}"

    @cached_property
    def python(self):
        return str(ray_python(self.folder / "python"))

    @property
    def environment(self):
        """Of its processes: ours, without what concerns this run alone."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("GFE_")}
        return inherited | self.settings | {"HOME": str(self.folder), processes.MARK: self.tag}

    def start(self):
        for attempt in range(1, TRIES + 1):
            try:
                return self._start_once()
            except NotStarted:
                self.stop()
                if attempt == TRIES:
                    raise
        raise AssertionError

    def _start_once(self):
        base = random.SystemRandom().randrange(21_000, 29_000)
        first = ports._first_room(base, WORKER_PORTS + 12, (), ports.is_free)
        self.ports = list(range(first, first + 12))
        gcs, dashboard, client, manager, objects, environments, agent, agent_grpc, metrics, dashboard_metrics, autoscaler_metrics, _ = (
            self.ports
        )
        mine = {
            "DASHBOARD_METRIC_PORT": str(dashboard_metrics),
            "AUTOSCALER_METRIC_PORT": str(autoscaler_metrics),
        }
        autoscaled = []
        if self.cluster is not None:
            mine |= AUTOSCALER | {"PYTHONPATH": str(Path(__file__).parents[2])}
            config = self.folder / "groups.json"
            config.write_text(json.dumps(groups_config(self.cluster, self.address, str(self.folder / "t"))))
            autoscaled = ["--autoscaling-config", str(config)]
        log = (self.folder / "head.log").open("wb")
        subprocess.Popen(
            [
                self.python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(gcs),
                "--include-dashboard", "true", "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard), "--ray-client-server-port", str(client),
                "--node-manager-port", str(manager), "--object-manager-port", str(objects), "--runtime-env-agent-port", str(environments),
                "--dashboard-agent-listen-port", str(agent), "--dashboard-agent-grpc-port", str(agent_grpc), "--metrics-export-port", str(metrics),
                "--min-worker-port", str(first + 12), "--max-worker-port", str(first + 11 + WORKER_PORTS),
                "--num-cpus", "0", "--resources", json.dumps({"control": self.control}), "--labels", ",".join(f"{key}={value}" for key, value in self.labels.items()),
                "--object-store-memory", str(80 * 2**20), "--temp-dir", str(self.folder / "t"), "--disable-usage-stats",
                *autoscaled,
            ],
            env=self.environment | mine, cwd="/", stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self._wait(f"http://127.0.0.1:{dashboard}/api/gcs_healthz", f"http://127.0.0.1:{agent}/api/local_raylet_healthz")

    def join(self, node, *told, environment=()):
        """Start a second Ray node that is one of our nodes; answer its process. `told`: its labels and resources, as JSON."""
        log = (self.folder / f"{node}.log").open("ab")
        process = subprocess.Popen(
            [self.python, Path(__file__).with_name("ray_node.py"), self.address, node, str(self.folder / "t"), *told],
            env=self.environment | dict(environment),
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        return process

    @staticmethod
    def crash(process):
        """Kill a joined node as a power cut does: all of it at once."""
        for below in (*processes.descendants(process.pid), processes.process_of(process.pid)):
            processes.send(below, signal.SIGKILL)
        process.wait(60)

    def _wait(self, *urls):
        end = time.monotonic() + START_LIMIT_S
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for url in urls:
            while True:
                try:
                    opener.open(url, timeout=3).close()
                    break
                except (OSError, urllib.error.URLError):
                    if time.monotonic() > end or not processes.marked(self.tag):
                        raise NotStarted((self.folder / "head.log").read_text(errors="replace")[-3000:]) from None
                    time.sleep(0.2)

    def stop(self):
        left = processes.end_all(lambda: processes.marked(self.tag), polite_s=5, limit_s=20)
        assert not left, f"these outlived the test: {left}"

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
