"""What must hold of the objects that the chart makes, beside their schemas: references that lead somewhere, closed containers, known settings."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

Object = dict[str, Any]
AUTOSCALER = "autoscaler"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io"
KUBERAY_SERVICE = "-head-svc"  # made by KubeRay from the RayService


def objects_of(text: str) -> list[Object]:
    """Read a rendered chart."""
    return [one for one in yaml.safe_load_all(text) if one]


def pods_of(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """List every pod that is made, with its metadata: of workloads, hooks, and groups of the Ray cluster."""
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        match one["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                yield name, one["spec"]["template"]
            case "Pod":
                yield name, one
            case "RayService":
                cluster = one["spec"]["rayClusterConfig"]
                yield f"{name}/head", _with_autoscaler(cluster)
                for group in cluster["workerGroupSpecs"]:
                    yield f"{name}/{group['groupName']}", group["template"]


def _with_autoscaler(cluster: Object) -> Object:
    """Make the head's pod as KubeRay does, which puts the autoscaler's container beside Ray's."""
    head, options = cluster["headGroupSpec"]["template"], cluster["autoscalerOptions"]
    taken = {one: options[one] for one in ("env", "resources", "securityContext", "volumeMounts")}
    spec = head["spec"]
    return head | {"spec": spec | {"containers": [*spec["containers"], {"name": AUTOSCALER, **taken}]}}


def containers_of(pod: Object) -> list[Object]:
    """List a pod's containers, those that run first too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def problems_of(objects: list[Object], secrets: set[str]) -> list[str]:
    """List what is wrong; `secrets`: names of the Secrets that exist."""
    rules = (_open, _mounts, _probes, _services, _links, _selectors, _replicas, _strays)
    found = {one for rule in rules for one in rule(objects)}
    return sorted(found | {f"no Secret {name}" for name in named_secrets(objects) - secrets})


def _open(objects: list[Object]) -> Iterator[str]:
    """Containers and pods that may do more than they need."""
    for name, pod in pods_of(objects):
        security = pod["spec"].get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser"):
            yield f"{name}: runs as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: no seccomp profile"
        if pod["spec"].get("automountServiceAccountToken") is not False:
            yield f"{name}: every container has a token of Kubernetes"
        tokens = {one["name"] for one in _volumes(pod) if "serviceAccountToken" in str(one.get("projected"))}
        if any(pod["spec"].get(one) for one in ("hostNetwork", "hostPID", "hostIPC")) or any("hostPath" in one for one in _volumes(pod)):
            yield f"{name}: reaches into its machine"
        for one in containers_of(pod):
            asked = one.get("securityContext", {})
            if asked.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: {one['name']} keeps capabilities"
            if asked.get("allowPrivilegeEscalation") is not False or asked.get("privileged"):
                yield f"{name}: {one['name']} may gain privileges"
            if asked.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: {one['name']} writes to its root"
            mounts = one.get("volumeMounts", [])
            holds_token = any(mount["name"] in tokens or mount["mountPath"].startswith(TOKEN_FOLDER) for mount in mounts)
            if holds_token is not (one["name"] == AUTOSCALER):  # it alone speaks to Kubernetes
                yield f"{name}: {one['name']} {'has a' if holds_token else 'has no'} token of Kubernetes"
            if not {"memory"} <= one.get("resources", {}).get("limits", {}).keys() or "requests" not in one["resources"]:
                yield f"{name}: {one['name']} has no limit of memory, or no requests"


def _volumes(pod: Object) -> list[Object]:
    found: list[Object] = pod["spec"].get("volumes", [])
    return found


def _mounts(objects: list[Object]) -> Iterator[str]:
    """Volumes, claims and accounts of pods that are not there, and volumes that nobody uses."""
    made = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for name, pod in pods_of(objects):
        volumes = {one["name"] for one in _volumes(pod)}
        mounted = {mount["name"] for one in containers_of(pod) for mount in one.get("volumeMounts", [])}
        yield from (f"{name}: no volume {one}" for one in mounted - volumes)
        yield from (f"{name}: volume {one} is used by nobody" for one in volumes - mounted)
        wanted = [("PersistentVolumeClaim", one.get("persistentVolumeClaim", {}).get("claimName")) for one in _volumes(pod)]
        wanted += [("ConfigMap", one.get("configMap", {}).get("name")) for one in _volumes(pod)]
        wanted.append(("ServiceAccount", pod["spec"].get("serviceAccountName")))
        yield from (f"{name}: no {kind} {one}" for kind, one in wanted if one and (kind, one) not in made)


def _probes(objects: list[Object]) -> Iterator[str]:
    """Probes that ask a port without that name, or the guard by another name than its own, to which it does not answer."""
    for name, pod in pods_of(objects):
        for one in containers_of(pod):
            ports = {port["name"] for port in one.get("ports", [])}
            told = {variable["name"]: variable.get("value") for variable in one.get("env", [])}
            own_name = urlsplit(told["GFE_GUARD_URL"]).hostname if "GFE_GUARD_HOST" in told else None
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = one.get(probe, {})
                headers = {header["name"]: header["value"] for header in asked.get("httpGet", {}).get("httpHeaders", [])}
                if "httpGet" in asked and headers.get("Host") != own_name:
                    yield f"{name}: {probe} does not ask by the name {own_name}"
                port = asked.get("httpGet", asked.get("tcpSocket", {})).get("port")
                if isinstance(port, str) and port not in ports:
                    yield f"{name}: {probe} asks an unknown port {port}"


def _services(objects: list[Object]) -> Iterator[str]:
    """Services that lead nowhere, and an ingress that leads to none."""
    pods = [pod for _, pod in pods_of(objects)]
    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    for name, service in services.items():
        chosen = [pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        if len(chosen) != 1:
            yield f"Service/{name}: selects {len(chosen)} kinds of pod"
        ports = {port["name"] for pod in chosen for one in pod["spec"]["containers"] for port in one.get("ports", [])}
        yield from (f"Service/{name}: no port {one['targetPort']}" for one in service["spec"]["ports"] if one["targetPort"] not in ports)
    known = {(name, port["name"]) for name, service in services.items() for port in service["spec"]["ports"]}
    for one in objects:
        for _, _, backend, port in ways_in(one) if one["kind"] == "Ingress" else ():
            if (backend, port) not in known and not backend.endswith(KUBERAY_SERVICE):
                yield f"Ingress: no service {backend}:{port}"


def _links(objects: list[Object]) -> Iterator[str]:
    """Addresses of our own services, told to a container, at which nobody listens."""
    known = {(one["metadata"]["name"], port["port"]) for one in objects if one["kind"] == "Service" for port in one["spec"]["ports"]}
    for one in objects:
        if one["kind"] == "RayService":
            head = one["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
            known |= {(one["metadata"]["name"] + KUBERAY_SERVICE, port["containerPort"]) for port in head["ports"]}
    for name, pod in pods_of(objects):
        for variable in (variable for one in containers_of(pod) for variable in one.get("env", [])):
            link = urlsplit(str(variable.get("value", "")))
            if link.scheme in {"http", "https"} and "." not in (link.hostname or ".") and (link.hostname, link.port) not in known:
                yield f"{name}: {variable['name']} leads to {link.netloc}, where nobody listens"


def _selectors(objects: list[Object]) -> Iterator[str]:
    """Budgets and policies of no pod; those of parts that may be switched off by themselves aside."""
    pods = [pod for _, pod in pods_of(objects)]
    for one in objects:
        if one["kind"] in {"PodDisruptionBudget", "NetworkPolicy"}:
            wanted = one["spec"].get("selector", one["spec"].get("podSelector"))["matchLabels"]
            is_optional = wanted.get("app.kubernetes.io/component") in {"gpu", "migrate"}
            if not is_optional and not any(wanted.items() <= pod["metadata"]["labels"].items() for pod in pods):
                yield f"{one['kind']}/{one['metadata']['name']}: selects no pod"


def ways_in(ingress: Object) -> Iterator[tuple[str, Object, str, str]]:
    """List host, path, service and port of an ingress."""
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            service = path["backend"]["service"]
            yield rule["host"], path, service["name"], service["port"]["name"]


def _replicas(objects: list[Object]) -> Iterator[str]:
    """Nobody where somebody is needed, and two where one alone may be: the guard remembers who is in."""
    for one in objects:
        is_guard = one["kind"] == "Deployment" and one["metadata"]["labels"]["app.kubernetes.io/component"] == "guard"
        if is_guard and (one["spec"]["replicas"] != 1 or one["spec"].get("strategy") != {"type": "Recreate"}):
            yield f"{one['kind']}/{one['metadata']['name']}: there may be two"
        if one["kind"] in {"Deployment", "StatefulSet"} and one["spec"]["replicas"] < 1:
            yield f"{one['kind']}/{one['metadata']['name']}: nobody runs"
        if one["kind"] == "RayService":
            for group in one["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
                if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
                    yield f"{group['groupName']}: {group['replicas']} pods are not within its bounds"


def named_secrets(objects: list[Object]) -> set[str]:
    """Name every Secret that something reads, wherever the reference stands; but for certificates of the ingress and of registries."""
    found = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "secretName" and isinstance(inner, str):
                    found.add(inner)
                elif key in {"secret", "keySecret", "secretKeyRef", "secretRef"} and isinstance(inner, dict) and "name" in inner:
                    found.add(inner["name"])
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk([one for one in objects if one["kind"] != "Ingress"])
    return found


def _strays(objects: list[Object]) -> Iterator[str]:
    """Names that are there twice, and addresses that are none."""
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    yield from (f"{kind}/{name} is there twice" for kind, name in names if names.count((kind, name)) > 1)
    for cidr in re.findall(r"'cidr': '([^']+)'", str(objects)):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            yield f"{cidr} is no network"


def environment_of(objects: list[Object]) -> dict[str, set[str]]:
    """Name the variables that each container is given: `pod/container` -> names."""
    return {
        f"{name}/{one['name']}": {variable["name"] for variable in one.get("env", [])}
        for name, pod in pods_of(objects)
        for one in containers_of(pod)
    }


def strict(schema: Any) -> Any:
    """Refuse unknown fields wherever a definition lists those that it knows, as Kubernetes does when it is told to."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: strict(value) for key, value in schema.items()}
    if isinstance(told.get("properties"), dict) and not told.get("x-kubernetes-preserve-unknown-fields"):
        told.setdefault("additionalProperties", False)
    if told.get("x-kubernetes-int-or-string"):
        told = {key: value for key, value in told.items() if key not in {"type", "anyOf"}} | {"type": ["integer", "string"]}
    if told.pop("nullable", False) and "type" in told:
        told["type"] = [told["type"], "null"]
    return told


def definitions_in(folder: Path) -> dict[tuple[str, str], Any]:
    """Read definitions of resources: (apiVersion, kind) -> strict JSON schema."""
    found = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(folder.glob("*.yaml")):
        for one in yaml.load_all(path.read_text(), loader):
            if one and one.get("kind") == "CustomResourceDefinition":
                for version in one["spec"]["versions"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
                    found[(f"{one['spec']['group']}/{version['name']}", one["spec"]["names"]["kind"])] = schema
    return found
