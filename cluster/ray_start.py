"""What every start of Ray needs, on the head and on a node: a Python by a path that Ray can use, and its settings."""

import shlex
import sys
from importlib.metadata import version
from pathlib import Path

OBJECT_STORE_BYTES = 200_000_000  # answers travel by HTTP, not through Ray's store


def ray_python(link: Path) -> Path:
    """Name this Python by a path without blanks, through `link` if need be: Ray puts it unquoted into shell commands and LD_PRELOAD."""
    python, prefix = Path(sys.executable), Path(sys.prefix)
    if shlex.quote(str(python)) == str(python):
        return python
    link.unlink(missing_ok=True)
    link.symlink_to(prefix)
    return link / python.relative_to(prefix)


def ray_version() -> str:
    """Tell the version of Ray here, without loading it."""
    return version("ray")


def settings(token_file: Path) -> dict[str, str]:
    """Tell Ray's settings that are the same on every machine of a cluster (docs/decisions/0006-ray-on-loopback.md)."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_worker_niceness": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    }
