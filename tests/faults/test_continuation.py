"""Continuation: the machine dies in the middle of an answer, and the consumer does not notice. On the embedded model, with real kills.

`KILLS` of them in CI; all twenty by `python -m pytest tests/faults/test_continuation.py --kills 20`.
"""

import asyncio
import json
import random
from pathlib import Path

import psycopg
import pytest

from tests.faults.node_process import Child
from tests.faults.platform import FaultyNode, until

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = "smollm2:135m"
STORY = "Tell me a long story about a dog who travels to the sea."
TOKENS = 200
READY_LIMIT_S = 120


class EmbeddedNode(FaultyNode):
    """A machine: a worker over an embedded runtime of its own; both die at once."""

    async def start(self, *, has_runtime_process=False):
        await self.start_machine()
        return self

    async def start_machine(self):
        store = Path(self.key_file).parent / f"models-{self.id}"
        self.runtime = await Child("cluster.runtime.front", "--port", 0, "--store", store, "--slots", 2, "--context", 2048).start()
        async with asyncio.timeout(READY_LIMIT_S):
            await self.runtime.heard(lambda said: said.get("status") == "ready")
        self.runtime_url = self.runtime.url
        await self.start_worker()

    def kill(self):
        """Pull the plug."""
        self.worker.kill()
        self.runtime.kill()

    async def start_again(self):
        for child in (self.worker, self.runtime):
            child.stop()
        await self.start_machine()


async def answer_of(platform, strike_at=None):
    """Stream one answer at temperature 0; pull the plug of its machine after so many pieces. Answers text, last event, job."""
    body = platform.body(MODEL, STORY, stream=True, max_tokens=TOKENS, temperature=0, seed=1, stream_options={"include_usage": True})
    text, last, heard = "", None, 0
    async with platform.http.stream("POST", "/v1/chat/completions", json=body, headers=platform.bearer) as answer:
        assert answer.status_code == 200
        job = answer.headers["x-gfe-job"]
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            last = json.loads(line.removeprefix("data: "))
            piece = "".join((choice["delta"].get("content") or "") for choice in last.get("choices") or ())
            text += piece
            heard += bool(piece)
            if heard == strike_at and piece:
                strike_at = None
                await strike(platform, job)
    return text, last, job


async def strike(platform, job):
    serving = (await platform.job(job))["node"]["id"]
    await asyncio.to_thread(platform.node(serving).kill)


async def come_back(platform):
    for node in platform.nodes:
        if not node.worker.is_alive:
            await node.start_again()
    await platform.until_known(60)


def captures(platform, job):
    from ledger.client import uuid_of_job

    with psycopg.connect(platform.database.admin_url) as admin:
        return [row[0] for row in admin.execute("SELECT meta FROM ledger.txn WHERE id = %s AND kind = 2", [uuid_of_job(job)]).fetchall()]


async def test_twenty_machines_die_in_mid_answer_and_twenty_answers_are_whole(platform_with, figure, request):
    """Complete, equal to the unbroken answer, charged once, each machine's owner paid for its own tokens."""
    kills = request.config.getoption("--kills")
    platform = await platform_with(nodes=2, kind=EmbeddedNode)
    unbroken, last, _ = await answer_of(platform)
    pieces, tokens, cost = 20, last["usage"]["completion_tokens"], last["usage"]["cost"]
    assert tokens > 100
    rng = random.Random(20)
    for number in range(kills):
        text, last, job = await answer_of(platform, rng.randrange(1, pieces))
        assert text == unbroken, f"kill {number}"
        assert last["usage"] == last["usage"] | {"completion_tokens": tokens, "cost": cost}
        told = await platform.job(job)
        assert (told["status"], told["attempts"], told["result"]["output"]) == ("COMPLETED", 2, unbroken)
        await until(lambda job=job: captures(platform, job))
        (meta,) = captures(platform, job)
        ((first, attempt, share),) = meta["shares"]
        assert (first != meta["node"], attempt, meta["attempt"], meta["completion_tokens"]) == (True, 1, 2, tokens)
        assert 0 < share < tokens
        await come_back(platform)
    figure("continuation", "machines killed in mid-answer, answers whole and equal", f"{kills} of {kills}")


async def test_with_the_flag_off_each_is_an_honest_incomplete(platform_with, figure, request):
    kills = request.config.getoption("--kills")
    platform = await platform_with(nodes=2, kind=EmbeddedNode, continues=False)
    unbroken, _, _ = await answer_of(platform)
    rng = random.Random(21)
    for _ in range(kills):
        text, last, job = await answer_of(platform, rng.randrange(1, 20))
        assert last["error"]["code"] == "incomplete"
        assert unbroken.startswith(text)
        told = await platform.job(job)
        assert (told["status"], told["incomplete"], told["result"]["output"]) == ("FAILED", True, text)
        await come_back(platform)
    figure("continuation", "with the flag off, honest incompletes", f"{kills} of {kills}")
