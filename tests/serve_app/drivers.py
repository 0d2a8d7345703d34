"""A second driver over the same rows and nodes, and a way to lose the first one as a killed process is lost."""

import dataclasses
import json

import psycopg

from cluster.errors import NodeLost
from cluster.node_client import NodeClient
from serve_app.context import ServeContext
from serve_app.settlement import Settlement
from serve_app.store.jobs import JobStore, JobWriter


@dataclasses.dataclass
class Driver:
    context: ServeContext
    client: NodeClient

    async def die(self):
        """Nothing of it is written, read or said any more; its connections are gone."""
        await self.client.aclose()
        self.context.nodes = NoNodes()
        self.context.writer._task.cancel()
        self.context.writer.finish = _nothing_written
        await self.context.writer._line.drop()


class NoNodes:
    """What a dead process reaches."""

    async def cancel(self, url, job, number):
        pass

    async def attach(self, url, job, number, from_seq, *, node):
        raise NodeLost(node, "dead")
        yield

    async def rejoin(self, url, attempt, from_seq):
        raise NodeLost(attempt.node, "dead")
        yield


async def _nothing_written(finish):
    return False


async def start_driver(platform, name):
    database_url = (platform.settings.secrets_dir / "serve_database_url").read_text()
    client = NodeClient(platform.context.nodes._token)
    await client.start()
    writer, store = JobWriter(database_url, name), JobStore(database_url)
    writer.start()
    context = dataclasses.replace(
        platform.context, nodes=client, writer=writer, store=store, settlement=Settlement(platform.ledger.client, writer, store, platform.context.figures, platform.context.traces),
        _background=set(), driven={},
    )  # fmt: skip
    return Driver(context, client)


async def close_driver(driver):
    await driver.context.drained(10)
    await driver.context.writer.aclose()
    await driver.context.store.aclose()
    await driver.client.aclose()


def expire_leases(database, seconds=1):
    """Let the lost driver's time be over."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.job SET lease_until = clock_timestamp() - make_interval(secs => %s) WHERE state < 2", [seconds])


def events_of(text):
    """Read server-sent events as they are written by the jobs API."""
    return [
        json.loads(line.removeprefix("data: ")) for block in text.split("\n\n") for line in block.splitlines() if line.startswith("data: ")
    ]
