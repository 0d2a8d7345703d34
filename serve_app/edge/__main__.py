"""Runs an edge gateway: `python -m serve_app.edge`. Without Ray, and without a database."""

import asyncio
import signal

import structlog

from cluster import logs
from cluster.edge.site import MAX_PENDING
from serve_app.edge.descriptors import make_room
from serve_app.edge.running import running_edge
from serve_app.edge.settings import EdgeSettings

log = structlog.get_logger()


async def run(settings: EdgeSettings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    make_room(settings.edge_max_agents + MAX_PENDING)
    async with running_edge(settings) as running:
        log.info("edge_started", agents=running.agent_url, nodes=running.node_url)
        await stop.wait()


def main() -> None:
    """Run it."""
    logs.configure("edge")
    asyncio.run(run(EdgeSettings()))


if __name__ == "__main__":
    main()
