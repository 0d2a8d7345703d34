"""Consumers that leave: row 36 of the fault matrix."""

import asyncio
import json
import time

import pytest

from tests.books import rows_of
from tests.faults.platform import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100)]
CANCEL_TARGET_S = 1
ORPHAN_LIMIT_S = 5


async def leave_after(platform, words, text):
    """Read so many words of a long stream, then close the connection; answers the job and the words seen."""
    seen = 0
    body = platform.body("fake:drip=0.1", text, stream=True)
    async with platform.http.stream("POST", "/v1/chat/completions", json=body, headers=platform.bearer) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                seen += sum(bool(choice["delta"].get("content")) for choice in json.loads(line[6:])["choices"])
            if seen >= words:
                return answer.headers["X-GFE-Job"], seen
    raise AssertionError("the stream ended before the consumer left")


async def test_row_36_a_consumer_who_leaves_a_stream_stops_it_and_pays_what_was_delivered(platform_with, figure):
    platform = await platform_with(nodes=2, slots=8)
    left = await asyncio.gather(*(leave_after(platform, 3 + n, f"leaver {n}") for n in range(8)))
    began = time.monotonic()
    await until(lambda: not any(node.script.running for node in platform.nodes), ORPHAN_LIMIT_S)
    took_s = time.monotonic() - began
    figure(36, "the last of 8 generations ended after its consumer left", f"{took_s:.2f} s")
    assert took_s <= 3 * CANCEL_TARGET_S
    await platform.require_quiet()
    for job, seen in left:
        shown = await platform.job(job)
        assert (shown["status"], shown["incomplete"]) == ("CANCELED", False)
        assert seen <= shown["usage"]["completion_tokens"] <= seen + 12  # what was on its way: a second's worth
    rows = rows_of(platform.database.admin_url, "SELECT j.cost, j.completion_tokens FROM serve_app.job j")
    assert len({cost - 1000 * tokens for cost, tokens in rows}) == 1  # beside the flat price, delivered words alone


async def test_row_36_a_consumer_who_leaves_a_plain_answer_stops_it_too(platform_with, figure):
    platform = await platform_with(nodes=2, slots=8)
    asked = [asyncio.create_task(platform.chat("fake:drip=0.1", f"leaver {n}")) for n in range(8)]
    await until(lambda: sum(node.script.running for node in platform.nodes) == 8)
    for one in asked:
        one.cancel()
    began = time.monotonic()
    await until(lambda: not any(node.script.running for node in platform.nodes), ORPHAN_LIMIT_S)
    figure(36, "the last of 8 generations of plain answers ended", f"{time.monotonic() - began:.2f} s")
    await platform.require_quiet()
