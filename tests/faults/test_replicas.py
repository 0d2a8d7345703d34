"""Replicas of the Serve application that are killed in the middle of streams: row 1 of the fault matrix."""

import asyncio
import json
import time

import httpx2
import pytest

from serve_app.settings import ServeSettings
from tests.books import rows_of
from tests.faults.node_process import Child
from tests.faults.platform import until
from tests.scripted_runtime import words_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
WORDS = 120  # 12 s: longer than a lease lasts before another replica adopts
READERS = 6
RESUME_TARGET_S = 3
ENDED_TARGET_S = 25


@pytest.fixture
async def replicas(platform_with):
    """A platform, and two replicas of it that are processes."""
    platform = await platform_with(nodes=2, slots=8)
    settings = ServeSettings(
        secrets_dir=platform.ledger.folder, ledger_socket=platform.ledger.context.settings.ledger_socket, default_model="fake:words=16"
    )
    told = {"settings": settings.as_arguments(), "nodes": {node.id: node.worker.url for node in platform.nodes}}
    started = [Child("tests.faults.replica_process", json.dumps(told)) for _ in range(2)]
    try:
        await asyncio.gather(*(one.start() for one in started))
        async with httpx2.AsyncClient(timeout=60, headers=platform.bearer) as http:
            platform.http_of_all = http
            for one in started:
                await wait_until_ready(http, one)
            yield platform, *started
    finally:
        for one in started:
            one.stop()


async def wait_until_ready(http, replica):
    async with asyncio.timeout(20):
        while (await http.get(f"{replica.url}/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


class Reader:
    """A consumer that reads a job by its events; goes on elsewhere where it was when its replica dies."""

    def __init__(self, http, number):
        self.http, self.prompt = http, f"reader {number}"
        self.texts, self.next, self.job, self.end = [], 0, None, None
        self.broken_at = self.resumed_after_s = None

    async def submit(self, replica):
        body = {
            "model": "fake:drip=0.1", "messages": [{"role": "user", "content": self.prompt}], "max_tokens": WORDS, "stream": True
        }  # fmt: skip
        try:
            async with self.http.stream("POST", f"{replica.url}/v1/chat/completions", json=body) as answer:
                assert answer.status_code == 200
                self.job = answer.headers["X-GFE-Job"]
                async for _ in answer.aiter_bytes():
                    pass
        except httpx2.TransportError:
            self.broken_at = time.monotonic()

    async def follow(self, replica):
        """Read from where this reader is, until the end or a broken connection."""
        began = time.monotonic()
        try:
            async with self.http.stream("GET", f"{replica.url}/api/computing/jobs/{self.job}/stream/?from={self.next}") as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        self._take(json.loads(line[6:]), began)
        except httpx2.TransportError:
            assert self.end is None

    def _take(self, said, began):
        assert said["event"] != "error", said
        if said["event"] == "end":
            self.end = said
            return
        assert said["seq"] >= self.next, f"event {said['seq']} came twice"
        self.next = said["seq"] + 1
        if said["event"] == "text":
            self.texts.append(said["content"])
        if self.broken_at and self.resumed_after_s is None:
            self.resumed_after_s = time.monotonic() - began


async def test_row_1_a_killed_replica_costs_no_token_and_doubles_none(replicas, figure):
    platform, dying, living = replicas
    readers = [Reader(platform.http_of_all, number) for number in range(READERS)]
    submitted = [asyncio.create_task(reader.submit(dying)) for reader in readers]
    await until(lambda: all(reader.job for reader in readers), 20)
    # Half of them read the numbered events at the replica that will die; the other half only kept the job's id.
    following = [asyncio.create_task(reader.follow(dying)) for reader in readers[::2]]
    await until(lambda: all(reader.next > 10 for reader in readers[::2]), 20)
    killed_at = time.monotonic()
    dying.kill()
    await asyncio.gather(*submitted, *following)
    await asyncio.gather(*(reader.follow(living) for reader in readers))
    for reader in readers:
        assert "".join(reader.texts) == "".join(words_of(reader.prompt, WORDS))
        assert (reader.end["status"], reader.end["attempts"], reader.end["incomplete"]) == ("COMPLETED", 1, False)
        assert reader.resumed_after_s <= 3 * RESUME_TARGET_S
    figure(
        1,
        f"{READERS} of {READERS} streams of a killed replica resumed, at the latest after",
        f"{max(one.resumed_after_s for one in readers):.2f} s",
    )
    figure(1, "all ended after the kill after (the answers last 12 s)", f"{time.monotonic() - killed_at:.1f} s")
    assert time.monotonic() - killed_at <= 3 * ENDED_TARGET_S
    await platform.require_quiet()
    paid = rows_of(platform.database.admin_url, "SELECT count(*), count(DISTINCT id) FROM ledger.txn WHERE kind = 2")
    assert paid == [(READERS, READERS)]


async def test_row_1_a_job_whose_consumer_does_not_come_back_ends_and_its_hold_too(replicas, figure):
    platform, dying, _living = replicas
    readers = [Reader(platform.http_of_all, number) for number in range(READERS)]
    submitted = [asyncio.create_task(reader.submit(dying)) for reader in readers]
    await until(lambda: all(reader.job for reader in readers), 20)
    killed_at = time.monotonic()
    dying.kill()
    await asyncio.gather(*submitted)
    await platform.require_quiet(3 * ENDED_TARGET_S)
    figure(1, "jobs that nobody came back to ended after", f"{time.monotonic() - killed_at:.1f} s")
