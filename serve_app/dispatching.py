"""The Dispatcher of this installation: whoever looks for it first starts it, with what its workers are told."""

from typing import Any

from cluster.dispatcher_actor import get_or_start
from cluster.standby_nodes import StandbySettings
from cluster.worker_settings import WorkerSettings
from serve_app.settings import ServeSettings


def start_dispatcher(settings: ServeSettings) -> Any:
    """Get the Dispatcher, or start it."""
    worker = WorkerSettings(
        runtime_url=settings.runtime_url,
        public_key=(settings.secrets_dir / "service_serve.pub.pem").read_text(),
        host=settings.node_host,
        port=settings.node_port,
        slots=settings.slots,
        zone=settings.zone,
        simulated_gpus=settings.simulated_gpus,
        may_pull=settings.node_pull,
        allows_partial=settings.node_partial,
        notes=None if settings.node_notes is None else str(settings.node_notes),
    )
    standby = StandbySettings(settings.standby_file, settings.standby_idle_s) if settings.standby_file else None
    return get_or_start(str(settings.secrets_dir / "service_serve.pem"), worker, settings.edges, standby)
