"""The parts of `gfe up` and their command lines: what runs on one machine, in which environment, and how one sees that it is ready.

No secret of ours stands in an environment or an argument: the parts get the path of the secrets' folder. Ray's processes do not even get
that, and of the caller's environment only what `PASSED_ON` names; the embedded runtime gets `WAY_OUT` too, to fetch models.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import processes, ray_start
from serve_app.local.home import Home
from serve_app.local.parts import Gate, Part, http_gate, postgres_gate, runtime_gate
from serve_app.local.ports import REPLICA_WINDOW, WORKER_WINDOW, Ports
from serve_app.local.postgres import FAST_SHUTDOWN, Server
from serve_app.local.users import User, Users, confined, programs

MIRRORS = ("GFE_MODEL_MIRROR", "GFE_MODEL_URLS")  # where the embedded runtime may fetch models from
WAY_OUT = (  # how it gets there, and where it keeps them: as pip and its caller's shell have it
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME"),
    *("PIP_CERT", "PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_PROXY", "PIP_TRUSTED_HOST"),
)
PASSED_ON = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
)
SECRET_SETTINGS = frozenset({"GFE_DATABASE_URL", "GFE_API_KEY", "GFE_TEST_DATABASE_URL"})
LOOPBACK = "127.0.0.1"
AGENT_PATH = "/ws/computing/"
HEAD_NAME = "head"  # what Ray's dashboard and `gfe nodes` call this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that decides what is started; made once per start, never changed."""

    home: Home
    ports: Ports
    node_id: str  # empty: this machine runs no jobs
    postgres: Server | None  # None: a server of somebody else's, by URL
    runtime_url: str | None  # None: the embedded runtime
    haproxy: Path | None  # None: Ray's own ingress
    haproxy_wrapper: Path  # starts it, on loopback only
    ray_python: Path  # the same Python by a path that Ray can hand to a shell
    environment: Mapping[str, str]  # the caller's
    users: Users | None = None  # who runs the ledger and Ray; None: whoever started this
    why_together: str = ""  # why there are none though root started this
    is_guard_elsewhere: bool = False  # then Ray's dashboard listens where Ray's other ports do, else on loopback

    @property
    def node_address(self) -> str:
        """Where Ray's head is: loopback, or an address that joined nodes reach."""
        return self.environment.get("GFE_NODE_ADDRESS") or LOOPBACK

    @property
    def api_url(self) -> str:
        """Where consumers reach the job APIs."""
        return f"http://{LOOPBACK}:{self.ports.api}"

    @property
    def console_url(self) -> str:
        """Where people find accounts and wallet."""
        return f"http://{LOOPBACK}:{self.ports.console}"

    @property
    def console_origins(self) -> str:
        """The names by which browsers of this machine know the console; empty where others reach it by another."""
        names = () if self.environment.get("GFE_PUBLIC_URL") else (LOOPBACK, "localhost")
        return ",".join(f"http://{name}:{self.ports.console}" for name in names)

    @property
    def dashboard_host(self) -> str:
        """Where Ray's dashboard listens."""
        return self.node_address if self.is_guard_elsewhere else LOOPBACK

    @property
    def dashboard_url(self) -> str:
        """Ray's dashboard."""
        return f"http://{self.dashboard_host}:{self.ports.dashboard}"

    @property
    def guard_url(self) -> str:
        """Where operators look at Ray's dashboard: on loopback, unless somebody said how they reach this machine."""
        return self.environment.get("GFE_GUARD_URL") or f"http://{LOOPBACK}:{self.ports.guard}"

    @property
    def agent_url(self) -> str:
        """Where agents connect: on loopback, unless somebody said how they reach this machine."""
        return self.environment.get("GFE_AGENT_URL") or f"ws://{LOOPBACK}:{self.ports.edge}{AGENT_PATH}"

    @property
    def edge_node_url(self) -> str:
        """Where the edge gateway serves the node protocol."""
        return f"http://{LOOPBACK}:{self.ports.edge_node}"

    @property
    def reference_url(self) -> str:
        """The embedded runtime that counts tokens and scores answers of edge nodes: this one, unless another was named; empty: none."""
        return self.environment.get("GFE_REFERENCE_URL") or ("" if self.runtime_url else self.embedded_runtime_url)

    @property
    def embedded_runtime_url(self) -> str:
        """Where the embedded runtime listens."""
        return f"http://{LOOPBACK}:{self.ports.runtime}"


def parts_of(setup: Setup) -> tuple[Part, ...]:
    """List the parts of an installation."""
    found = [
        _upgrade(setup),
        _bootstrap(setup),
        _ledger(setup),
        _edge(setup),
        _guard(setup),
        ray_part(setup),
        _serve(setup),
        _auditor(setup),
    ]
    if setup.postgres is not None:
        found.insert(0, _postgres(setup, setup.postgres))
    if setup.runtime_url is None:
        found.insert(0, _runtime(setup))
    return tuple(found)


def _python(*arguments: str, python: str | Path = sys.executable) -> tuple[str, ...]:
    """Write the command line of a module; `-P` keeps the working directory off the import path."""
    return (str(python), "-P", "-m", *arguments)


def _as(user: User | None, shown: tuple[Path, ...], command: tuple[str, ...]) -> tuple[str, ...]:
    """Let a user of its own run a command; of the folders closed to him he sees the programs and what is shown."""
    return command if user is None else confined(user, (*programs(), *shown), command)


def _of(user: User | None, home: Path) -> dict[str, str]:
    """Tell a part who it is, when it is not the caller."""
    return {} if user is None else {"HOME": str(home), "USER": user.name, "LOGNAME": user.name, "TMPDIR": "/tmp"}  # noqa: S108 - it is everybody's


def _environment(setup: Setup, part: str, own: Mapping[str, str]) -> dict[str, str]:
    """Build a part's environment from nothing: what is passed on, the marks of this installation, the part's own."""
    passed = {name: setup.environment[name] for name in PASSED_ON if name in setup.environment}
    search = os.pathsep.join((str(Path(sys.executable).parent), setup.environment.get("PATH") or os.defpath))
    marks = {processes.MARK: setup.home.tag, "GFE_PART": part}
    return {"HOME": str(setup.home.root), **passed, "PATH": search, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **marks, **own}


def given_settings(setup: Setup) -> dict[str, str]:
    """List what the caller set of our own settings, but secrets."""
    return {name: value for name, value in setup.environment.items() if name.startswith("GFE_") and name not in SECRET_SETTINGS}


def _settings(setup: Setup, secrets: Path) -> dict[str, str]:
    """Tell our own settings to one of our services: what the caller set, and what this start decided."""
    home, ports = setup.home, setup.ports
    return given_settings(setup) | {
        "GFE_HOME": str(home.root),
        "GFE_SECRETS_DIR": str(secrets),
        "GFE_LEDGER_HOST": LOOPBACK,
        "GFE_LEDGER_PORT": str(ports.console),
        "GFE_LEDGER_URL": setup.console_url,
        "GFE_PUBLIC_URL": setup.environment.get("GFE_PUBLIC_URL") or setup.console_url,
        "GFE_LEDGER_SOCKET": str(home.ledger_socket),
        "GFE_CONSOLE_ORIGINS": setup.environment.get("GFE_CONSOLE_ORIGINS") or setup.console_origins,
        "GFE_API_URL": setup.environment.get("GFE_API_URL") or setup.api_url,
        "GFE_API_HOST": LOOPBACK,
        "GFE_API_PORT": str(ports.api),
        "GFE_RAY_ADDRESS": f"{setup.node_address}:{ports.gcs}",
        "GFE_DASHBOARD_URL": setup.dashboard_url,
        "GFE_GUARD_URL": setup.guard_url,
        "GFE_RUNTIME_URL": setup.runtime_url or setup.embedded_runtime_url,
        "GFE_NODE_ID": setup.node_id,
        "GFE_AGENT_URL": setup.agent_url,
        "GFE_EDGE_URLS": ",".join(filter(None, (setup.edge_node_url, setup.environment.get("GFE_EDGE_URLS")))),
    }


def _ray_environment(setup: Setup) -> dict[str, str]:
    """Tell Ray's own settings; the head and its driver get the same (docs/decisions/0006-ray-on-loopback.md)."""
    home, ports = setup.home, setup.ports
    ingress = {"RAY_SERVE_PROXY_USE_GRPC": "1"}
    if setup.haproxy is not None:
        ingress = {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # a killed HAProxy is noticed after three; by default after thirty seconds
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(setup.haproxy_wrapper),
            "GFE_HAPROXY": str(setup.haproxy),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(home.haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(home.haproxy / "a"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(home.haproxy / "m"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(home.haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(home.haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        }
    # On loopback Ray is told that there is no other machine: then it keeps all of itself there.
    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if setup.node_address == LOOPBACK else {}
    return (
        ingress
        | alone
        | ray_start.settings(home.ray_secrets / "ray_token")
        | {
            "RAY_health_check_initial_delay_ms": "5000",
            "RAY_health_check_period_ms": "2000",
            "RAY_health_check_timeout_ms": "3000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replica_window),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replica_window + REPLICA_WINDOW - 1),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.replica_grpc_window),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.replica_grpc_window + REPLICA_WINDOW - 1),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
            "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
            "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics),
        }
    )


def _postgres(setup: Setup, server: Server) -> Part:
    return Part(
        name="postgres",
        command=tuple(server.command()),
        environment=_environment(setup, "postgres", {}),
        gate=postgres_gate((setup.home.secrets / "admin_database_url").read_text()),
        limit_s=30,
        stop_signal=FAST_SHUTDOWN,
        stop_s=5,
    )


def _upgrade(setup: Setup) -> Part:
    after = () if setup.postgres is None else ("postgres",)
    own = {"GFE_SECRETS_DIR": str(setup.home.secrets)}
    return Part(
        name="upgrade", command=_python("serve_app.local.database"), environment=_environment(setup, "upgrade", own), after=after, tries=1
    )


def _ledgers(setup: Setup, part: str, *arguments: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell command line and environment of a program of the ledger's."""
    user, home = None if setup.users is None else setup.users.ledger, setup.home
    command = _as(user, (home.secrets, home.mail), _python("ledger.cli", *arguments))
    return command, _environment(setup, part, _settings(setup, home.secrets) | _of(user, Path("/")))


def _bootstrap(setup: Setup) -> Part:
    command, environment = _ledgers(setup, "bootstrap", "bootstrap")
    return Part(name="bootstrap", command=command, environment=environment, after=("upgrade",), tries=1)


def _ledger(setup: Setup) -> Part:
    command, environment = _ledgers(setup, "ledger", "serve")
    return Part(
        name="ledger",
        command=command,
        environment=environment,
        gate=http_gate(f"{setup.console_url}/api/core/health/"),
        after=("bootstrap",),
        stop_s=4,
        name_taken=setup.home.ledger_socket,
    )


def _edge(setup: Setup) -> Part:
    user, home, ports = None if setup.users is None else setup.users.edge, setup.home, setup.ports
    here = {
        "GFE_EDGE_HOST": setup.environment.get("GFE_EDGE_HOST") or LOOPBACK,
        "GFE_EDGE_PORT": str(ports.edge),
        "GFE_EDGE_NODE_HOST": LOOPBACK,
        "GFE_EDGE_NODE_PORT": str(ports.edge_node),
        "GFE_REFERENCE_URL": setup.reference_url,
    }
    settings = _settings(setup, home.edge_secrets) | here
    return Part(
        name="edge",
        command=_as(user, (home.edge_secrets,), _python("serve_app.edge")),
        environment=_environment(setup, "edge", settings | _of(user, Path("/"))),
        gate=http_gate(f"http://{LOOPBACK}:{ports.edge_node}/healthz"),
        after=("ledger",),
        stop_s=5,
    )


def _guard(setup: Setup) -> Part:
    user, home, port = None if setup.users is None else setup.users.guard, setup.home, setup.ports.guard
    settings = _settings(setup, home.guard_secrets) | {"GFE_GUARD_HOST": LOOPBACK, "GFE_GUARD_PORT": str(port)}
    return Part(
        name="guard",
        command=_as(user, (home.guard_secrets,), _python("serve_app.dashboard_guard")),
        environment=_environment(setup, "guard", settings | _of(user, Path("/"))),
        gate=http_gate(f"http://{LOOPBACK}:{port}/healthz"),
        after=("ledger",),
    )


def _runtime(setup: Setup) -> Part:
    return Part(
        name="runtime",
        command=_python("cluster.runtime.front", "--host", LOOPBACK, "--port", str(setup.ports.runtime), "--store", str(setup.home.models)),
        environment=_environment(
            setup, "runtime", {name: setup.environment[name] for name in (*MIRRORS, *WAY_OUT) if name in setup.environment}
        ),
        gate=runtime_gate(setup.embedded_runtime_url),
        alive=http_gate(f"{setup.embedded_runtime_url}/api/version"),  # whose models somebody deleted is not restarted
        limit_s=150,
        is_patient=True,  # the first start fetches the model, and tells each tenth of it
    )


def _auditor(setup: Setup) -> Part:
    own = {"GFE_REFERENCE_URL": setup.reference_url, "GFE_AUDITOR_HOST": LOOPBACK, "GFE_AUDITOR_PORT": str(setup.ports.auditor)}
    return Part(
        name="auditor",
        command=_python("serve_app.auditor"),
        environment=_environment(setup, "auditor", _settings(setup, setup.home.secrets) | own),
        gate=http_gate(f"http://{LOOPBACK}:{setup.ports.auditor}/healthz"),
        after=("ledger",),
    )


def _rays(setup: Setup, part: str, command: tuple[str, ...], settings: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell command line and environment of a program of Ray's."""
    user, home = None if setup.users is None else setup.users.ray, setup.home
    return _as(user, (home.ray_secrets,), command), _environment(
        setup, part, {**settings, **_ray_environment(setup), **_of(user, home.rays)}
    )


def _labels(node_id: str) -> str:
    """Write the head's labels; a head that has no id runs no jobs itself."""
    return ",".join(("gfe.io/role=control", *((f"gfe.io/node={node_id}", f"gfe.io/name={HEAD_NAME}") if node_id else ())))


def ray_part(setup: Setup) -> Part:
    """Ray's head."""
    ports = setup.ports
    command, environment = _rays(setup, "ray", (
        *_python("ray.scripts.scripts", "start", "--head", "--block", python=setup.ray_python),
        "--node-ip-address", setup.node_address,
        "--port", str(ports.gcs),
        "--dashboard-host", setup.dashboard_host, "--dashboard-port", str(ports.dashboard),
        "--ray-client-server-port", str(ports.ray_client),
        "--node-manager-port", str(ports.node_manager), "--object-manager-port", str(ports.object_manager),
        "--runtime-env-agent-port", str(ports.runtime_env_agent),
        "--dashboard-agent-listen-port", str(ports.dashboard_agent), "--dashboard-agent-grpc-port", str(ports.dashboard_agent_grpc),
        "--metrics-export-port", str(ports.metrics_export),
        "--min-worker-port", str(ports.worker_window), "--max-worker-port", str(ports.worker_window + WORKER_WINDOW - 1),
        "--num-cpus", "0", "--resources", json.dumps({"control": 1000}),
        "--labels", _labels(setup.node_id),
        "--object-store-memory", str(ray_start.OBJECT_STORE_BYTES),
        "--temp-dir", str(setup.home.ray),
        "--node-name", HEAD_NAME, "--disable-usage-stats", "--log-style", "record", "--log-color", "false",
    ), {})  # fmt: skip
    return Part(
        name="ray",
        command=command,
        environment=environment,
        gate=http_gate(
            f"{setup.dashboard_url}/api/gcs_healthz", f"http://{setup.node_address}:{ports.dashboard_agent}/api/local_raylet_healthz"
        ),
        limit_s=120,
        tries=3,
        stop_s=4,
    )


def _serve(setup: Setup) -> Part:
    settings = _settings(setup, setup.home.ray_secrets) | {"GFE_NODE_NOTES": str(setup.home.notes)}
    after = ("ray", "upgrade", *(() if setup.runtime_url else ("runtime",)))  # without a model the job APIs are not ready
    return serve_part(setup, settings, http_gate(f"{setup.api_url}/readyz"), after=after)


def serve_part(setup: Setup, settings: Mapping[str, str], gate: Gate, after: tuple[str, ...]) -> Part:
    """The job APIs' driver, with these settings of theirs."""
    command, environment = _rays(setup, "serve", _python("serve_app.deployment", python=setup.ray_python), settings)
    return Part(
        name="serve",
        command=command,
        environment=environment,
        gate=gate,
        alive=http_gate(f"{setup.api_url}/healthz"),  # without a node that is well nothing is ready, and it serves on
        after=after,
        restarts_with=("ray",),
        limit_s=120,
        tries=3,
        stop_s=3,
    )
