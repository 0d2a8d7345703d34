"""D23: many jobs at once for one slow node. Each ends, or is refused with a time to come back; none is lost, each is paid for once."""

import asyncio
from collections import Counter

import pytest

from tests.scripted_runtime import words_of
from tests.serve_app.consumers import Consumer
from tests.serve_app.test_waiting import dispatched

MODEL = "fake:long=200@0.01"
EACH = 250


def two_words(text):
    return "".join(words_of(text, 2))


@pytest.mark.slow
async def test_five_hundred_jobs_at_once_each_end_or_are_told_when_to_come_back(platform_with):
    platform = await platform_with(slots=2, credits="1000.00", ledger_settings={"open_jobs": 1000, "submits_per_minute": 100_000})
    consumer = Consumer(platform)

    async def by_itself(n):
        answer = await consumer.submit(f"job {n}", model=MODEL, max_tokens=2)
        if answer.status_code != 201:
            return answer
        row = await consumer.ended(answer.json()["job_id"], 120, every_s=0.5)
        assert (row["status"], row["cost"]) == ("COMPLETED", "1.00")
        assert row["result"]["output"] == two_words(f"job {n}")
        return answer

    async def read_along(n):
        answer = await platform.chat(MODEL, f"chat {n}", max_tokens=2)
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["message"]["content"] == two_words(f"chat {n}")
        return answer

    async with dispatched(platform):
        answers = await asyncio.gather(*(ask(n) for n in range(EACH) for ask in (by_itself, read_along)))
    outcomes = Counter(answer.status_code for answer in answers)
    assert outcomes[201] == EACH
    assert set(outcomes) <= {200, 201, 429, 503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code >= 400)
    assert outcomes[200] > 0
    assert await platform.settled(60) == f"{1000 - outcomes[200] - outcomes[201]}.00"
