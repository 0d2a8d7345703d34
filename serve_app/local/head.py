"""Ray's head and the job APIs without the rest of an installation: what the image `ray` runs.

Ledger, edge gateway and database run elsewhere, with folders and secrets of their own; of those this process has `ray_secrets` alone, which
somebody made. Both parts write where this process writes, and are started anew when they end; when they cannot be started, it ends too.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from cluster import logs
from cluster.ray_start import ray_python
from serve_app.local.errors import Refused
from serve_app.local.home import Home
from serve_app.local.installation import Setup, given_settings, ray_part, serve_part
from serve_app.local.parts import Part, Progress, http_gate
from serve_app.local.ports import Ports
from serve_app.local.setting_names import require_known
from serve_app.local.supervisor import PartFailed, Supervisor
from serve_app.local.up import find_haproxy, haproxy_wrapper

SERVICE = "head"
WRAPPER = "haproxy-loopback"  # beside our programs, where a temporary folder may be closed to programs
LOGS_KEPT = {"RAY_ROTATION_MAX_BYTES": "20000000", "RAY_ROTATION_BACKUP_COUNT": "2"}  # of each process, in what is memory here
log = structlog.get_logger()


def setup_of(home: Home, environment: Mapping[str, str]) -> Setup:
    """Decide what is started, and make the folders that it writes to. `GFE_NODE_ID` is set where this machine runs jobs too.

    Raises:
        Refused: A setting is unknown, or a folder cannot be made.
    """
    require_known(environment)
    home.make_runtime()
    found = shutil.which(WRAPPER, path=str(Path(sys.executable).parent))
    return Setup(
        home=home,
        ports=Ports(base=None),
        node_id=environment.get("GFE_NODE_ID", ""),
        postgres=None,
        runtime_url=environment.get("GFE_RUNTIME_URL"),
        haproxy=find_haproxy(environment),
        haproxy_wrapper=Path(found) if found else haproxy_wrapper(home),
        ray_python=ray_python(home.runtime / "python"),
        environment=environment,
        is_guard_elsewhere=True,  # in a container of its own
    )


def parts_of(setup: Setup) -> tuple[Part, Part]:
    """List both parts. Ready is who answers: whether there are nodes for jobs is not this machine's to say."""
    settings = given_settings(setup) | {
        "GFE_SECRETS_DIR": str(setup.home.ray_secrets),
        "GFE_NODE_NOTES": str(setup.home.notes),
        "GFE_RAY_ADDRESS": f"{setup.node_address}:{setup.ports.gcs}",
        "GFE_API_PORT": str(setup.ports.api),
    }
    ray = ray_part(setup)
    serve = serve_part(setup, settings, http_gate(f"{setup.api_url}/healthz"), after=(ray.name,))
    return replace(ray, environment={**ray.environment, **LOGS_KEPT}), serve


async def run(setup: Setup) -> None:
    """Start both, and keep them until told to stop.

    Raises:
        PartFailed: One did not become ready.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(parts_of(setup), logs=None, tell=_tell, record=lambda _all: None)
    starting, stopping = asyncio.create_task(supervisor.start()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            starting.result()
            log.info("head_ready", ray=setup.node_address, api=setup.ports.api)
            await stopping
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop()


def _tell(progress: Progress) -> None:
    log.info("part", name=progress.part, state=progress.state, detail=progress.detail)


def main() -> None:
    """Run it."""
    logs.configure(SERVICE)
    try:
        asyncio.run(run(setup_of(Home.of_environment(), dict(os.environ))))
    except Refused as refused:
        sys.exit(f"{refused.what}\n\nhint: {refused.hint}")
    except PartFailed as failed:
        sys.exit(str(failed))


if __name__ == "__main__":
    main()
