"""Joins Ray the one right way: explicit address, our namespace, token mode, our own packages, no uploads.

The only place that connects a driver. Importing this module sets the environment that Ray reads at its import.
"""

import os
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run` Ray would restart all workers through uv, without our packages
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

NAMESPACE = "gfe"
PACKAGES = ("cluster", "ledger", "serve_app", "provider_join")
DISTRIBUTION = "gpu-for-everyone"


class WrongPackages(Exception):
    """Another distribution's package stands where one of ours should (PyPI has a `cluster`)."""

    def __str__(self) -> str:
        """Say what to do."""
        return f"{self.args[0]}; uninstall the other distribution, then install gpu-for-everyone again"


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
            raise WrongPackages(f"the package `{name}` is not ours or not installed")
        roots.add(Path(spec.origin).parents[1])
        if others := [owner for owner in owners.get(name, []) if owner != DISTRIBUTION]:
            raise WrongPackages(f"the package `{name}` also belongs to the distribution `{others[0]}`")
    if len(roots) > 1:
        raise WrongPackages(f"our packages come from several places: {', '.join(sorted(map(str, roots)))}")


def connect(address: str) -> None:
    """Connect this process to the Ray cluster at `host:port`.

    Raises:
        WrongPackages: See `check_packages`.
        RuntimeError: Token mode is off.
        ConnectionError: Nobody answers there, or the token is wrong.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise RuntimeError("Ray is used in token mode only: export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH")
    check_packages()
    ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="warning", configure_logging=True)


def remote(**options: Any) -> Any:
    """`ray.remote` for our long-lived actors: no CPU claimed, restarted for ever, never re-run behind the ledger's back."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, **options)
