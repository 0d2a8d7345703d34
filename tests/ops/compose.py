"""compose.yaml as data, and our rules for it. Pure: who calls gives the texts and the repository's files.

Interpolation and merging are those of the Compose Specification (`12-interpolation.md`, `10-fragments.md`).
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import yaml

VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?+])([^}]*))?\}")
PROFILES = ("dev", "prod", "watch", "guard")
STEPS = frozenset({"secrets", "migrate", "bootstrap", "check"})
DOORS = frozenset({"proxy"})  # who is open to the world
MAY_ADD = {"secrets": {"CHOWN", "DAC_OVERRIDE", "FOWNER"}, "proxy": {"NET_BIND_SERVICE"}, "proxy-dev": {"NET_BIND_SERVICE"}}
# Who may share a network with whom that has something to lose.
NEIGHBORS = {
    "postgres": {"migrate", "bootstrap", "ledger", "ray"},
    "ray": {"postgres", "migrate", "bootstrap", "ledger", "edge", "guard", "ollama", "prometheus", "proxy", "proxy-dev"},
    "guard": {"ledger", "ray", "edge", "ollama", "prometheus", "grafana", "proxy", "proxy-dev"},
    "auditor": {"ledger", "edge", "prometheus"},
    "ollama": {"ray", "edge", "guard", "prometheus"},
    "prometheus": {"ledger", "edge", "auditor", "ray", "guard", "ollama", "grafana"},
    "grafana": {"prometheus", "guard"},
}
WRITERS = {"ledger-secrets": {"ledger", "bootstrap"}, "ledger-socket": {"ledger"}}  # of volumes that services share
THIRD = {  # what other people's programs read
    "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS"},
    "ollama": {"HOME", "OLLAMA_HOST", "OLLAMA_MODELS"},
    "proxy": {"GFE_PUBLIC_URL", "GFE_GUARD_URL", "GUARD_SITE", "PROXY_TLS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"},
    "grafana": {
        "GF_SECURITY_ADMIN_PASSWORD__FILE", "GF_ANALYTICS_REPORTING_ENABLED", "GF_ANALYTICS_CHECK_FOR_UPDATES", "GF_USERS_ALLOW_SIGN_UP",
        "GF_SERVER_ROOT_URL", "GF_SERVER_SERVE_FROM_SUB_PATH", "GF_AUTH_ANONYMOUS_ENABLED",
    },
}  # fmt: skip
THIRD["proxy-dev"] = THIRD["proxy"]
OWN_SECRETS = {  # volume of secrets -> who has it
    "admin-secrets": {"migrate"}, "auditor-secrets": {"auditor"}, "edge-secrets": {"edge"}, "grafana-secrets": {"grafana"},
    "guard-secrets": {"guard"},
    "ledger-secrets": {"ledger", "bootstrap", "check"}, "postgres-secrets": {"postgres"}, "ray-secrets": {"ray"}, "kept": set(),
}  # fmt: skip


def load(text: str) -> dict[str, Any]:
    """Read the file, merged and not interpolated."""
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def variables(text: str) -> set[str]:
    """Every variable that the file asks for: in braces, and names that are passed on."""
    named = {
        match[1]
        for match in VARIABLE.finditer("\n".join(line.split(" #")[0] for line in text.splitlines() if not line.strip().startswith("#")))
    }
    passed = {
        name for service in load(text)["services"].values() for name, value in (service.get("environment") or {}).items() if value is None
    }
    return named | passed


def offered(example: str) -> dict[str, str]:
    """Every variable of `.env.example`, set or in a comment; the first value of each."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", example, re.MULTILINE):
        found.setdefault(name, value)
    return found


def chosen(example: str) -> dict[str, str]:
    """What `.env.example` sets as it stands."""
    return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", example, re.MULTILINE))


def filled(value: Any, environment: Mapping[str, str]) -> Any:
    """Put variables in.

    Raises:
        KeyError: One is needed and not set.
    """
    if isinstance(value, dict):
        return {name: filled(one, environment) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, environment) for one in value]
    return VARIABLE.sub(lambda match: _value(match, environment), value) if isinstance(value, str) else value


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, operator, word = match.groups()
    known = environment.get(name)
    if operator and operator.startswith(":"):
        known = known or None
    match (operator or "")[-1:]:
        case "-":
            return word if known is None else known
        case "?":
            if known is None:
                raise KeyError(f"{name}: {word}")
            return known
        case "+":
            return "" if known is None else word
    return known or ""


def environment_of(service: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """What a service's process gets beside its image's own."""
    given = service.get("environment") or {}
    return {
        name: str(filled(value, environment) if value is not None else environment[name])
        for name, value in given.items()
        if value is not None or name in environment
    }


def networks_of(service: Mapping[str, Any]) -> dict[str, str | None]:
    """The networks that a service is in, each with its address there when that is fixed."""
    return {name: (options or {}).get("ipv4_address") for name, options in (service.get("networks") or {}).items()}


def mounts_of(service: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Source, place and whether it may be written, of each mount."""
    for one in service.get("volumes") or ():
        source, place, *options = VARIABLE.sub(lambda match: match[3] or "", one).split(":")
        yield source, place, "ro" not in options


def in_profile(service: Mapping[str, Any], profile: str) -> bool:
    return not service.get("profiles") or profile in service["profiles"]


def unwatched(config: Mapping[str, Any], asked: Mapping[str, Any], pages: set[str]) -> list[str]:
    """What of these pages, `service:port`, Prometheus is not told to ask, or cannot reach; `asked`: its configuration."""
    targets = {target for job in asked["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    found = [f"{page} is not asked" for page in sorted(pages - targets)]
    own = networks_of(config["services"]["prometheus"]).keys()
    for page in sorted(targets):
        service = config["services"].get(page.partition(":")[0])
        if service is None or not own & networks_of(service).keys():
            found.append(f"{page} cannot be reached")
    places = {place: source for source, place, _ in mounts_of(config["services"]["prometheus"])}
    return found + [f"the rules {name} are not there" for name in asked["rule_files"] if f"/etc/prometheus/{name}" not in places]


def problems(text: str, example: str, targets: set[str], readers: Mapping[str, set[str]], files: set[str], pg_hba: str) -> list[str]:
    """Every breach of the rules. `targets`: of the Dockerfile; `readers`: service -> the settings of ours that it reads."""
    config = load(text)
    services: dict[str, Any] = config["services"]
    found = [f"{name} is not in .env.example" for name in sorted(variables(text) - offered(example).keys())]
    found += [
        f"{name} of .env.example means nothing here" for name in sorted(offered(example).keys() - variables(text) - {"COMPOSE_PROFILES"})
    ]
    for name, service in services.items():
        rules = (
            _of_image(name, service, targets), _of_rights(name, service), _of_life(name, service), _of_ports(name, service),
            _of_order(service, services), _of_environment(name, service, readers.get(name, set())), _of_mounts(name, service, config, files),
        )  # fmt: skip
        found += [f"{name}: {said}" for rule in rules for said in rule]
    found += [*_of_networks(config), *_of_secrets(services), *_of_addresses(services, config, pg_hba)]
    unused = config["volumes"].keys() - {source for service in services.values() for source, _, _ in mounts_of(service)}
    return found + [f"volume {name} is nobody's" for name in sorted(unused)]


def _of_image(name: str, service: Mapping[str, Any], targets: set[str]) -> Iterator[str]:
    image = VARIABLE.sub(lambda match: match[3] or "", service.get("image", ""))
    if "build" in service:
        target = service["build"].get("target")
        if target not in targets:
            yield f"there is no target {target}"
        if not image.startswith(f"gfe-{target}:"):
            yield f"the image {image} is not called as its target"
        if "PYTHON_DIGEST" not in service["build"].get("args", {}):
            yield "the base image's digest cannot be given"
    elif not re.fullmatch(r"[\w./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", image) or ":latest" in image:
        yield f"the image {image} needs a tag, and not `latest`"


def _of_rights(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    if service.get("read_only") is not True:
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "keeps capabilities"
    if more := set(service.get("cap_add", ())) - MAY_ADD.get(name, set()):
        yield f"gets the capabilities {sorted(more)}"
    if "no-new-privileges:true" not in service.get("security_opt", ()):
        yield "may gain privileges"
    for word in ("privileged", "pid", "ipc", "devices", "userns_mode"):
        if word in service:
            yield f"has {word}"
    if service.get("network_mode", "none") != "none":
        yield "is in another's network"
    for word in ("mem_limit", "pids_limit"):
        if word not in service:
            yield f"has no {word}"
    if not any(str(one).startswith("/tmp:size=") for one in service.get("tmpfs", ())):
        yield "has no bounded /tmp"
    yield from _of_user(name, service)


def _of_user(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    user = service.get("user")
    if user is None:
        if "build" not in service:
            yield "runs as whoever its image says"
        return
    if not re.fullmatch(r"\d+:\d+", user):
        yield "its user has no number"
    if user.startswith("0:") and (name != "secrets" or service.get("network_mode") != "none"):
        yield "runs as root"


def _of_life(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    health = service.get("healthcheck", {})
    if name in STEPS:
        if "restart" in service:
            yield "a step that is repeated for ever"
        if service.get("build", {}).get("target") != "admin" and health != {"disable": True}:
            yield "a step with a health check"
        return
    if service.get("restart") != "unless-stopped":
        yield "is not started again"
    if service.get("init") is not True:
        yield "has nobody who reaps its orphans"
    if "build" not in service and not health.get("test"):
        yield "has no health check"
    if health.get("test") and health["test"][0] != "CMD":
        yield "its health check needs a shell"


def _of_ports(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", ()):
        if name not in DOORS and not str(port).startswith("127.0.0.1:"):
            yield f"is open to the world at {port}"


def _of_order(service: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    for other, how in (service.get("depends_on") or {}).items():
        if other not in services:
            yield f"waits for {other}, which is not there"
            continue
        wanted = "service_completed_successfully" if other in STEPS else "service_healthy"
        if how.get("condition") != wanted:
            yield f"does not wait until {other} is {wanted}"
        missing = [one for one in PROFILES if in_profile(service, one) and not in_profile(services[other], one)]
        if missing:
            yield f"waits for {other}, which profile {missing[0]} lacks"


def _of_environment(name: str, service: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for variable, value in (service.get("environment") or {}).items():
        if variable not in known | THIRD.get(name, set()):
            yield f"nobody there reads {variable}"
        if re.search(r"PASSWORD|SECRET|TOKEN(?!S)|API_?KEY", variable) and not variable.endswith("_FILE"):
            yield f"{variable} is a secret: a file, never a variable"
        if value is not None and re.search(r"://[^/\s]*:[^/\s]*@", str(value)):
            yield f"{variable} has a password in it"


def _of_mounts(name: str, service: Mapping[str, Any], config: Mapping[str, Any], files: set[str]) -> Iterator[str]:
    for source, place, is_writable in mounts_of(service):
        if source.startswith(("/", "~")) or "docker.sock" in source:
            yield f"sees the host's {source}"
        elif source.startswith("."):
            path = source.removeprefix("./")
            is_brought = path in {"secrets", "certificates"}  # by the operator
            if is_writable:
                yield f"may write {source}"
            if not is_brought and path not in files and not any(file.startswith(f"{path}/") for file in files):
                yield f"{source} is not in the repository"
        elif source not in config["volumes"]:
            yield f"there is no volume {source}"
        elif is_writable and name != "secrets" and name not in WRITERS.get(source, {name}):
            yield f"may write {source} at {place}"
        elif is_writable and name != "secrets" and source.endswith("-secrets") and source not in WRITERS:
            yield f"may write its own secrets at {place}"


def _of_networks(config: Mapping[str, Any]) -> Iterator[str]:
    services, networks = config["services"], config["networks"]
    for name, service in services.items():
        if bool(networks_of(service)) == (service.get("network_mode") == "none"):
            yield f"{name} says neither which networks it is in nor that it is in none"
        yield from (f"{name} is in {one}, which is not there" for one in networks_of(service) if one not in networks)
    for name, allowed in NEIGHBORS.items():
        near = {
            other
            for other, service in services.items()
            if other != name and networks_of(service).keys() & networks_of(services[name]).keys()
        }
        if more := near - allowed:
            yield f"{name} can be reached by {sorted(more)}"
    for name in ("db", "ledger", "ray"):
        if not networks[name].get("internal"):
            yield f"network {name} has a way out"


def _of_secrets(services: Mapping[str, Any]) -> Iterator[str]:
    for volume, owners in OWN_SECRETS.items():
        has = {name for name, service in services.items() if any(source == volume for source, _, _ in mounts_of(service))}
        if has != owners | {"secrets"}:
            yield f"{volume} is seen by {sorted(has)}"


def _of_addresses(services: Mapping[str, Any], config: Mapping[str, Any], pg_hba: str) -> Iterator[str]:
    for name, service in services.items():
        for network, address in networks_of(service).items():
            subnets = [one["subnet"] for one in (config["networks"].get(network, {}).get("ipam") or {}).get("config", ())]
            if address and not any(ip_address(address) in ip_network(subnet) for subnet in subnets):
                yield f"{name}: {address} is not of network {network}"
    proxies = {networks_of(service).get("front") for name, service in services.items() if name.startswith("proxy")}
    for name in ("ledger", "edge", "bootstrap", "check"):
        trusted = services[name]["environment"].get("GFE_TRUSTED_PROXIES")
        if {trusted} != proxies and name in {"ledger", "edge"}:
            yield f"{name} believes {trusted}, and the proxy is {sorted(map(str, proxies))}"
    if services["ray"]["environment"]["GFE_NODE_ADDRESS"] != networks_of(services["ray"]).get("ray"):
        yield "ray: Ray's head is not at its address in the network `ray`"
    if urlsplit(services["guard"]["environment"]["GFE_DASHBOARD_URL"]).hostname != networks_of(services["ray"]).get("ray"):
        yield "guard: Ray's dashboard is not at its address in the network `ray`"
    lines = [line.split() for line in pg_hba.splitlines() if line.startswith("host ")]
    admitted = {(user, line[3]) for line in lines for user in line[2].split(",") if line[3] != "127.0.0.1/32"}
    logins = {"ledger": ("gfe_ledger", "gfe_pay"), "bootstrap": ("gfe_ledger",), "ray": ("gfe_serve",), "migrate": ("postgres",)}
    wanted = {(login, f"{networks_of(services[name]).get('db')}/32") for name, each in logins.items() for login in each}
    if admitted != wanted:
        yield f"pg_hba.conf: {sorted(admitted ^ wanted)} are of one list only"
    yield from (f"pg_hba.conf: {line[-1]} is no proof of a password" for line in lines if line[-1] != "scram-sha-256")
