"""Batches among a crowd: files of requests whose every answer is verified, sent by a client who asks again until somebody has heard it."""

import asyncio
import json
import time

import aiohttp

from tests.crowd import BREAK_PAUSE_S, QUICK, REQUEST_LIMIT_S, Outcome
from tests.scripted_runtime import words_of

CHAT = "/v1/chat/completions"
LIMIT_S = 300
LOOK_S = 1.0
OVER = {"completed", "failed", "expired", "cancelled"}


class BatchCrowd:
    """Sends batches, one after the other; each line is an outcome of its own."""

    def __init__(self, urls, key, history, *, seed=1, lines=10):
        self.urls, self.key, self.history, self.seed, self.lines = list(urls), key, history, seed, lines

    async def run(self, first, count):
        """Run so many lines, numbered from `first` on; answers their outcomes."""
        outcomes = []
        timeout = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Authorization": f"Bearer {self.key}"}) as session:
            for start in range(first, first + count, self.lines):
                numbers = range(start, min(start + self.lines, first + count))
                outcomes += await self._batch(session, numbers, self.urls[start // self.lines % len(self.urls)])
        return outcomes

    async def _batch(self, session, numbers, url):
        for number in numbers:
            self.history.write("invoke", number)
        text = "".join(json.dumps(self._line(number)) + "\n" for number in numbers)
        key = f"batch-{self.seed}-{numbers[0]}"

        def file():
            form = aiohttp.FormData({"purpose": "batch"})
            form.add_field("file", text, filename="lines.jsonl")
            return {"data": form}

        sent = await self._asked(session, "POST", f"{url}/v1/files", file)
        asked = {"input_file_id": sent["id"], "endpoint": CHAT, "completion_window": "24h"}
        made = await self._asked(session, "POST", f"{url}/v1/batches", lambda: {"json": asked, "headers": {"Idempotency-Key": key}})
        until = time.monotonic() + LIMIT_S
        while (batch := await self._asked(session, "GET", f"{url}/v1/batches/{made['id']}"))["status"] not in OVER:
            assert time.monotonic() < until, batch
            await asyncio.sleep(LOOK_S)
        answers = {}
        for name in ("output_file_id", "error_file_id"):
            if batch[name]:
                said = await self._asked(session, "GET", f"{url}/v1/files/{batch[name]}/content", is_text=True)
                answers |= {int(one["custom_id"]): one for one in map(json.loads, said.splitlines())}
        return [self._judged(number, answers.get(number)) for number in numbers]

    def _prompt(self, number):
        return f"line {number} of the batches {self.seed}"

    def _line(self, number):
        body = {
            "model": QUICK.model,
            "messages": [{"role": "user", "content": self._prompt(number)}],
            "max_tokens": QUICK.max_tokens,
            "temperature": 0,
        }
        return {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}

    def _judged(self, number, answer):
        """Make an outcome of a line's answer; without one it is lost."""
        outcome = Outcome(number, False, QUICK.model, way="batch")
        if answer is not None and answer["response"] and answer["response"]["status_code"] == 200:
            body = answer["response"]["body"]
            outcome.text, outcome.jobs = body["choices"][0]["message"]["content"], [body["usage"]["job"]]
            outcome.ended = "ok" if outcome.text == "".join(words_of(self._prompt(number), QUICK.words)) else "wrong"
        elif answer is not None:
            outcome.ended, outcome.detail = "incomplete", json.dumps(answer)[:200]
        self.history.write({"ok": "ok"}.get(outcome.ended, "unknown"), number, outcome.jobs[-1] if outcome.jobs else "")
        return outcome

    async def _asked(self, session, method, url, more=dict, *, is_text=False):
        """Ask until somebody answers well."""
        until, why = time.monotonic() + LIMIT_S, None
        while time.monotonic() < until:
            try:
                async with session.request(method, url, **more()) as answer:
                    if answer.status < 300:
                        return await answer.text() if is_text else await answer.json()
                    why = f"{answer.status} {await answer.text()}"
                    assert answer.status in {409, 429} or answer.status >= 500, why
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                why = repr(broken)
            await asyncio.sleep(BREAK_PAUSE_S)
        raise AssertionError(f"{method} {url}: {why}")
