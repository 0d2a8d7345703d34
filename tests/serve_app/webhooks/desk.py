"""Receivers, delivery loops, and how the tests call the webhooks' API."""

import asyncio
import contextlib
from random import Random

import psycopg

from serve_app.store.jobs import JobStore
from serve_app.webhooks.delivering import Deliverer
from serve_app.webhooks.outbox import Outbox
from serve_app.webhooks.sending import Sender

PATH = "/api/computing/webhooks/"


@contextlib.asynccontextmanager
async def replica(platform, database, *, guard=None, runs=True):
    """The delivery loop of a replica, with connections of its own; one that does not run delivers when the test says so."""
    outbox, jobs = Outbox(database.serve_url), JobStore(database.serve_url)
    desk = platform.context.webhooks
    deliverer = Deliverer(outbox, jobs, Sender(guard or desk.guard), desk.secrets, Random(1))
    loop = asyncio.create_task(deliverer.run()) if runs else None
    try:
        yield deliverer
    finally:
        if loop:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        await deliverer.aclose()
        await outbox.aclose()
        await jobs.aclose()


async def deliver(deliverer):
    """Send all that is due now."""
    begun = await deliverer.deliver_due()
    await asyncio.gather(*begun)
    return len(begun)


async def call(platform, method, path="", headers=None, **options):
    return await platform.http.request(method, f"{PATH}{path}", headers=headers or platform.bearer, **options)


async def add(platform, url, **fields):
    answer = await call(platform, "POST", json={"url": url} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def deliveries(platform, path="deliveries/?limit=100"):
    return (await call(platform, "GET", path)).json()["results"]


async def chat(platform, *args, **more):
    """Run a job to its end; answer its id."""
    return (await platform.chat(*args, **more)).headers["x-gfe-job"]


async def logged(platform, count, **fields):
    """Wait until so many deliveries are logged like this."""
    async with asyncio.timeout(60):
        while len(found := [one for one in await deliveries(platform) if fields.items() <= one.items()]) < count:
            await asyncio.sleep(0.02)
    return found


def shift(database, seconds, where="true"):
    """Let so much time pass for what is in the outbox."""
    columns = ", ".join(f"{name} = {name} - make_interval(secs => %(s)s)" for name in ("next_at", "begun_at", "created_at", "lease_until"))
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(f"UPDATE serve_app.webhook_event SET {columns} WHERE {where}", {"s": seconds})
