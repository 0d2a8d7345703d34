"""Ordered checks before a machine joins: the first that fails says what is missing and what mends it. Decisions are pure; probes are small."""

import platform
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cluster.invite import Invite
from cluster.ray_start import ray_version
from provider_join.errors import HeadUnreachable, NotFit

CONNECT_LIMIT_S = 3.0
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


def check(invite: Invite, ports: Sequence[int], address: str) -> None:
    """Run all checks that need no cluster.

    Raises:
        NotFit: See the checks.
        HeadUnreachable: The head does not answer.
    """
    require_versions(invite, ray_version(), ".".join(platform.python_version_tuple()[:2]))
    reach(invite.head)
    require_ports([port for port in ports if not is_free(address, port)])
    require_memory(available_memory())


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


def available_memory() -> int | None:
    """Read how much memory programs may still take (Linux); None where nobody can say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = {line.split(":")[0]: line.split()[1] for line in lines}
    return int(found["MemAvailable"]) * 1024 if "MemAvailable" in found else None
