"""Five hundred jobs at once against a whole installation whose one node is slow: each ends or is told when to come back, none is lost."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest

from tests.scripted_runtime import words_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]
MODEL = "fake:long=200@0.01"
WORDS = 8
EACH = 250
CREDITS = Decimal(1000)
LOOK_S = 5
ENDED = {"COMPLETED", "FAILED", "CANCELED"}


@pytest.fixture(scope="module")
def slow_node():
    """A runtime that says a hundred words a second."""
    command = [sys.executable, "-m", "tests.scripted_runtime", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def busy_market(new_installation, slow_node):
    """An installation that lets one account send more than its machine, with two slots, can do."""
    found = new_installation(25000)
    found.environment |= {
        "GFE_OLLAMA_URL": slow_node, "GFE_SLOTS": "2", "GFE_WELCOME_CREDITS": str(CREDITS), "GFE_OPEN_JOBS": "1000",
        "GFE_SUBMITS_PER_MINUTE": "100000",
    }  # fmt: skip
    found.up()
    yield found
    found.remove()  # now, not at the end of the run: an idle installation costs the others their time


async def test_five_hundred_jobs_at_once_each_end_or_are_told_when_to_come_back(busy_market):
    before = busy_market.balance()
    async with httpx2.AsyncClient(
        base_url=busy_market.report["api_url"], headers={"Authorization": f"Bearer {busy_market.report['api_key']}"}, timeout=200,
        limits=httpx2.Limits(max_connections=2 * EACH), trust_env=False,
    ) as http:  # fmt: skip

        async def by_itself(n):
            answer = await http.post("/api/computing/submit-job/", json={"prompt": f"job {n}", "model": MODEL, "max_tokens": WORDS})
            if answer.status_code != 201:
                return answer, None
            return answer, await ended(http, answer.json()["job_id"])

        async def read_along(n):
            messages = [{"role": "user", "content": f"chat {n}"}]
            answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages, "max_tokens": WORDS})
            return answer, None

        answers = await asyncio.gather(*(ask(n) for n in range(EACH) for ask in (by_itself, read_along)))

    for number, (answer, row) in enumerate(answers):
        if row is not None:
            assert row["status"] == "COMPLETED", row
            assert row["result"]["output"] == text_of(f"job {number // 2}")
        elif answer.status_code == 200:
            assert answer.json()["choices"][0]["message"]["content"] == text_of(f"chat {number // 2}")
        else:
            assert answer.status_code in {429, 503}, answer.text
            assert int(answer.headers["retry-after"]) > 0
    outcomes = Counter(answer.status_code for answer, _ in answers)
    sys.stdout.write(f"outcomes: {dict(outcomes)}\n")
    assert outcomes[201] == EACH  # what may wait ten minutes is taken
    assert outcomes[200] > 0
    busy_market.require_books()
    assert before - busy_market.balance() == outcomes[200] + outcomes[201]


def text_of(prompt):
    return "".join(words_of(prompt, WORDS))


async def ended(http, job):
    """Wait for a job's end; its row."""
    while True:
        row = (await http.get(f"/api/computing/jobs/{job}/")).json()
        if row["status"] in ENDED:
            return row
        await asyncio.sleep(LOOK_S)
