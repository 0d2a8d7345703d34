"""Joins Ray the one right way: explicit address, our namespace, token mode, pinned version, our own packages, no uploads.

The only place that connects a driver. Importing this module sets the environment that Ray reads at its import.
"""

import os
import re
import socket
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run` Ray would restart all workers through uv, without our packages
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

NAMESPACE = "gfe"
PACKAGES = ("cluster", "ledger", "serve_app", "provider_join")
DISTRIBUTION = "gpu-for-everyone"
CONNECT_LIMIT_S = 2.0


class WrongPackages(Exception):
    """Another distribution's package stands where one of ours should (PyPI has a `cluster`), or Ray has another version."""

    def __str__(self) -> str:
        """Say what to do."""
        return str(self.args[0])


def check_packages() -> None:
    """Check that our four packages come from one place and that nobody else claims them.

    Raises:
        WrongPackages: They do not.
    """
    owners = packages_distributions()
    roots = set()
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise WrongPackages(f"the package `{name}` is not ours or not installed; install {DISTRIBUTION} again")
        roots.add(Path(spec.origin).parents[1])
        if others := sorted({owner for owner in owners.get(name, []) if owner != DISTRIBUTION}):
            raise WrongPackages(
                f"the package `{name}` also belongs to the distribution `{others[0]}`; uninstall that, then install {DISTRIBUTION} again"
            )
    if len(roots) > 1:
        raise WrongPackages(
            f"our packages come from several places ({', '.join(sorted(map(str, roots)))}); start outside these folders, or install again"
        )


def pinned_ray() -> str | None:
    """Tell the version of Ray that our distribution asks for; None when it is not installed as one."""
    try:
        wanted = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    found = [match[1] for one in wanted if (match := re.match(r"ray(?:\[[^]]*\])?==([\w.]+)", one))]
    return found[0] if found else None


def check_version() -> None:
    """Check that Ray is the version that every node of the cluster has.

    Raises:
        WrongPackages: It is another.
    """
    wanted = pinned_ray()
    if wanted and ray.__version__ != wanted:
        raise WrongPackages(f"Ray is {ray.__version__} here, the cluster needs {wanted}: pip install 'ray[default]=={wanted}'")


def connect(address: str) -> None:
    """Connect this process to the Ray cluster at `host:port`.

    Raises:
        WrongPackages: See `check_packages` and `check_version`.
        RuntimeError: Token mode is off.
        ValueError: The address is not `host:port`.
        ConnectionError: Nobody answers there, or the token is wrong.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise RuntimeError("Ray is used in token mode only: export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH")
    check_packages()
    check_version()
    _require_open(address)
    ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="warning", configure_logging=True)


def _require_open(address: str) -> None:
    """Check that somebody listens: Ray itself retries in silence for more than a minute."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(f"`{address}` is not host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_LIMIT_S).close()
    except OSError as refused:
        raise ConnectionError(f"no Ray head answers at {address}: {refused}") from refused


def remote(**options: Any) -> Any:
    """`ray.remote` for our long-lived actors: no CPU claimed, restarted for ever, never re-run behind the ledger's back."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, **options)
