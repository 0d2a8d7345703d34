"""What the chart would start, started on this machine: its commands, environments, secrets and Serve file as they are rendered.

Kubernetes and KubeRay are not here; names and ports of services become loopback's, folders become the test's. So it is seen that each part
starts by itself from its own secrets, that they find each other, and that nobody but Serve's replicas needs to start the Dispatcher.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from cluster import processes
from serve_app.local import fleet_secrets, ports
from tests.cluster.ray_head import RayHead
from tests.databases import database_server
from tests.ops.manifests import containers_of, objects_of, pods_of
from tests.ops.test_helm import CHART, rendered

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
READY_LIMIT_S = 240
MODEL = "fake:words=5"
GUARD = "guard.example.org"
OPEN = ("--set", f"serve.settings.GFE_CATALOG=open,guardHost={GUARD}")  # the scripted models are in no catalog
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, body=None, method=None, **headers):
    """Ask; status and text, 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as failed:
        return 0, str(failed)


class Rehearsal:
    """The parts, each by its container's name."""

    def __init__(self, folder, objects, head):
        self.folder, self.objects, self.head = folder, objects, head
        first = ports._first_room(31_000 + os.getpid() % 2000, 60, (), ports.is_free)
        self.ports = {port: first + n for n, port in enumerate((8000, 8080, 8085, 8090, 8091, 8094, 8266, 9101, 8404))}
        self.window = first + 20
        self.groups, self.nodes = {}, {}  # of Ray: what each is told, its process

    def containers(self, name):
        return [one for _, pod in pods_of(self.objects) for one in containers_of(pod) if one["name"] == name]

    def here(self, text):
        """Write a name of the cluster as one of this machine."""
        text = re.sub(r"gfe-edge-\d\.gfe-edge-nodes|gfe-edge(?=:)|gfe-head-svc", "127.0.0.1", text).replace("gfe-ledger", "localhost")
        for port, mine in self.ports.items():
            text = re.sub(rf"(?<=:){port}\b|^{port}$", str(mine), text)
        return text

    def environment(self, container, secrets):
        told = {one["name"]: self.here(one["value"]) for one in container["env"] if "value" in one and one["name"] != "HOME"}
        told = {
            name: value.replace("/run/secrets/gfe", str(secrets)).replace("/run/gfe", str(self.folder / "run"))
            for name, value in told.items()
        }
        return self.head.environment | told

    def run(self, name, secrets):
        """Run a container that ends."""
        container = self.containers(name)[0]
        environment = self.environment(container | {"env": container.get("env", [])}, secrets)
        done = subprocess.run(self.command(container), env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self, container):
        program, *rest = container["command"]
        rest = [one.replace("/run/gfe", str(self.folder / "run")).replace(" /secrets/*", f" {self.folder}/s/ledger/*") for one in rest]
        rest = [
            one.replace(" /signing/*", f" {self.folder}/s/signing/*").replace("/test/smoke.py", str(CHART / "files" / "smoke.py"))
            for one in rest
        ]
        return [sys.executable if program == "python" else program, *map(self.here, rest)]

    def start(self, name, secrets, command=None, **more):
        """Run a container that stays."""
        container = self.containers(name)[0]
        with (self.folder / f"{name}.log").open("wb") as log:
            environment = self.environment(container, secrets) | more
            subprocess.Popen(command or self.command(container), env=environment, cwd="/", stdout=log, stderr=log, start_new_session=True)

    def admin(self, *arguments):
        """Run a command in the ledger's container."""
        environment = self.environment(self.containers("ledger")[0], None)
        command = [sys.executable, "-P", "-m", *arguments]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve_file(self):
        """Tell what KubeRay hands to Serve's REST interface."""
        service = next(one for one in self.objects if one["kind"] == "RayService")
        told = yaml.safe_load(service["spec"]["serveConfigV2"])
        arguments = told["applications"][0]["args"]
        arguments |= {name: self.here(arguments[name]) for name in ("ledger_internal_url", "edge_urls")}
        arguments["secrets_dir"] = str(self.folder / "s" / "serve")
        told["http_options"] = {"host": "127.0.0.1", "port": self.ports[8000]}
        return told

    def is_ready(self):
        """Tell whether the job APIs are; start a node again that did not come up, as Kubernetes does: Ray gives it only so long."""
        for name, (told, own) in self.groups.items():
            process = self.nodes.get(name)
            if process is None or process.poll() is not None:
                self.nodes[name] = self.head.join(f"node_{name}", *told, environment=own)
        return ask(f"http://127.0.0.1:{self.ports[8000]}/readyz")[0] == 200

    def serves(self):
        token = (self.head.folder / "token").read_text()
        return f"http://127.0.0.1:{self.head.ports[1]}/api/serve/applications/", {"Authorization": f"Bearer {token}"}

    def until(self, what, holds):
        end = time.monotonic() + READY_LIMIT_S
        while not (found := holds()):
            assert time.monotonic() < end, f"{what}: {self.said()}"
            time.sleep(0.5)
        return found

    def said(self):
        url, headers = self.serves()
        logs = "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}"
            for log in (*self.folder.glob("*.log"), *self.head.folder.glob("node_*.log"))
        )
        ready = ask(f"http://127.0.0.1:{self.ports[8000]}/readyz")
        return f"{ask(url, **headers)[1][:3000]}\n{ready}\n{logs}"


def ray_cluster(objects):
    return next(one for one in objects if one["kind"] == "RayService")["spec"]["rayClusterConfig"]


@pytest.fixture(scope="module")
def world():
    if os.environ.get("GFE_TEST_DATABASE_URL"):
        pytest.skip("it sets the passwords of a server's roles: only on one of its own")
    folder = Path(tempfile.mkdtemp(prefix="gfe-chart-", dir="/tmp"))
    objects = objects_of(rendered(*OPEN))
    group = ray_cluster(objects)["headGroupSpec"]
    head = RayHead(labels=group["labels"], control=int(group["resources"]["control"]))
    head.settings["PYTHONPATH"] = str(CHART.parents[1])  # this checkout's packages, wherever the environment has its own
    world = Rehearsal(folder, objects, head)
    try:
        with database_server() as url:
            fleet_secrets.make(folder / "s", f"{url} dbname=rehearsal", ["localhost"])
            try:
                begin(world)
                yield world
            finally:
                head.stop()  # and all else that carries its mark, before the database waits for those who use it
    finally:
        head.remove()
        shutil.rmtree(folder, ignore_errors=True)


def begin(world):
    """Install without a node; make one known; then as the upgrade that names it."""
    secrets = world.folder / "s"
    (world.folder / "run").mkdir(mode=0o700)
    world.run("migrate", secrets / "database")
    world.run("secrets", secrets / "ledger")
    for name in ("ledger", "edge", "auditor"):
        world.start(name, secrets / name)
    world.admin("ledger.cli", "bootstrap")
    node = world.admin("serve_app.cli", "admin", "add-node", "rack").strip()
    world.objects = objects_of(rendered(*OPEN, "--set", f"gpu.nodes[0].id={node}", "--set", "gpu.nodes[0].name=rack"))
    begin_ray(world)


def begin_ray(world):
    """Start the cluster as KubeRay does: the head, a node per group, then the application."""
    head = world.head
    service = ray_cluster(world.objects)
    window = {
        "RAY_SERVE_HAPROXY_METRICS_PORT": world.ports[9101], "RAY_SERVE_HAPROXY_STATS_PORT": world.ports[8404],
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": world.window, "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": world.window + 19,
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": world.window + 20, "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": world.window + 39,
    }  # fmt: skip
    files = {f"RAY_SERVE_HAPROXY_{name}": str(head.folder / "p" / file) for name, file in (
        ("CONFIG_FILE_LOC", "haproxy.cfg"), ("SOCKET_PATH", "a"), ("METRICS_SOCKET_PATH", "m"), ("SERVER_STATE_BASE", ""), ("SERVER_STATE_FILE", "state"),
    )}  # fmt: skip
    (head.folder / "p").mkdir()
    told = {
        one["name"]: one["value"] for one in service["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] if one["name"] != "HOME"
    }
    head.settings |= told | files | {name: str(port) for name, port in window.items()}
    head.start()
    for group in service["workerGroupSpecs"]:
        container = group["template"]["spec"]["containers"][0]
        own = {name: value for name, value in world.environment(container, None).items() if name.startswith("GFE_NODE_")}
        if own:
            (world.folder / "notes").mkdir()
            own |= {"GFE_NODE_HOST": "127.0.0.1", "GFE_NODE_PORT": "0", "GFE_NODE_NOTES": str(world.folder / "notes")}
            own["GFE_NODE_RUNTIME_URL"] = runtime_of(world)
        resources = {name: int(value) for name, value in group["resources"].items() if name not in {"CPU", "GPU"}}
        world.groups[group["groupName"]] = (json.dumps(group["labels"]), json.dumps(resources)), own
    world.ports[8265] = head.ports[1]
    shutil.copy(head.folder / "token", world.folder / "s" / "guard" / "ray_token")  # this head has a token of its own
    world.start("guard", world.folder / "s" / "guard")
    url, headers = world.serves()
    world.until("Serve's interface", lambda: ask(url, **headers)[0] == 200)
    status, said = ask(url, world.serve_file(), "PUT", **headers)
    assert status == 200, said
    world.until("the job APIs", world.is_ready)


def runtime_of(world):
    """Start an Ollama beside the node: the scripted one."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.scripted_runtime", "--model", MODEL], stdout=subprocess.PIPE, cwd=CHART.parents[1],
        env={**os.environ, processes.MARK: world.head.tag}, start_new_session=True,
    )  # fmt: skip
    return f"http://127.0.0.1:{json.loads(child.stdout.readline())['port']}"


def test_every_part_answers_from_its_own_secrets(world):
    """`helm test`, run as it is."""
    world.run("test", None)


def test_a_job_is_answered_and_paid_for(world):
    key = (world.folder / "run" / "secrets" / "first_api_key").read_text()
    api = f"http://127.0.0.1:{world.ports[8000]}"
    url, headers = world.serves()
    deployed = json.loads(ask(url, **headers)[1])["applications"]["gfe"]["deployments"]["Api"]
    assert {one["state"] for one in deployed["replicas"]} == {"RUNNING"}
    assert len(deployed["replicas"]) == 2
    models = json.loads(ask(f"{api}/v1/models", Authorization=f"Bearer {key}")[1])
    assert MODEL in [one["id"] for one in models["data"]]
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    status, said = ask(f"{api}/v1/chat/completions", asked, Authorization=f"Bearer {key}")
    assert status == 200, said
    assert len(json.loads(said)["choices"][0]["message"]["content"].split()) == 5
    assert json.loads(said)["usage"]["cost"] == "1.00"
    assert all(rule["held"] for rule in json.loads(world.admin("ledger.cli", "audit", "--json")))


def test_operators_look_at_rays_dashboard_through_the_guard(world):
    guard = f"http://127.0.0.1:{world.ports[8266]}"
    probe = world.containers("guard")[0]["readinessProbe"]["httpGet"]
    own_name = {one["name"]: one["value"] for one in probe["httpHeaders"]}
    assert own_name == {"Host": GUARD}
    world.until("the guard", lambda: ask(f"{guard}{probe['path']}", **own_name)[0] == 200)
    assert ask(f"{guard}{probe['path']}", Host="10.1.2.3:8266")[0] == 421
    word = world.folder / "word"
    word.write_text("a-word-of-operators-4711")
    world.admin("serve_app.cli", "admin", "create-operator", "looker", "--password-file", str(word))
    ledger = f"http://localhost:{world.ports[8080]}"
    access = json.loads(ask(f"{ledger}/api/core/token/", {"username": "looker", "password": word.read_text()})[1])["access"]
    status, said = ask(f"{ledger}/api/admin/tools/ray/pass/", {}, Authorization=f"Bearer {access}")
    assert status == 201, said
    assert json.loads(said)["url"] == f"https://{GUARD}/enter"
    form = urllib.parse.urlencode({"pass": json.loads(said)["word"], "tool": "ray"}).encode()
    with OPENER.open(urllib.request.Request(f"{guard}/enter", form, own_name), timeout=30) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    status, nodes = ask(f"{guard}/ray/api/v0/nodes", Cookie=cookie, **own_name)
    assert status == 200, nodes
    assert nodes.count('"ALIVE"') >= 2
    assert ask(f"{guard}/ray/api/v0/nodes", **own_name)[0] == 401
