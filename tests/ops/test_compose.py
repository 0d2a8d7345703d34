"""compose.yaml keeps our rules, each rule finds the mistake that it is about, and production as it is described is fit for real people."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import AliasChoices

from ledger.production import unfit_for_production
from ledger.settings import LedgerSettings
from serve_app.app import create_app
from serve_app.auditor.settings import AuditorSettings
from serve_app.boards.known import AUDITOR, EDGE, LEDGER
from serve_app.dashboard_guard.settings import GuardSettings
from serve_app.edge.settings import EdgeSettings
from serve_app.local import role_secrets
from serve_app.local.ports import Ports
from serve_app.local.setting_names import OF_COMMANDS, settings
from serve_app.settings import ServeSettings
from tests.ops import compose, stand_ins
from tests.ops.dockerfile import parse
from tests.ops.paths import destination
from tests.ops.promql import read, selectors
from tests.ops.watched import KNOWN, rules

ROOT = Path(__file__).parents[2]
TEXT, EXAMPLE = (ROOT / "compose.yaml").read_text(), (ROOT / ".env.example").read_text()
HBA = (ROOT / "ops/compose/pg_hba.conf").read_text()
CADDY = (ROOT / "ops/compose/Caddyfile").read_text()
PROMETHEUS = (ROOT / "ops/compose/prometheus.yml").read_text()
MODELS = {
    "ledger": LedgerSettings,
    "bootstrap": LedgerSettings,
    "check": LedgerSettings,
    "ray": ServeSettings,
    "edge": EdgeSettings,
    "auditor": AuditorSettings,
    "guard": GuardSettings,
}


def names_of(model) -> set[str]:
    return {
        str(field.validation_alias.choices[0]) if isinstance(field.validation_alias, AliasChoices) else f"GFE_{name.upper()}"
        for name, field in model.model_fields.items()
    }


READERS = {service: names_of(model) for service, model in MODELS.items()}
READERS["ray"] |= {"GFE_NODE_ADDRESS", "GFE_NODE_ID", "GFE_INGRESS"}  # of the head (serve_app/local/head.py)
# What the recipe decides: places inside a container, and what only tests need.
DECIDED = {
    "GFE_SECRETS_DIR", "GFE_LEDGER_SOCKET", "GFE_LEDGER_INTERNAL_URL", "GFE_LEDGER_INTERNAL_HOST", "GFE_LEDGER_INTERNAL_PORT",
    "GFE_LEDGER_HOST", "GFE_LEDGER_PORT", "GFE_GUARD_HOST", "GFE_GUARD_PORT", "GFE_MAIL_DIR", "GFE_DASHBOARD_URL", "GFE_STRIPE_API_BASE",
    "GFE_API_HOST", "GFE_API_PORT", "GFE_API_URL", "GFE_RAY_ADDRESS", "GFE_NODE_HOST", "GFE_NODE_PORT", "GFE_NODE_NOTES", "GFE_NODE_ADDRESS", "GFE_STANDBY_FILE", "GFE_STANDBY_IDLE_S",
    "GFE_EDGE_HOST", "GFE_EDGE_PORT", "GFE_EDGE_NODE_HOST", "GFE_EDGE_NODE_PORT", "GFE_AUDITOR_HOST", "GFE_AUDITOR_PORT",
}  # fmt: skip


@pytest.fixture(scope="module")
def check():
    said = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets, files = set(parse((ROOT / "Dockerfile").read_text()).targets()), set(said.splitlines())

    def check(text=TEXT, example=EXAMPLE, hba=HBA):
        return compose.problems(text, example, targets, READERS, files, hba)

    return check


def test_the_file_keeps_every_rule(check):
    assert check() == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  read_only: true\n", "", "its root can be written"),
        ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"),
        ('security_opt: ["no-new-privileges:true"]', "security_opt: []", "may gain privileges"),
        ("    cap_add: [CHOWN,", "    cap_add: [SYS_ADMIN, CHOWN,", "SYS_ADMIN"),
        ('    user: "999:999"\n', "", "whoever its image says"),
        ('    user: "999:999"\n', '    user: "0:0"\n', "runs as root"),
        ("    network_mode: none\n    command: [python, -m, serve_app.local.role", "    networks: {db: }\n    command: [python, -m, serve_app.local.role", "root"),
        ("  pids_limit: 256\n", "", "no pids_limit"),
        ("    mem_limit: ${LEDGER_MEMORY:-1g}\n", "", "no mem_limit"),
        ('ports: ["127.0.0.1:8080:8080"]', 'ports: ["8080:8080"]', "open to the world"),
        ('ports: ["127.0.0.1:3000:3000"]', 'ports: ["3000:3000"]', "open to the world"),
        ("    mem_limit: ${POSTGRES_MEMORY:-2g}", '    mem_limit: 2g\n    ports: ["5432:5432"]', "open to the world"),
        ("build: {<<: *build, target: gateway}", "build: {<<: *build, target: gatway}", "no target gatway"),
        ("build: {<<: *build, target: guard}", "build: {<<: *build, target: auditor}", "not called as its target"),
        ("    profiles: [guard]\n", '    profiles: [guard]\n    ports: ["8266:8266"]\n', "open to the world"),
        ("${CADDY_IMAGE:-caddy:2.11-alpine}", "${CADDY_IMAGE:-caddy}", "needs a tag"),
        ("${CADDY_IMAGE:-caddy:2.11-alpine}", "${CADDY_IMAGE:-caddy:latest}", "needs a tag"),
        ("postgres: {condition: service_healthy}", "postgres: {condition: service_started}", "does not wait until postgres"),
        ("migrate: {condition: service_completed_successfully}", "migrate: {condition: service_healthy}", "does not wait until migrate"),
        ("    profiles: [dev]\n    ports", "    profiles: [dev, prod]\n    ports", None),
        ("    profiles: [prod]\n    ports", "    profiles: [dev, prod]\n    ports", "profile dev lacks"),
        ("      migrate: {cond", "      migrat: {cond", "which is not there"),
        ("  restart: unless-stopped\n", "", "not started again"),
        ("  init: true\n", "", "reaps"),
        ("      front:\n      ledger:\n      db: {ipv4_address: 172.30.86.3}", "      front:\n      ledger:\n", "pg_hba"),
        ("    networks:\n      watch:\n    mem", "    networks:\n      watch:\n      db:\n    mem", "can be reached by"),
        ("  db:\n    internal: true\n", "  db:\n", "has a way out"),
        ("    networks:\n      ledger:\n    mem", "    networks:\n      ray:\n    mem", "can be reached by"),
        ("ray: {ipv4_address: 172.30.85.2}", "ray: {ipv4_address: 172.30.85.3}", "Ray's head is not at"),
        ("GFE_DASHBOARD_URL: http://172.30.85.2:8265", "GFE_DASHBOARD_URL: http://ray:8265", "Ray's dashboard is not at"),
        ("      ray:\n      watch:\n    mem_limit: 256m", "      ray:\n      db:\n    mem_limit: 256m", "postgres can be reached by"),
        ("front: {ipv4_address: 172.30.84.2}", "front: {ipv4_address: 172.30.84.9}", "believes"),
        ("front: {ipv4_address: 172.30.84.2}", "front: {ipv4_address: 172.30.99.2}", "is not of network"),
        ("GFE_CANARY_PERCENT:", "GFE_CANARY_PERCENTS:", "nobody there reads GFE_CANARY_PERCENTS"),
        ("      GFE_EDGE_MAX_AGENTS:", "      GFE_WELCOME_CREDITS:\n      GFE_EDGE_MAX_AGENTS:", "nobody there reads GFE_WELCOME_CREDITS"),
        ("      POSTGRES_DB: gfe", "      POSTGRES_DB: gfe\n      POSTGRES_PASSWORD: x", "a secret"),
        ("http://edge:8085", "http://u:p@edge:8085", "password in it"),
        ("ray-secrets:/var/lib/gfe/ray_secrets:ro", "ray-secrets:/var/lib/gfe/ray_secrets", "write its own secrets"),
        ("ray-secrets:/var/lib/gfe/ray_secrets:ro", "ledger-secrets:/var/lib/gfe/ray_secrets:ro", "ledger-secrets is seen by"),
        ("ledger-socket:/run/gfe/ledger:ro", "ledger-socket:/run/gfe/ledger", "may write ledger-socket"),
        ("guard-secrets:/var/lib/gfe/guard_secrets:ro", "ray-secrets:/var/lib/gfe/guard_secrets:ro", "ray-secrets is seen by"),
        ("guard-secrets:/var/lib/gfe/guard_secrets:ro", "guard-secrets:/var/lib/gfe/guard_secrets", "write its own secrets"),
        ("- ./helm/gpu-for-everyone/boards/rules.yml:", "- ./helm/boards/rules.yml:", "not in the repository"),
        ("./ops/compose/Caddyfile", "./ops/Caddyfile", "not in the repository"),
        ("- models:/models", "- /var/run/docker.sock:/models", "the host's"),
        ("- models:/models", "- modells:/models", "no volume modells"),
        ("  proxy-data:\n", "  proxy-data:\n  more:\n", "volume more is nobody's"),
        ("${METRICS_KEPT:-30d}", "${METRICS_STAY:-30d}", "METRICS_STAY is not in .env.example"),
        ("${METRICS_KEPT:-30d}", "${METRICS_STAY:-30d}", "METRICS_KEPT of .env.example means nothing"),
        ("test: [CMD, pg_isready, -q,", "test: [CMD-SHELL, pg_isready, -q,", "needs a shell"),
        ("    healthcheck: {disable: true}\n", "", "a step with a health check"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(check, old, new, said):
    assert old in TEXT
    found = check(TEXT.replace(old, new))
    assert (found == []) if said is None else any(said in one for one in found), found


@pytest.mark.parametrize(
    ("old", "new"),
    [("172.30.86.6/32   scram-sha-256", "172.30.86.6/32   trust"), ("172.30.86.6/32", "0.0.0.0/0"), ("gfe_serve  ", "all        ")],
)
def test_a_looser_door_to_the_database_is_found(check, old, new):
    assert old in HBA
    assert any("pg_hba" in one for one in check(hba=HBA.replace(old, new)))


@pytest.mark.parametrize("service", MODELS)
def test_every_setting_can_be_set_or_is_decided_by_the_recipe(service):
    given = set(compose.load(TEXT)["services"][service]["environment"])
    assert READERS[service] - given - DECIDED == set()


def test_the_example_tells_the_defaults_of_the_settings():
    defaults = {one.name: one.default for one in settings() if one.name not in OF_COMMANDS or one.default}
    compared = {name: (value, defaults[name]) for name, value in compose.offered(EXAMPLE).items()
                if name in defaults and name not in compose.chosen(EXAMPLE) and name not in _of_production()}  # fmt: skip
    assert len(compared) > 40
    assert {name: both for name, both in compared.items() if both[0] != both[1]} == {}


def _of_production() -> dict[str, str]:
    """What `.env.example` says for real people, in place of what it sets."""
    section = re.search(r"# --- for real people.*?\n(.*?)\n\n", EXAMPLE, re.DOTALL)
    assert section
    return dict(re.findall(r"^# ([A-Z][A-Z0-9_]*)=(.*)$", section[1], re.MULTILINE))


@pytest.fixture
def ledger_settings(tmp_path, monkeypatch):
    """The ledger's settings as compose would give them with this environment, and secrets as the step makes them."""
    monkeypatch.setattr(role_secrets.os, "chown", lambda *_a, **_k: None)  # only root may give files away
    role_secrets.hand_out(tmp_path, "postgres:5432", {})

    def make(environment):
        for name in [name for name in os.environ if name.startswith("GFE_")]:
            monkeypatch.delenv(name)
        for name, value in compose.environment_of(compose.load(TEXT)["services"]["ledger"], environment).items():
            monkeypatch.setenv(name, value)
        return LedgerSettings(secrets_dir=tmp_path / "ledger", ledger_socket=tmp_path / "socket/internal.sock")

    return make


def test_production_as_the_example_describes_it_is_fit_for_real_people(ledger_settings):
    environment = {**compose.chosen(EXAMPLE), **_of_production()}
    assert environment["COMPOSE_PROFILES"] == "prod"
    assert environment["GFE_ENV"] == "production"
    assert unfit_for_production(ledger_settings(environment)) == []


def test_the_profile_for_the_world_does_not_open_with_the_settings_of_development(ledger_settings):
    found = unfit_for_production(ledger_settings(compose.chosen(EXAMPLE)))
    assert {one.split()[0] for one in found} >= {"GFE_PUBLIC_URL", "GFE_PAYMENT_GATEWAYS", "GFE_SMTP_HOST"}
    assert compose.load(TEXT)["services"]["check"]["command"][-2:] == ["check", "--strict"]
    proxy = compose.load(TEXT)["services"]["proxy"]
    assert proxy["profiles"] == ["prod"]
    assert proxy["depends_on"]["check"] == {"condition": "service_completed_successfully"}


def test_a_variable_that_must_be_set_stops_everything():
    with pytest.raises(KeyError, match="GFE_PUBLIC_URL"):
        compose.filled(compose.load(TEXT), {"GFE_ENV": "dev", "GFE_AGENT_URL": "ws://x"})


def test_every_path_of_the_job_apis_goes_to_them():
    own_page = {"/", "/reference", "/openapi.json"}  # of the job APIs at their own address; here the ledger's stand there
    paths = {re.sub(r"\{[^}]*\}", "one", route.path) for route in create_app(lambda: None).router.routes}
    assert len(paths) > 60
    assert {path: destination(CADDY, path) for path in paths - own_page if destination(CADDY, path) != "ray:8000"} == {}


def test_every_path_of_the_ledger_goes_to_it():
    described = json.loads((ROOT / "docs/reference/accounts.openapi.json").read_text())["paths"]
    pages = {
        "/",
        "/jobs",
        "/assets/x.js",
        "/install.sh",
        "/dist/gpu_for_everyone-0.1.0-py3-none-any.whl",
        "/status",
        "/reference",
        "/openapi.json",
    }
    written = {re.sub(r"\{[^}]*\}", "one", path) for path in described}
    paths = written | {path.rstrip("/") for path in written} | pages
    assert len(paths) > 80
    assert {path: destination(CADDY, path) for path in paths if destination(CADDY, path) != "ledger:8080"} == {}


@pytest.mark.parametrize(
    ("path", "to"),
    [("/ws/computing/", "edge:8090"), ("/internal/v1/operations", "404"), ("/-/routes", "404"), ("/-/healthz", "404"), ("/metrics", "404")],
)
def test_agents_go_to_the_edge_gateway_and_what_is_ours_nowhere(path, to):
    assert destination(CADDY, path) == to


def watched_pages() -> set[str]:
    """The pages without which an alert that a part is silent would stay on: `service:port`."""
    page_of = {
        LEDGER: f"ledger:{LedgerSettings.model_fields['ledger_port'].default}",
        EDGE: f"edge:{EdgeSettings.model_fields['edge_node_port'].default}",
        AUDITOR: f"auditor:{AuditorSettings.model_fields['auditor_port'].default}",
    }
    rays = f"ray:{Ports(base=None).metrics_export}"  # of the Dispatcher and the replicas
    return {page_of.get(KNOWN[selector.name].by, rays) for rule in rules().values() for selector, _ in selectors(read(rule["expr"]))}


def test_prometheus_asks_every_part_that_alerts_are_about_and_has_the_rules():
    pages = watched_pages()
    assert len(pages) == 4
    assert compose.unwatched(compose.load(TEXT), yaml.safe_load(PROMETHEUS), pages) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"edge:8085"', '"edge:8090"', "edge:8085 is not asked"),
        ('"ledger:8080"', '"ledgr:8080"', "ledgr:8080 cannot be reached"),
        ("[rules.yml]", "[alerts.yml]", "the rules alerts.yml are not there"),
    ],
)
def test_a_part_that_nobody_watches_is_found(old, new, said):
    assert old in PROMETHEUS
    assert said in compose.unwatched(compose.load(TEXT), yaml.safe_load(PROMETHEUS.replace(old, new)), watched_pages())


def test_the_scrapes_of_ledger_and_auditor_need_the_ledgers_network():
    config = compose.load(
        TEXT.replace("    networks:\n      ledger:\n      ray:\n      watch:\n    mem", "    networks:\n      ray:\n      watch:\n    mem")
    )
    assert {one.split(":")[0] for one in compose.unwatched(config, yaml.safe_load(PROMETHEUS), set())} == {"auditor", "ledger"}


def test_grafana_gets_the_boards():
    provided = yaml.safe_load((ROOT / "ops/compose/grafana/dashboards/boards.yaml").read_text())["providers"]
    mounts = {place: source for source, place, _ in compose.mounts_of(compose.load(TEXT)["services"]["grafana"])}
    assert mounts["/etc/grafana/provisioning"] == "./ops/compose/grafana"
    (folder,) = [ROOT / mounts[one["options"]["path"]] for one in provided]
    assert len(list(folder.glob("*.json"))) == 4


@pytest.mark.skipif(stand_ins.caddy() is None, reason="no Caddy here: CADDY names one")
@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, {"localhost"}),
        ({"GFE_GUARD_URL": "http://guard.localhost:8080"}, {"localhost", "guard.localhost"}),
        ({"GFE_PUBLIC_URL": "https://gpu.example.org", "GFE_GUARD_URL": "https://guard.example.org", "PROXY_TLS": "tls me@example.org"},
         {"gpu.example.org", "guard.example.org"}),
    ],
)  # fmt: skip
def test_the_door_has_a_site_for_the_guard_where_there_is_one(tmp_path, settings, hosts):
    environment = compose.environment_of(compose.load(TEXT)["services"]["proxy"], {**compose.chosen(EXAMPLE), **settings})
    for name in ("Caddyfile", "guard.caddy"):
        (tmp_path / name).write_text((ROOT / "ops/compose" / name).read_text().replace("/etc/caddy/", f"{tmp_path}/"))
    command = [stand_ins.caddy(), "adapt", "--validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    places = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, env={**environment, **places}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    servers = json.loads(done.stdout)["apps"]["http"]["servers"].values()
    routes = [route for server in servers for route in server["routes"] if "127.0.0.1:8079" not in server["listen"]]
    assert {host for route in routes for match in route["match"] for host in match["host"]} == hosts
    assert ('"guard:8266"' in done.stdout) is ("GFE_GUARD_URL" in settings)


@pytest.mark.parametrize(
    ("address", "may"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("172.30.87.9", True), ("172.30.84.2", False), ("8.8.8.8", False), ("somewhere", False)],
)  # fmt: skip
def test_the_ledgers_metrics_are_for_the_network_of_prometheus(ledger_settings, address, may):
    assert ledger_settings(compose.chosen(EXAMPLE)).may_read_metrics(address) is may
