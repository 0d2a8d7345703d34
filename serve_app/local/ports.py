"""Which ports an installation takes: a pure plan, and a probe that tries to bind.

Six ports are for people and agents and have names in the documentation; they are free or the start is refused. The others are only used by the
parts among themselves: the next free one does. Two installations on one machine never share a port or a window.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Self

HIGHEST = 65535
LOWEST_BASE = 1024
WORKER_WINDOW = 100  # Ray gives each of its processes one port of this window; one machine has about ten
REPLICA_WINDOW = 50  # ports of Serve replicas, one each, old and new side by side while they are exchanged


class PortTaken(Exception):
    """A port that people know is in use."""

    def __init__(self, what: str, port: int) -> None:
        super().__init__(what, port)
        self.what = what
        self.port = port

    def __str__(self) -> str:
        """Say which port of what is taken."""
        return f"port {self.port} ({self.what}) is already in use"


class NoFreePort(Exception):
    """There are not enough free ports from a base on."""

    def __init__(self, base: int) -> None:
        super().__init__(base)
        self.base = base

    def __str__(self) -> str:
        """Say where there is no room."""
        return f"there are not enough free ports from {self.base} on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of one installation. A window is its first port; `WORKER_WINDOW` and `REPLICA_WINDOW` tell how long they are."""

    base: int | None  # what `--port-base` said; None: the well-known ports
    api: int = 8000
    console: int = 8080
    edge: int = 8090
    gcs: int = 6379
    dashboard: int = 8265
    guard: int = 8266
    runtime: int = 8084
    auditor: int = 8094
    edge_node: int = 8085
    ray_client: int = 10001
    node_manager: int = 8076
    object_manager: int = 8077
    runtime_env_agent: int = 8078
    dashboard_agent: int = 8079
    metrics_export: int = 8081
    dashboard_agent_grpc: int = 8082
    dashboard_metrics: int = 44227
    autoscaler_metrics: int = 44217
    fallback_http: int = 8500
    fallback_grpc: int = 9500
    haproxy_metrics: int = 9101
    haproxy_stats: int = 8404
    worker_window: int = 10002
    replica_window: int = 30000
    replica_grpc_window: int = 40000

    def taken(self) -> frozenset[int]:
        """List every port of the plan, those of the windows too."""
        return frozenset(port for name, first in self._ports() for port in range(first, first + _length(name)))

    def _ports(self) -> Iterator[tuple[str, int]]:
        return ((name, port) for name, port in asdict(self).items() if name != "base")

    def to_json(self) -> dict[str, int | None]:
        """Write the plan for `run/ports.json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: object) -> Self | None:
        """Read a plan that an earlier start kept; None when it is of another shape."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            return None
        if not all(isinstance(port, int) or (name == "base" and port is None) for name, port in value.items()):
            return None
        return cls(**value)


PUBLIC = {
    "api": "the job API",
    "console": "accounts and console",
    "gcs": "Ray",
    "dashboard": "Ray's dashboard",
    "edge": "agents",
    "guard": "operators' dashboards",
}


def _length(name: str) -> int:
    """Tell how many ports stand behind a name."""
    return {"worker_window": WORKER_WINDOW, "replica_window": REPLICA_WINDOW, "replica_grpc_window": REPLICA_WINDOW}.get(name, 1)


def plan(base: int | None, kept: Ports | None, is_free: Callable[[int], bool]) -> Ports:
    """Choose the ports of a start.

    What an earlier start kept is taken again where it is still free. Without a base the ports for people are the well-known ones and must
    be free; with one, each is the first free port from the base on.

    Raises:
        PortTaken: A port that people know is in use.
        NoFreePort: The base leaves no room.
    """
    wish = kept if kept is not None and base in (None, kept.base) else Ports(base=base)
    is_new = wish is not kept
    if wish.base is None or not is_new:
        for name, what in PUBLIC.items():
            port = getattr(wish, name)
            if not is_free(port):
                raise PortTaken(what, port)
    return _fill(wish, is_free, keeps=None if wish.base is not None and is_new else wish)


def _fill(wish: Ports, is_free: Callable[[int], bool], *, keeps: Ports | None) -> Ports:
    """Find a place for each name: where it was, or after the ones before it."""
    chosen: dict[str, int] = {}
    used: set[int] = set(keeps.taken()) if keeps is not None else set()
    start = wish.base if wish.base is not None else max(wish.guard, wish.console, wish.edge)
    for name, wanted in ((field.name, getattr(wish, field.name)) for field in fields(Ports) if field.name != "base"):
        length = _length(name)
        if keeps is not None and all(is_free(port) for port in range(wanted, wanted + length)):
            chosen[name] = wanted
            continue
        chosen[name] = _first_room(start, length, used, is_free)
        used.update(range(chosen[name], chosen[name] + length))
    return Ports(base=wish.base, **chosen)


def _first_room(start: int, length: int, used: Iterable[int], is_free: Callable[[int], bool]) -> int:
    """Find the first `length` free ports in a row.

    Raises:
        NoFreePort: There are none up to the highest port.
    """
    run = 0
    for port in range(start, HIGHEST + 1):
        run = run + 1 if port not in used and is_free(port) else 0
        if run == length:
            return port - length + 1
    raise NoFreePort(start)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port now, on any address."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not hinder a server, so not us
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - it does not listen; this address meets every other one
        except OSError:
            return False
    return True
