"""The chart: its values, what it renders in six ways, and that each kind of mistake is caught.

Without `helm` the values and the templates' texts are checked alone. KubeRay's definitions are used where GFE_KUBERAY_CRDS names them.
"""

import copy
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster import ray_start
from serve_app.boards.known import AUDITOR, EDGE
from serve_app.local.fleet_secrets import FILES
from serve_app.local.setting_names import settings
from serve_app.settings import ServeSettings
from tests.apart import NotToBeHad
from tests.cluster.test_standby_on_ray import CLUSTER
from tests.ops import chart_programs, watched
from tests.ops.manifests import definitions_in, environment_of, named_secrets, objects_of, pods_of, problems_of, ways_in

CHART = Path(__file__).parents[2] / "helm" / "gpu-for-everyone"
SETS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
KNOWN = {one.name: one.read_by for one in settings()}
HELM_LIMIT_S = 60
KUBERNETES = "1.37"


imports_serve = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing Ray Serve warns of pydantic


def merged(base, over):
    """Put values over others, as helm does."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merged(base[key], value) if key in base else value for key, value in over.items()}}


def values_of(name):
    return merged(VALUES, yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text()))


def to_be_had(program):
    """Answer where a program is; without it the test is skipped."""
    try:
        return program()
    except NotToBeHad as reason:
        pytest.skip(f"not to be had here: {reason}")


def helm(*arguments):
    return subprocess.run([to_be_had(chart_programs.helm), *arguments], capture_output=True, text=True, timeout=HELM_LIMIT_S, check=False)


def rendered(*arguments, chart=CHART):
    done = helm("template", "gfe", str(chart), "--namespace", "gfe", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def renders():
    return {name: rendered("-f", str(CHART / "ci" / f"{name}.yaml")) for name in SETS}


def refusals(values):
    return [error.json_path for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(values)]


def secrets_in(values):
    return set(values["secrets"].values())


# --- values, without helm ----------------------------------------------------------------------------------------------------------------


def test_the_schema_is_one_and_knows_every_value():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def same(schema, values, at):
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if "properties" in schema and isinstance(values, dict):
            assert schema["additionalProperties"] is False, at
            assert set(schema["properties"]) - {"global"} == set(values), at
            for key, value in values.items():
                same(schema["properties"][key], value, f"{at}.{key}")

    without_free_forms = copy.deepcopy(VALUES)
    for peer in without_free_forms["database"]["peers"]:
        assert peer
    same(SCHEMA, without_free_forms, "$")


@pytest.mark.parametrize("name", SETS)
def test_the_schema_takes_each_set(name):
    assert refusals(values_of(name)) == []


MISTAKES = {
    "a port that is a text": {"database": {"port": "5432"}},
    "nobody runs the ledger": {"ledger": {"replicas": 0}},
    "no replica": {"serve": {"replicas": {"min": 0}}},
    "an unknown value": {"ledger": {"replica": 2}},
    "an unknown part": {"edges": {"enabled": True}},
    "no name of a secret": {"secrets": {"serve": ""}},
    "a null where a secret's name is needed": {"secrets": {"ray": None}},
    "an address for a name": {"host": "https://gpu.example.org"},
    "a setting that the chart decides": {"ledger": {"settings": {"GFE_LEDGER_PORT": "80"}}},
    "a setting that is none": {"serve": {"settings": {"default_model": "m"}}},
    "a secret among the settings": {"ledger": {"settings": {"GFE_PUBLIC_URL": "x"}}},
    "a node without an id": {"gpu": {"nodes": [{"name": "rack"}]}},
    "standing by in a word": {"gpu": {"nodes": [{"id": "node_01M8C432FNFDCRBAC1TDAJ1BJQ", "name": "rack", "standby": "yes"}]}},
    "a node's id of another kind": {"gpu": {"nodes": [{"id": "user_1", "name": "rack"}]}},
    "a reference without an image": {"auditor": {"reference": {"enabled": True}}},
    "two guards": {"guard": {"replicas": 2}},
    "an address for the guard's name": {"guardHost": "https://guard.gpu.example.org"},
    "a Grafana without a scheme": {"guard": {"grafana": {"url": "grafana:3000/grafana"}}},
    "a collector without a scheme": {"serve": {"traces": {"url": "collector:4318"}}},
    "the guard's address among the settings": {"ledger": {"settings": {"GFE_GUARD_URL": "https://guard.gpu.example.org"}}},
    "boards that nobody finds": {"boards": {"labels": None}},
    "two auditors with one volume": {"auditor": {"replicas": 2, "reference": {"enabled": True, "image": "x"}}},
    "no database that may be reached": {"database": {"peers": []}},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_schema_refuses(mistake):
    assert refusals(merged(VALUES, MISTAKES[mistake]))


def test_every_setting_that_a_template_or_a_set_names_is_one():
    texts = [path.read_text() for path in (*(CHART / "templates").iterdir(), *(CHART / "ci").iterdir(), CHART / "values.yaml")]
    named = set(re.findall(r"GFE_[A-Z0-9_]+[A-Z0-9]", "\n".join(texts)))
    assert len(named) > 20
    assert named - KNOWN.keys() == set()


def test_settings_that_the_chart_decides_are_known_to_be_decided():
    decided = set(SCHEMA["$defs"]["settings"]["propertyNames"]["not"]["enum"])
    assert decided - KNOWN.keys() == set()
    for file in ("ledger.yaml", "edge.yaml", "guard.yaml"):
        given = set(re.findall(r'(?:^  |\(dict )"(GFE_[A-Z0-9_]+)"', (CHART / "templates" / file).read_text(), re.MULTILINE))
        assert given, file
        assert given - decided == set(), file


def test_each_secret_is_one_that_a_command_makes():
    made = {*FILES, "ray", "signing"}
    assert set(VALUES["secrets"]) == made


def test_ray_is_told_what_every_start_of_ray_is_told():
    text = (CHART / "templates" / "_helpers.tpl").read_text() + (CHART / "templates" / "rayservice.yaml").read_text()
    told = dict(re.findall(r'"(RAY_\w+)" "([^"]*)"', text))
    needed = {name: value for name, value in ray_start.settings(Path("x")).items() if not name.startswith("RAY_AUTH_")}  # KubeRay's
    assert needed.items() <= told.items()
    assert f'rayVersion: "{ray_start.ray_version()}"' in text
    assert f'object-store-memory: "{ray_start.OBJECT_STORE_BYTES}"' in text


# --- rendered ----------------------------------------------------------------------------------------------------------------------------


def test_the_linter_finds_nothing():
    done = helm("lint", "--strict", str(CHART), *(part for name in SETS for part in ("-f", str(CHART / "ci" / f"{name}.yaml"))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_there_are_six_sets_and_all_of_them_hold(renders):
    assert len(renders) == 6
    assert {name: problems_of(objects_of(text), secrets_in(values_of(name))) for name, text in renders.items()} == {
        name: [] for name in SETS
    }


def test_helm_refuses_wrong_values_with_their_place(tmp_path):
    for number, mistake in enumerate(MISTAKES.values()):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(mistake))
        done = helm("template", "gfe", str(CHART), "-f", str(file))
        assert done.returncode != 0, mistake
        assert "values don't meet the specifications of the schema" in done.stderr, done.stderr


@pytest.mark.parametrize("name", SETS)
def test_containers_are_told_settings_that_their_service_reads(renders, name):
    reads = {
        "ledger": {"ledger"},
        "edge": {"edge gateway"},
        "auditor": {"auditor"},
        "guard": {"dashboard guard"},
        "ray-worker": {"a node's worker"},
        "migrate": {"ledger"},
    }
    by_reader: dict[str, set[str]] = {}
    for one in settings():
        by_reader.setdefault(one.read_by, set()).add(one.name)
    for where, names in environment_of(objects_of(renders[name])).items():
        ours = {one for one in names if one.startswith("GFE_")}
        may = set().union(*(by_reader[reader] for reader in reads.get(where.rpartition("/")[2], ())))
        assert ours <= may, where
        assert not {one for one in names if "PASSWORD" in one or "TOKEN" in one or "DATABASE_URL" in one}, where


def ray_service(text):
    return next(one for one in objects_of(text) if one["kind"] == "RayService")


@pytest.mark.parametrize("name", SETS)
def test_the_application_gets_arguments_that_it_takes(renders, name):
    config = yaml.safe_load(ray_service(renders[name])["spec"]["serveConfigV2"])
    arguments = config["applications"][0]["args"]
    assert all(isinstance(value, str) for value in arguments.values())
    assert set(arguments) <= set(ServeSettings.model_fields)
    told = ServeSettings.model_validate(arguments)
    values = values_of(name)
    assert told.traces_url == values["serve"]["traces"]["url"]
    assert len(told.edges) == (values["edge"]["replicas"] if values["edge"]["enabled"] else 0)
    for key, value in values["serve"]["settings"].items():
        assert str(getattr(told, "continues" if key == "GFE_CONTINUE" else key.removeprefix("GFE_").lower())) == str(value)


@imports_serve
def test_serve_takes_the_file_that_kuberay_hands_it(renders):
    from ray.serve.schema import ServeDeploySchema

    for text in renders.values():
        said = ServeDeploySchema.model_validate(yaml.safe_load(ray_service(text)["spec"]["serveConfigV2"]))
        assert said.proxy_location == "HeadOnly"
        assert said.applications[0].import_path == "serve_app.deployment:build"
        assert said.applications[0].deployments[0].name == "Api"


@imports_serve
@pytest.mark.parametrize("name", SETS)
def test_ray_pods_are_where_the_code_looks_for_them(renders, name):
    from cluster.dispatcher_actor import CONTROL
    from serve_app.deployment import Api

    cluster = ray_service(renders[name])["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": values_of(name)["secrets"]["ray"]}
    options = Api.ray_actor_options  # what a replica needs
    control = next(group for group in cluster["workerGroupSpecs"] if group["groupName"] == "control")
    assert options["label_selector"].items() <= control["labels"].items()
    assert int(control["resources"]["control"]) >= 100 * options["resources"]["control"]  # the most that `perPod` may be
    assert int(cluster["headGroupSpec"]["resources"]["control"]) >= CONTROL["control"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["resources"]["CPU"] == "0"
        assert all(value.isdigit() for value in group["resources"].values())  # Ray takes whole numbers alone
        if group is not control:
            assert not options["label_selector"].items() <= group["labels"].items()
        env = {one["name"]: one.get("value") for one in group["template"]["spec"]["containers"][0]["env"]}
        assert env["RAY_worker_niceness"] == "0"
        assert env["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
        assert env.get("RAY_SERVE_ENABLE_HA_PROXY") == ("1" if values_of(name)["serve"]["haproxy"] else None)
    nodes = [group for group in cluster["workerGroupSpecs"] if "gfe.io/node" in group["labels"]]
    assert [group["labels"]["gfe.io/node"] for group in nodes] == [one["id"] for one in values_of(name)["gpu"]["nodes"]]
    always = [int(one.get("enabled", True) and not one.get("standby")) for one in values_of(name)["gpu"]["nodes"]]
    assert [(group["replicas"], group["minReplicas"]) for group in nodes] == list(zip(always, always, strict=True))


def test_nodes_that_stand_by_are_the_ones_that_the_dispatcher_is_told_of(renders, tmp_path):
    from cluster.pool import NODE_LABEL, STANDBY
    from cluster.standby_nodes import names_in

    objects = objects_of(renders["gpu"])
    [service] = [one for one in objects if one["kind"] == "RayService"]
    [listed] = [one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "gfe-standby"]
    cluster = service["spec"]["rayClusterConfig"]
    groups = {group["labels"][NODE_LABEL]: group for group in cluster["workerGroupSpecs"] if STANDBY in group["resources"]}
    assert list(groups) == ["node_01M8C432FNFDCRBAC1TDAJ1BJT", "node_01M8C432FNFDCRBAC1TDAJ1BJV"], "not the one that is stopped"
    [rehearsed] = CLUSTER["workerGroupSpecs"]  # what Ray's autoscaler was tried with
    for group in groups.values():
        same = "replicas", "minReplicas", "maxReplicas", "resources"
        assert [group[name] for name in same] == [rehearsed[name] for name in same]
        assert group["labels"].keys() == rehearsed["labels"].keys()
        assert rehearsed.keys() - group.keys() == set()
    arguments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    settings = ServeSettings(**arguments)
    assert settings.standby_idle_s == 1200
    file = tmp_path / "nodes"
    file.write_text(listed["data"][settings.standby_file.name])
    assert names_in(file) == list(groups)
    control = next(group for group in cluster["workerGroupSpecs"] if group["groupName"] == "control")
    for group in (cluster["headGroupSpec"], control):  # the Dispatcher may run in either
        [mount] = [one for one in group["template"]["spec"]["containers"][0]["volumeMounts"] if one["name"] == "standby"]
        assert mount["mountPath"] == str(settings.standby_file.parent)
        assert {"name": "standby", "configMap": {"name": "gfe-standby"}} in group["template"]["spec"]["volumes"]
    assert "standby" not in renders["default"]


def test_every_route_leads_to_the_service_that_has_it(renders):
    from ledger.app import described
    from serve_app.app import create_app

    ingress = next(one for one in objects_of(renders["default"]) if one["kind"] == "Ingress")
    ways = list(ways_in(ingress))

    def leads(host, asked):
        """Find the service, as Kubernetes tells an ingress to: an exact path first, then the longest prefix of whole parts."""
        fits = []
        for at, path, service, _ in ways:
            prefix = path["path"].rstrip("/")
            is_exact = path["pathType"] == "Exact"
            if at == host and (asked == path["path"] if is_exact else asked == prefix or asked.startswith(f"{prefix}/")):
                fits.append((is_exact, len(prefix), service))
        return max(fits)[2] if fits else None

    host, api = VALUES["host"], VALUES["apiHost"]
    routes = {route.path for route in create_app(lambda: None).routes}
    assert len(routes) > 50
    assert {path: leads(api, path) for path in routes} == dict.fromkeys(routes, "gfe-head-svc")
    shared = {path for path in routes if path.startswith(("/v1/", "/api/computing/", "/ws/"))}
    assert {leads(host, path) for path in shared} == {"gfe-head-svc"}
    assert {leads(host, path) for path in described()["paths"]} == {"gfe-ledger"}
    assert {leads(host, path) for path in ("/", "/wallet", "/install.sh", "/dist/x.whl", "/.well-known/jwks.json")} == {"gfe-ledger"}
    assert leads(host, "/ws/computing/") == "gfe-edge"
    assert leads(api, "/-/routes") is None
    assert leads(host, "/-/routes") == "gfe-ledger"
    assert leads(api, "/internal/v1/operations") is None


def test_the_guard_has_a_name_of_its_own_and_ledger_and_guard_agree_on_it(renders):
    objects = objects_of(renders["production"])
    ingress = first(objects, "Ingress")
    values = values_of("production")
    ways = [(path["path"], service, port) for host, path, service, port in ways_in(ingress) if host == values["guardHost"]]
    assert ways == [("/", "gfe-guard", "http")]
    assert ingress["spec"]["tls"][0]["hosts"] == [values["host"], values["apiHost"], values["guardHost"]]
    told = {}
    for name, pod in pods_of(objects):
        told[name] = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0].get("env", [])}
    ledger, guard = told["Deployment/gfe-ledger"], told["Deployment/gfe-guard"]
    same = ("GFE_GUARD_URL", "GFE_GRAFANA_URL", "GFE_PUBLIC_URL")
    assert {name: ledger[name] for name in same} == {name: guard[name] for name in same}
    assert guard["GFE_GUARD_URL"] == f"https://{values['guardHost']}"
    assert "GFE_GUARD_URL" not in {one for names in environment_of(objects_of(renders["default"])).values() for one in names}


@pytest.mark.parametrize("taken", ["host", "apiHost"])
def test_the_guard_shares_its_name_with_nobody(taken):
    done = helm("template", "gfe", str(CHART), "--set", f"guardHost={VALUES[taken]}")
    assert done.returncode != 0
    assert "guardHost must be a name of its own" in done.stderr


@pytest.mark.parametrize("name", SETS)
def test_boards_are_what_grafana_would_read_from_the_folder(renders, name):
    values = values_of(name)["boards"]
    made = [one for one in objects_of(renders[name]) if one["kind"] == "ConfigMap" and not {"smoke.py", "nodes"} & one["data"].keys()]
    found = {file: text for one in made for file, text in one["data"].items()}
    assert found == ({path.name: path.read_text() for path in watched.BOARDS.glob("*.json")} if values["enabled"] else {})
    assert all(values["labels"].items() <= one["metadata"]["labels"].items() for one in made)


@pytest.mark.parametrize("name", SETS)
def test_alerts_are_about_parts_that_there_are(renders, name):
    values = values_of(name)
    objects = [one for one in objects_of(renders[name]) if one["kind"] == "PrometheusRule"]
    made = {rule["alert"]: rule for one in objects for group in one["spec"]["groups"] for rule in group["rules"]}
    if not values["monitors"]["enabled"]:
        assert made == {}
        return
    missing = {part for part, key in ((EDGE, "edge"), (AUDITOR, "auditor")) if not values[key]["enabled"]}
    silent = {
        alert
        for alert, rule in watched.rules().items()
        for metric in re.findall(r"absent\((\w+)", rule["expr"])
        if watched.KNOWN[metric].by in missing
    }
    assert bool(silent) is bool(missing)
    assert made == {alert: rule for alert, rule in watched.rules().items() if alert not in silent}


@pytest.mark.parametrize("chosen", ["default", "production", "tls"])
def test_policies_open_the_ways_that_the_design_names_and_no_other(renders, chosen):
    objects, values = objects_of(renders[chosen]), values_of(chosen)
    guard, release = {"guard"} if values["guardHost"] else set(), values["nameOverride"] or "gfe"
    policies = {one["metadata"]["name"].removeprefix(f"{release}-"): one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    assert policies["nothing"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["nothing"]
    assert "egress" not in policies["nothing"]

    def part(peer):
        return peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")

    def open_to(name, direction):
        key = "from" if direction == "ingress" else "to"
        return {
            (part(peer), port["port"]) for rule in policies[name].get(direction, []) for peer in rule[key] for port in rule.get("ports", [])
        }

    parts = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in pods_of(objects)}
    assert parts <= policies.keys()
    for name in parts:  # a way between two of ours is open at both ends, or the policy says something that does not work
        for other, port in open_to(name, "egress"):
            if other:
                assert (name, port) in open_to(other, "ingress"), (name, other, port)
        for other, port in open_to(name, "ingress"):
            if other:
                assert (name, port) in open_to(other, "egress"), (other, name, port)
    internal = {who for who, port in open_to("ledger", "ingress") if port == 8091} - {None}  # who is no part of ours: Prometheus
    assert internal == {"control", "edge", "auditor"} | guard
    assert {who for who, port in open_to("head", "ingress") if port == 8265} == {None} | guard  # and KubeRay
    if guard:
        assert {port for _, port in open_to("guard", "ingress")} == {8266}
        assert open_to("guard", "egress") - {(None, 3000)} == {("ledger", 8091), ("head", 8265)}
        assert ((None, 3000) in open_to("guard", "egress")) is bool(values["guard"]["grafana"]["url"])
    assert ((None, values["serve"]["traces"]["port"]) in open_to("control", "egress")) is bool(values["serve"]["traces"]["url"])
    databases = {name for name in parts for _, port in open_to(name, "egress") if port == VALUES["database"]["port"]}
    assert databases == {"ledger", "control", "migrate"}
    assert {who for who, _ in open_to("migrate", "ingress")} == set()
    rays = {"head", "control", "gpu"}
    for name in parts:  # only Ray's own pods reach Ray
        for rule in policies[name].get("ingress", []):
            if "ports" not in rule:
                assert name in rays
                assert {part(peer) for peer in rule["from"]} == rays


@pytest.mark.parametrize(("name", "kinds"), [
    ("default", {"Ingress", "NetworkPolicy", "PodDisruptionBudget", "Job"}), ("no-ingress", set()), ("production", {"ServiceMonitor", "PodMonitor", "PrometheusRule"}),
])  # fmt: skip
def test_what_is_switched_off_is_not_there(renders, name, kinds):
    made = {one["kind"] for one in objects_of(renders[name])}
    optional = {"Ingress", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert kinds <= made
    if name == "no-ingress":
        assert not optional & made
        assert "Job" not in made
    if name == "default":
        assert not {"ServiceMonitor", "PodMonitor", "PrometheusRule"} & made
        assert not [one for one in objects_of(renders[name]) if one["metadata"]["name"].startswith(("gfe-guard", "gfe-board"))]


def test_a_release_of_another_name_changes_every_reference(renders):
    done = helm("template", "other", str(CHART), "-f", str(CHART / "ci" / "tls.yaml"))
    objects = objects_of(done.stdout)
    assert problems_of(objects, secrets_in(values_of("tls"))) == []
    assert all(one["metadata"]["name"].startswith("market") for one in objects)
    assert named_secrets(objects) == secrets_in(values_of("tls")) - {"market-metrics"}


def test_the_notes_tell_the_first_steps(tmp_path):
    done = helm("install", "gfe", str(CHART), "--dry-run=client", "-f", str(CHART / "ci" / "default.yaml"))
    if done.returncode != 0:
        pytest.skip(f"this helm renders notes with a cluster only: {done.stderr.strip()[:200]}")
    notes = done.stdout.rpartition("NOTES:")[2]
    for needed in ("helm -n", "create-operator", "add-node", "https://api.gpu.example.org/v1", "auditor.reference.enabled"):
        assert needed in notes


# --- planted mistakes, in what is rendered -----------------------------------------------------------------------------------------------


def first(objects, kind):
    return next(one for one in objects if one["kind"] == kind)


def no_volume(objects):
    pod = first(objects, "Deployment")["spec"]["template"]["spec"]
    pod["volumes"] = [one for one in pod["volumes"] if one["name"] != "secrets"]


def another_secret(objects):
    first(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] = "forgotten"


def nobody(objects):
    first(objects, "Deployment")["spec"]["replicas"] = 0


def head(objects):
    return first(objects, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]


def root(objects):
    del head(objects)["securityContext"]["runAsNonRoot"]


def everybodys_token(objects):
    del head(objects)["automountServiceAccountToken"]


def rays_token(objects):
    head(objects)["containers"][0]["volumeMounts"].append({"name": "kubernetes", "mountPath": "/elsewhere"})


def nobodys_token(objects):
    first(objects, "RayService")["spec"]["rayClusterConfig"]["autoscalerOptions"]["volumeMounts"].pop()


def writable(objects):
    first(objects, "Job")["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def no_port(objects):
    first(objects, "Service")["spec"]["ports"][0]["targetPort"] = "web"


def too_few(objects):
    first(objects, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] = 0


def elsewhere(objects):
    first(objects, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "gfe-gateway"


def nobodys_budget(objects):
    first(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = "ledgers"


def guards(objects):
    return next(one for one in objects if one["kind"] == "Deployment" and one["metadata"]["name"] == "gfe-guard")


def another_name(objects):
    del guards(objects)["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["httpHeaders"]


def another_dashboard(objects):
    env = guards(objects)["spec"]["template"]["spec"]["containers"][0]["env"]
    next(one for one in env if one["name"] == "GFE_DASHBOARD_URL")["value"] = "http://gfe-head-svc:8266"


def two_guards(objects):
    guards(objects)["spec"]["strategy"] = {"type": "RollingUpdate"}


@pytest.mark.parametrize(("plant", "said"), [
    (no_volume, "no volume secrets"), (another_secret, "no Secret forgotten"), (nobody, "nobody runs"), (root, "runs as root"),
    (everybodys_token, "every container has a token"), (rays_token, "ray-head has a token"), (nobodys_token, "autoscaler has no token"),
    (writable, "writes to its root"), (no_port, "no port web"), (too_few, "not within its bounds"), (elsewhere, "no service gfe-gateway"),
    (nobodys_budget, "selects no pod"), (another_name, "does not ask by the name guard.gpu.example.com"),
    (another_dashboard, "gfe-head-svc:8266, where nobody listens"), (two_guards, "there may be two"),
])  # fmt: skip
def test_a_planted_mistake_is_caught(renders, plant, said):
    objects = objects_of(renders["production"])
    plant(objects)
    assert any(said in one for one in problems_of(objects, secrets_in(VALUES)))


# --- Kubernetes' schemas -----------------------------------------------------------------------------------------------------------------


def validated(path):
    program = to_be_had(chart_programs.kubernetes_validate)
    return subprocess.run(
        [program, "--strict", "-k", KUBERNETES, str(path)], capture_output=True, text=True, timeout=HELM_LIMIT_S, check=False
    )


def test_kubernetes_would_take_every_object(renders, tmp_path):
    seen = set()
    file = tmp_path / "all.yaml"
    one_of_each = []
    for text in renders.values():  # the same object of two sets is asked about once: the program is slow
        for one in objects_of(text):
            if (key := json.dumps(one, sort_keys=True)) not in seen:
                seen.add(key)
                one_of_each.append(one)
    file.write_text(yaml.safe_dump_all(one_of_each))
    done = validated(file)
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO") and "Couldn't find schema" not in line]
    assert done.returncode == 0, said
    assert said == []


def text_port(objects):
    first(objects, "Service")["spec"]["ports"][0]["port"] = "8080"
    return first(objects, "Service")


def unknown_field(objects):
    first(objects, "Deployment")["spec"]["replicaz"] = 2
    return first(objects, "Deployment")


def unknown_in_a_policy(objects):
    first(objects, "NetworkPolicy")["spec"]["podSelektor"] = {}
    return first(objects, "NetworkPolicy")


@pytest.mark.parametrize("plant", [text_port, unknown_field, unknown_in_a_policy])
def test_kubernetes_would_refuse(renders, plant, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(plant(objects_of(renders["default"]))))
    assert validated(file).returncode != 0


CRDS = os.environ.get("GFE_KUBERAY_CRDS")
needs_crds = pytest.mark.skipif(not CRDS or not any(Path(CRDS).glob("*.yaml")), reason="no definitions of resources: set GFE_KUBERAY_CRDS")


@pytest.fixture(scope="module")
def definitions():
    return definitions_in(Path(CRDS))


@needs_crds
def test_kuberay_would_take_every_cluster(renders, definitions):
    checked = set()
    for name, text in renders.items():
        for one in objects_of(text):
            schema = definitions.get((one["apiVersion"], one["kind"]))
            if schema is None:
                continue
            checked.add((name, one["kind"]))
            found = [f"{error.json_path}: {error.message[:200]}" for error in jsonschema.Draft202012Validator(schema).iter_errors(one)]
            assert found == [], (name, one["kind"])
    assert {(name, "RayService") for name in SETS} <= checked
    watching = {"ServiceMonitor", "PodMonitor", "PrometheusRule"} & {kind for _, kind in definitions}
    assert {(name, kind) for kind in watching for name in ("production", "no-edge")} <= checked


def misspelled_group(service):
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["groupNam"] = "control"


def counted_in_words(service):
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"] = "four"


def unknown_option(service):
    service["spec"]["serveConfig"] = "applications: []"


def a_token_of_another_kind(service):
    service["spec"]["rayClusterConfig"]["authOptions"]["mode"] = "password"


def a_misspelled_container(service):
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagee"] = "x"


@needs_crds
@pytest.mark.parametrize("plant", [misspelled_group, counted_in_words, unknown_option, a_token_of_another_kind, a_misspelled_container])
def test_kuberay_would_refuse(renders, definitions, plant):
    service = ray_service(renders["default"])
    plant(service)
    assert list(jsonschema.Draft202012Validator(definitions[(service["apiVersion"], "RayService")]).iter_errors(service))


@needs_crds
@pytest.mark.parametrize(
    ("old", "new"), [("for: 2m", "for: two minutes"), ("severity: page", "severity: 1"), ("- alert: BooksRed", "- alrt: BooksRed")]
)
def test_the_operator_of_prometheus_would_refuse(renders, definitions, old, new):
    schema = definitions.get(("monitoring.coreos.com/v1", "PrometheusRule"))
    if schema is None:
        pytest.skip("no definition of PrometheusRule in GFE_KUBERAY_CRDS")
    wrong = next(one for one in objects_of(renders["production"].replace(old, new)) if one["kind"] == "PrometheusRule")
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(wrong))
