"""A replica of the Serve application as a process of its own, so that it can be killed: `python -m tests.faults.replica_process SETTINGS`.

Ray is left out: the process watches the given nodes by a Dispatcher of its own. Prints its pid and port, ends when its standard input does.
"""

import asyncio
import json
import logging
import sys

import structlog

from cluster.dispatcher import Dispatcher
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens
from serve_app.settings import ServeSettings
from tests.faults.node_process import ends_with_its_input, tell
from tests.faults.platform import Handle, Member, in_process_replica


async def main(told):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    settings = ServeSettings.model_validate(told["settings"])
    members = [Member(id_, url) for id_, url in told["nodes"].items()]
    tokens = ServiceTokens(settings.secret("service_serve.pem"), "serve")
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()

    async def all_members():
        return members

    async def where(member):
        return member.url

    dispatcher = Dispatcher(all_members, where, client.watch)
    dispatcher.start()
    stop = asyncio.Event()
    ends_with_its_input(stop)
    async with in_process_replica(settings, Handle(dispatcher)) as (url, _):
        tell(int(url.rpartition(":")[2]))
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
