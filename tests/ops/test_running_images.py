"""The recipe run: every step of the Dockerfile, then the services of compose.yaml as it says, without a container engine.

Python's packages and the console's are fetched as an image's build does. CADDY names a Caddy to stand where the proxy is; without one its
part is left out, and people go to the ledger and the edge gateway themselves. BUILT_IN names a folder that keeps what was built for the next run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from serve_app.local.role_secrets import FOLDERS
from tests.ops import compose, stand_ins
from tests.ops.built import ROOT, Image, why_not
from tests.ops.engine import Engine

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]
TARGETS = ("admin", "ledger", "ray", "gateway", "auditor", "guard", "agent")
PUBLIC = "http://localhost:8080"  # GFE_PUBLIC_URL of .env.example, from the place of the door
SERVICES = ("postgres", "ledger", "ray", "edge", "auditor", "guard", "ollama")
GUARD = "guard.localhost:8080"  # its name there
ASK = """
import json, sys, urllib.request, urllib.error
method, url, key, body = sys.argv[1:5]
headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
asked = urllib.request.Request(url, body.encode() or None, headers, method=method)
try:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=50) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as refused:
    print(json.dumps([refused.code, refused.read().decode()]))
"""

# A browser's way through the guard: the pass, then a look, one refused without the cookie, one refused because it acts.
LOOK = """
import http.client, json, sys
host, port, name, word = sys.argv[1:5]
def ask(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(host, int(port), timeout=40)
    connection.request(method, path, body, {"Host": name, **headers})
    answer = connection.getresponse()
    return answer.status, (answer.getheader("Set-Cookie") or "").partition(";")[0], answer.read().decode()
status, cookie, said = ask("POST", "/enter", f"pass={word}&tool=ray", **{"Content-Type": "application/x-www-form-urlencoded"})
look = ask("GET", "/ray/api/v0/nodes", Cookie=cookie)
print(json.dumps([status, look[0], look[2], ask("GET", "/ray/api/v0/nodes")[0], ask("DELETE", "/ray/api/jobs/x", Cookie=cookie)[0]]))
"""


@pytest.fixture(scope="module")
def folder():
    if reason := why_not():
        pytest.skip(reason)
    kept = os.environ.get("BUILT_IN")
    path = Path(kept or tempfile.mkdtemp(prefix="gfe-images-", dir="/tmp"))
    path.mkdir(exist_ok=True)
    path.chmod(0o755)
    yield path
    for name in ("roots", "stand-ins", "tops", "volumes") if kept else ("",):
        shutil.rmtree(path / name, ignore_errors=True)


@pytest.fixture(scope="module")
def images(folder):
    """Every target, built; stand-ins for what others make."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.ops.built", str(folder), *TARGETS]
    if not (folder / "built.json").exists():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    made = {name: Image(**image) for name, image in json.loads((folder / "built.json").read_text()).items()}
    bare = Image(made["admin"].layers[-1:], {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    made["postgres"] = stand_ins.postgres(bare, _layer(folder, "postgres"))
    made["ollama"] = stand_ins.ollama(made["agent"], _layer(folder, "ollama"))
    if program := stand_ins.caddy():
        made["proxy-dev"] = stand_ins.proxy(bare, _layer(folder, "proxy"), program)
    return made


def _layer(folder: Path, name: str) -> Path:
    path = folder / "stand-ins" / name
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def engine(folder, images):
    """The services of profile `dev`, well; and a provider's machine, for which this platform's address is `localhost` too."""
    environment = compose.chosen((ROOT / ".env.example").read_text()) | {
        "GFE_DEFAULT_MODEL": stand_ins.MODEL,
        "GFE_REPLICAS": "1",
        "GFE_GUARD_URL": f"http://{GUARD}",
    }
    door = "proxy-dev" if "proxy-dev" in images else "ledger"
    if door == "ledger":
        environment["GFE_AGENT_URL"] = "ws://edge:8090/ws/computing/"
    config = compose.load((ROOT / "compose.yaml").read_text())
    config["services"] |= {
        "agent-ollama": {
            "build": {"target": "ollama"},
            "network_mode": f"service:{door}",
            "tmpfs": ["/tmp:size=64m"],
            "command": stand_ins.ON_LOOPBACK,
        },
        "agent": {"network_mode": f"service:{door}", "tmpfs": ["/tmp:size=64m"], "volumes": ["agent-data:/data"], "command": []},
    }
    with Engine(folder, config, environment, images, {"postgres": ["/opt/bin/entry"], "agent": images["agent"].command}) as running:
        running.door = door
        running.up(*SERVICES, door)
        for name in (*SERVICES, door):
            running.services[name].wait_until_well()
        wait(lambda: ask(running, "GET", "http://ray:8000/readyz")[0] == 200, lambda: ask(running, "GET", "http://ray:8000/readyz")[1])
        yield running


def wait(condition, what, limit_s=60):
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(1)


def ask(engine, method, url, key="", body="", by="edge"):
    """Send a request from a service's place; its status and text."""
    done = engine.services[by].run("python", "-c", ASK, method, url, key, body)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def first_key(engine):
    return (engine.source("ledger-secrets") / "first_api_key").read_text().strip()


def test_a_job_is_run_and_paid_for(engine):
    key = first_key(engine)
    before = json.loads(ask(engine, "GET", f"{PUBLIC}/api/payments/wallet/", key, by=engine.door)[1])["balance"]
    question = {"model": stand_ins.MODEL, "messages": [{"role": "user", "content": "how are you"}]}
    status, said = ask(
        engine,
        "POST",
        f"{PUBLIC if engine.door == 'proxy-dev' else 'http://ray:8000'}/v1/chat/completions",
        key,
        json.dumps(question),
        engine.door,
    )
    assert status == 200, said
    assert len(json.loads(said)["choices"][0]["message"]["content"].split()) == 8
    after = json.loads(ask(engine, "GET", f"{PUBLIC}/api/payments/wallet/", key, by=engine.door)[1])["balance"]
    assert float(before) - float(after) == pytest.approx(1.0)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_no_more_than_it_needs_to_be(engine, name):
    service = engine.services[name]
    status = dict(line.split(":", 1) for line in service.run("cat", "/proc/self/status").stdout.splitlines())
    assert "0" not in status["Uid"].split()
    assert {status[one].strip() for one in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    for place in ("/opt/x", "/etc/x", "/usr/x", "/x"):
        assert service.run("touch", place).returncode != 0
    assert service.run("touch", "/tmp/x").returncode == 0


@pytest.mark.parametrize(
    ("name", "place"),
    [("ledger", "secrets"), ("ray", "ray_secrets"), ("edge", "edge_secrets"), ("auditor", "auditor_secrets"), ("guard", "guard_secrets")],
)
def test_a_service_sees_its_own_secrets_and_no_others(engine, name, place):
    seen = set(engine.services[name].run("find", "/var/lib/gfe", "/run/gfe", "/roles", "-type", "f").stdout.split())
    files = {f"/var/lib/gfe/{place}/{file}" for file in FOLDERS[name].files}
    made_here = {one for one in seen if name == "ledger" and ("/jwt/" in one or one.endswith(("/first_api_key", "/mock_webhook_secret")))}
    assert seen - made_here == files
    if name != "ledger":
        assert engine.services[name].run("touch", f"/var/lib/gfe/{place}/x").returncode != 0


@pytest.mark.parametrize("name", ["edge", "auditor", "guard", "ollama"])
def test_who_needs_no_database_does_not_reach_it(engine, name):
    address = engine.config["services"]["postgres"]["networks"]["db"]["ipv4_address"]
    done = engine.services[name].run("python", "-c", f"import socket; socket.create_connection(('{address}', 5432), 3)")
    assert "OSError" in done.stderr or "Error" in done.stderr


def test_ray_cannot_come_to_the_database_as_the_ledger(engine):
    stolen = (engine.source("ledger-secrets") / "ledger_database_url").read_text().strip()
    done = engine.services["ray"].run("python", "-c", f"import psycopg; psycopg.connect({stolen!r}, connect_timeout=5)")
    assert "no pg_hba.conf entry" in done.stderr


def test_what_prometheus_is_to_ask_answers_where_it_is(engine):
    targets = compose.yaml.safe_load((ROOT / "ops/compose/prometheus.yml").read_text())["scrape_configs"]
    places = [target for job in targets for one in job["static_configs"] for target in one["targets"]]
    assert len(places) == 4
    for place in places:
        by = "auditor" if place.startswith(("ledger", "auditor")) else "ray"  # in the networks that Prometheus is in too
        assert ask(engine, "GET", f"http://{place}/metrics", by=by)[0] == 200, place


def test_the_ledgers_metrics_are_not_told_to_the_network_of_the_proxy(engine):
    assert ask(engine, "GET", "http://ledger:8080/metrics", by="ray")[0] == 404


def test_operators_look_at_rays_dashboard_through_the_guard_and_nobody_else_reaches_it(engine):
    made = "umask 077; printf %s a-word-of-operators-4711 > /tmp/word && gfe admin create-operator looker --password-file /tmp/word"
    done = engine.services["ledger"].run("sh", "-c", made)
    assert done.returncode == 0, done.stderr
    person = {"username": "looker", "password": "a-word-of-operators-4711"}
    access = json.loads(ask(engine, "POST", "http://ledger:8080/api/core/token/", "", json.dumps(person))[1])["access"]
    status, said = ask(engine, "POST", "http://ledger:8080/api/admin/tools/ray/pass/", access, "{}")
    assert status == 201, said
    door = ("127.0.0.1", "8080") if engine.door == "proxy-dev" else ("guard", "8266")
    done = engine.services["edge" if door[0] == "guard" else engine.door].run("python", "-c", LOOK, *door, GUARD, json.loads(said)["word"])
    assert done.returncode == 0, done.stderr
    entered, looked, nodes, without, acted = json.loads(done.stdout)
    assert (entered, looked, without, acted) == (200, 200, 401, 405), done.stdout
    assert '"head"' in nodes
    assert ask(engine, "GET", "http://172.30.85.2:8265/api/v0/nodes", by="edge")[0] == 401  # a neighbor of Ray's has no token
    tried = engine.services["ledger"].run("python", "-c", "import socket; socket.create_connection(('ray', 8265), 3)")
    assert "Error" in tried.stderr


def test_the_world_meets_no_page_of_ours_alone(engine):
    if engine.door != "proxy-dev":
        pytest.skip("no Caddy here: CADDY names one")
    for path in ("/metrics", "/-/routes", "/-/healthz", "/internal/v1/operations"):
        assert ask(engine, "GET", f"{PUBLIC}{path}", by=engine.door)[0] == 404, path
    assert ask(engine, "GET", f"{PUBLIC}/readyz", by=engine.door)[0] == 200
    assert "<div id=" in ask(engine, "GET", f"{PUBLIC}/", by=engine.door)[1]


def test_a_providers_machine_takes_part_by_the_image_of_the_agent(engine):
    person = {"username": "provider", "email": "provider@example.org", "password": "quite-a-long-word-4711"}
    assert ask(engine, "POST", f"{PUBLIC}/api/core/register/", "", json.dumps(person), engine.door)[0] == 201
    del person["email"]
    access = json.loads(ask(engine, "POST", f"{PUBLIC}/api/core/token/", "", json.dumps(person), engine.door)[1])["access"]
    status, said = ask(engine, "POST", f"{PUBLIC}/api/core/agent-token/generate/", access, json.dumps({"label": "attic"}), engine.door)
    assert status == 201, said
    agent = engine.services["agent"]
    data = engine.source("agent-data")
    os.chown(data, 10001, 10001)
    agent.config["command"] = ["--url", PUBLIC, "--code", json.loads(said)["token"]]
    engine.up("agent-ollama")
    engine.services["agent-ollama"].wait_until_well()
    agent.start()
    agent.wait_until_well()
    known = "http://ray:8000/api/computing/nodes/"
    wait(lambda: "attic" in ask(engine, "GET", known, access)[1], agent.said)
    assert agent.stop() == 0, agent.said()


def test_the_door_to_the_world_stays_closed_with_these_settings(engine):
    done = engine.services["ledger"].run("python", "-m", "ledger.cli", "check", "--strict")
    assert done.returncode == 1
    assert "GFE_ENV is dev" in done.stdout


def test_every_part_ends_when_it_is_told_to_and_comes_back(engine):
    """A part that ignores SIGTERM would be killed in the middle of its work."""
    parts = ("auditor", "guard", "edge", "ray", "ledger")
    for name in parts:
        assert engine.services[name].stop() == 0, engine.services[name].said()
    for name in reversed(parts):
        engine.services[name].start()
        engine.services[name].wait_until_well()
    wait(lambda: ask(engine, "GET", "http://ray:8000/readyz")[0] == 200, engine.services["ray"].said)
