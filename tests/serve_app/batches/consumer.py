"""Batches as their consumer sees them through the `openai` package, and the replicas that run them, in one process."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import openai
import psycopg
import pytest

from serve_app.batches import line_run
from serve_app.batches.runner import BatchRunner
from serve_app.store.batches import BatchStore
from serve_app.store.files import FileStore

CHAT = "/v1/chat/completions"


def line(custom_id, url=CHAT, method="POST", body=None, **more):
    body = body or {"model": "fake:words=3", "messages": [{"role": "user", "content": f"hello {custom_id}"}], **more}
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def jsonl(*lines):
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()


def read(text):
    return [json.loads(one) for one in text.splitlines()]


class Clock:
    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


class Batches:
    """Batches as their consumer sees them, and the replicas that run them."""

    def __init__(self, client, platform, database):
        self.client, self.platform, self.database = client, platform, database
        self.clock = Clock()
        self.stack = contextlib.AsyncExitStack()

    async def create(self, *lines, endpoint=CHAT, client=None, **more):
        client = client or self.client
        file = await client.files.create(file=("input.jsonl", jsonl(*lines)), purpose="batch")
        return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)

    async def state(self, batch):
        return (await self.client.batches.retrieve(batch.id)).status

    async def ended(self, batch, *states, limit_s=60):
        async with asyncio.timeout(limit_s):
            while (found := await self.client.batches.retrieve(batch.id)).status not in (
                states or ("completed", "failed", "expired", "cancelled")
            ):
                await asyncio.sleep(0.05)
        return found

    async def run(self, driver=None):
        """Start a replica's runner; answers how to lose it."""
        context = driver.context if driver else self.platform.context
        url = self.database.serve_url
        batches, files = BatchStore(url), FileStore(url)
        runner = BatchRunner(context, batches, files, look_s=0.05, renew_s=0.1, now=self.clock)
        task = asyncio.create_task(runner.run())

        async def stop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await batches.aclose()
            await files.aclose()

        self.stack.push_async_callback(stop)
        return runner, task

    async def results(self, batch):
        return read((await self.client.files.content(batch.output_file_id)).text) if batch.output_file_id else []

    async def errors(self, batch):
        return read((await self.client.files.content(batch.error_file_id)).text) if batch.error_file_id else []

    def begun(self):
        with psycopg.connect(self.database.admin_url) as admin:
            return admin.execute("SELECT count(job_id) FROM serve_app.batch_line").fetchone()[0]

    def jobs(self):
        with psycopg.connect(self.database.admin_url) as admin:
            return admin.execute("SELECT id, state, is_sync FROM serve_app.job").fetchall()


def count(database, table):
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute(f"SELECT count(*) FROM serve_app.{table}").fetchone()[0]


def lose_leases(database):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.batch SET lease_until = clock_timestamp() - interval '1 s' WHERE ended_at IS NULL")


@contextlib.asynccontextmanager
async def batches_on(platform, database, monkeypatch):
    monkeypatch.setattr(line_run, "MODEL_WAIT_S", 0)
    async with client_of(platform) as client:
        found = Batches(client, platform, database)
        async with found.stack:
            yield found


def client_of(platform, key=None):
    return openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=key or platform.key, max_retries=0)


@pytest.fixture
async def batches(platform, database, monkeypatch):
    async with batches_on(platform, database, monkeypatch) as found:
        yield found


@pytest.fixture
async def batches_with(platform_with, database, monkeypatch):
    """Start a platform with options of the test's choice."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(settings=None, **options):
            platform = await platform_with(slots=4, **options)
            platform.context.settings = platform.settings.model_copy(update=settings or {})
            return await stack.enter_async_context(batches_on(platform, database, monkeypatch))

        yield start


@pytest.fixture
async def rich(batches_with):
    """Whose consumer has money for every line."""
    return await batches_with(credits="500.00")
