"""Ordered checks before a machine joins: the first that fails says what is missing and what mends it. Decisions are pure; probes are small."""

import http.client
import platform
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from email.utils import parsedate_to_datetime

from cluster.free_memory import free_bytes
from cluster.gpus import gpus_of
from cluster.invite import Invite
from cluster.ray_start import ray_version
from provider_join.errors import ClockWrong, HeadUnreachable, NotFit

CONNECT_LIMIT_S = 3.0
MAX_CLOCK_S = 30.0  # service tokens live 60 s, with 5 s of leeway
CLOCK_PATH = "/api/local_raylet_healthz"  # of Ray's agent on the head: it answers without a token, and says what time it is
GIB = 1024**3
MIN_MEMORY_BYTES = 1024**3  # of Ray's processes and a worker, measured 0.5 GB, with room


def require_versions(invite: Invite, ray: str, python: str) -> None:
    """Check that Ray and Python are what the cluster has: Ray refuses others, some of them only in the middle of a job.

    Raises:
        NotFit: They are not.
    """
    if ray != invite.ray:
        raise NotFit(
            f"this machine has Ray {ray}, the cluster has {invite.ray}", f"install the same here: pip install 'ray[default]=={invite.ray}'"
        )
    if python != invite.python:
        raise NotFit(
            f"this machine runs Python {python}, the cluster {invite.python}",
            f"install Python {invite.python} here and run `gfe join` with it",
        )


def require_ports(taken: Sequence[int]) -> None:
    """Check that nobody else has the ports that the head will call.

    Raises:
        NotFit: Somebody has.
    """
    if taken:
        raise NotFit(
            f"port {taken[0]} of this machine is already in use", "end what uses it, or choose other ports: gfe join --port-base 21000 …"
        )


def require_memory(available_bytes: int | None) -> None:
    """Check that Ray's processes fit.

    Raises:
        NotFit: They do not.
    """
    if available_bytes is not None and available_bytes < MIN_MEMORY_BYTES:
        raise NotFit(f"only {available_bytes / 1024**2:.0f} MiB of memory are free, 1 GiB is needed", "close other programs, or add memory")


def require_clock(ahead_s: float) -> None:
    """Check that this machine's time is the head's, within `MAX_CLOCK_S`.

    Raises:
        ClockWrong: It is not.
    """
    if abs(ahead_s) > MAX_CLOCK_S:
        raise ClockWrong(ahead_s)


def check(invite: Invite, ports: Sequence[int], address: str, tell: Callable[[str], None]) -> None:
    """Run all checks that need no cluster; tell what was found.

    Raises:
        NotFit: See the checks.
        HeadUnreachable: The head does not answer.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    require_versions(invite, ray_version(), python)
    tell(f"Ray {invite.ray} and Python {python}, as the cluster has")
    reach(invite.head)
    ahead_s = clock_ahead(invite.clock)
    if ahead_s is None:
        tell("the head tells no time: the clocks must agree within 30 s")
    else:
        require_clock(ahead_s)
        tell("the clock agrees with the head's")
    require_ports([port for port in ports if not is_free(address, port)])
    free = free_bytes()
    require_memory(free)
    tell(f"ports {ports[0]} to {ports[-1]} of {address} are free" + ("" if free is None else f", {free / GIB:.1f} GiB of memory too"))


def gpus(simulated: str | None) -> str:
    """Name the GPUs that the driver shows here."""
    found = gpus_of(simulated).read()
    return "GPU " + ", ".join(f"{gpu.name} ({gpu.total_bytes / GIB:.0f} GiB)" for gpu in found) if found else "no GPU that a driver shows"


def clock_ahead(head_clock: str) -> float | None:
    """Compare this machine's time with the head's; answer by how many seconds it is ahead, None when the head does not say."""
    host, _, port = head_clock.rpartition(":")
    if not host or not port.isdigit():
        return None
    asked = time.time()
    try:
        with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=CONNECT_LIMIT_S)) as connection:
            connection.request("GET", CLOCK_PATH)
            said = connection.getresponse().headers["Date"]
        return (asked + time.time()) / 2 - parsedate_to_datetime(said).timestamp()
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None


def reach(head: str) -> str:
    """Connect to the head; answer this machine's own address on the way there.

    Raises:
        HeadUnreachable: It does not answer.
    """
    host, _, port = head.rpartition(":")
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), CONNECT_LIMIT_S)) as connection:
            return str(connection.getsockname()[0])
    except (OSError, ValueError) as refused:
        raise HeadUnreachable(head, str(refused)) from refused


def is_free(address: str, port: int) -> bool:
    """Tell whether a server could listen there now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
