"""Many jobs at once, as streams and as plain requests: each answer is verified word by word, each step is written down before it is taken.

Every job follows from a seed: its prompt, its model, whether it streams. The scripted runtime's words follow from the prompt, so any answer
can be checked by anybody. Also `python -m tests.crowd --url … --key-file … --jobs 200 --history FILE`, which prints its outcomes as JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp

from tests.scripted_runtime import words_of

REQUEST_LIMIT_S = 120
REFUSALS_LIMIT_S = 90  # so long one job is submitted again after 429 and 503
COME_BACK_LIMIT_S = 90
BREAK_PAUSE_S = 1.0
MAX_PAUSE_S = 5.0  # a longer `Retry-After` is cut to this: the figures are about faults, not about queues


@dataclass(frozen=True)
class Kind:
    """A sort of job: a model of the scripted runtime, the limit of its answer, the words that a whole answer has."""

    model: str
    max_tokens: int
    words: int


SLOW = Kind("fake:drip=0.1", 30, 30)  # 3 s of one word every 0.1 s: faults meet it in the middle
QUICK = Kind("fake:words=16", 100, 16)
LATE = Kind("fake:drip=5", 1, 1)  # its first word comes after 5 s: faults meet it before


@dataclass
class Outcome:
    """How one job ended. Times in seconds."""

    number: int
    streams: bool
    model: str
    way: str = "chat"  # chat | job: submitted to run by itself | cancel: the same, and canceled in the middle | batch: a line of one
    jobs: list[str] = field(default_factory=list)  # one per submission that became a job; the last one decides
    ended: str = "unknown"  # ok | incomplete | refused | left | canceled | wrong | broken
    detail: str = ""
    text: str = ""
    refusals: int = 0
    breaks: int = 0  # connections that broke, or were refused
    first_s: float | None = None  # from the last submission to the first text
    text_gap_s: float = 0.0  # longest time without text
    byte_gap_s: float = 0.0  # longest time without any byte
    answer_s: float = 0.0  # longest wait for a plain answer or a refusal
    took_s: float = 0.0


class History:
    """One line per step, flushed before the step is taken: it survives whoever writes it."""

    def __init__(self, path):
        self.file = Path(path).open("a")  # noqa: SIM115 - as long as the crowd lives

    def write(self, what, number, job=""):
        self.file.write(json.dumps([what, number, job, round(time.time(), 3)]) + "\n")
        self.file.flush()

    @staticmethod
    def ended(path):
        """How many jobs have ended so far."""
        text = Path(path).read_text() if Path(path).exists() else ""
        return sum(json.loads(line)[0] != "invoke" for line in text.splitlines(keepends=True) if line.endswith("\n"))


class Crowd:
    """Submits jobs to one platform, so many at once."""

    def __init__(
        self, url, key, history, *, seed=1, kinds=((SLOW, 7), (QUICK, 2), (LATE, 1)), in_flight=12, leavers=0.0, ways=(("chat", 1),)
    ):
        self.urls = [url] if isinstance(url, str) else list(url)
        self.key, self.history, self.seed, self.kinds, self.in_flight = key, history, seed, kinds, in_flight
        self.leavers = leavers  # the share of streams whose consumer leaves after a few words
        self.ways = ways
        self.ended = 0
        self.outcomes = []

    async def run(self, jobs):
        """Run them all; answers their outcomes, by number."""
        numbers = iter(range(jobs))
        timeout = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {self.key}"}

        async def one_after_the_other():
            for number in numbers:
                self.outcomes.append(await self.job(session, number))
                self.ended += 1

        async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session:
            await asyncio.gather(*(one_after_the_other() for _ in range(self.in_flight)))
        return sorted(self.outcomes, key=lambda outcome: outcome.number)

    async def job(self, session, number):
        """Submit one job until it is taken, and read it to its end."""
        rng = random.Random(f"{self.seed}-{number}")
        kind = rng.choices([kind for kind, _ in self.kinds], [weight for _, weight in self.kinds])[0]
        prompt = f"job {number} of the crowd {self.seed}"
        whole = "".join(words_of(prompt, kind.words))
        outcome = Outcome(number, rng.random() < 0.6, kind.model)
        body = {
            "model": kind.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": kind.max_tokens, "stream": outcome.streams,
            "temperature": 0,
        }  # fmt: skip
        leaves_after = rng.randint(1, 8) if outcome.streams and rng.random() < self.leavers else None
        if len(self.ways) > 1:
            outcome.way = rng.choices([way for way, _ in self.ways], [weight for _, weight in self.ways])[0]
        cancel_after_s = rng.uniform(0, 2) if outcome.way == "cancel" else None
        began = time.monotonic()
        while True:
            self.history.write("invoke", number)
            if outcome.way == "chat":
                pause_s = await self._submit(session, outcome, body, whole, leaves_after)
            else:
                pause_s = await self._submit_job(session, outcome, kind, prompt, whole, cancel_after_s)
            if pause_s is None or time.monotonic() - began > REFUSALS_LIMIT_S:
                break
            await asyncio.sleep(min(MAX_PAUSE_S, pause_s))
        outcome.took_s = time.monotonic() - began
        said = {"ok": "ok", "refused": "fail"}.get(outcome.ended, "unknown")
        self.history.write(said, number, outcome.jobs[-1] if outcome.jobs else "")
        return outcome

    async def _submit(self, session, outcome, body, whole, leaves_after):
        """One submission; answers how long to wait before the next one, None: none is needed.

        A plain request is named by a key, by which it is asked for again when its connection broke; a stream is gone on with by its job's id.
        """
        sent_at = time.monotonic()
        url = self.urls[outcome.number % len(self.urls)]
        headers = {} if outcome.streams else {"Idempotency-Key": f"{self.seed}-{outcome.number}-{outcome.refusals}"}
        jobs = len(outcome.jobs)
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                if (job := answer.headers.get("X-GFE-Job")) and job not in outcome.jobs:
                    outcome.jobs.append(job)
                if answer.status == 200 and outcome.streams:
                    await read_stream(answer, outcome, whole, sent_at, leaves_after)
                    return None
                said = await answer.json(content_type=None)
                outcome.answer_s = max(outcome.answer_s, time.monotonic() - sent_at)
                return judge(answer, said, outcome, whole)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as broken:
            outcome.ended, outcome.detail = "broken", f"{type(broken).__name__}: {broken}"
        outcome.breaks += 1
        if len(outcome.jobs) > jobs:
            await self._come_back(session, url, outcome, whole)
            return None
        return BREAK_PAUSE_S

    async def _submit_job(self, session, outcome, kind, prompt, whole, cancel_after_s):
        """One submission of a job that runs by itself, under a key; read from its beginning, canceled before. Answers as `_submit` does."""
        outcome.streams, sent_at = False, time.monotonic()
        url = self.urls[outcome.number % len(self.urls)]
        body = {"model": kind.model, "prompt": prompt, "max_tokens": kind.max_tokens, "options": {"temperature": 0}}
        headers = {"Idempotency-Key": f"{self.seed}-{outcome.number}-{outcome.refusals}"}
        try:
            async with session.post(f"{url}/api/computing/submit-job/", json=body, headers=headers) as answer:
                said = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as broken:
            outcome.ended, outcome.detail = "broken", f"{type(broken).__name__}: {broken}"
            outcome.breaks += 1
            return BREAK_PAUSE_S
        outcome.answer_s = max(outcome.answer_s, time.monotonic() - sent_at)
        if answer.status not in {200, 201}:
            outcome.ended, outcome.detail = "refused", f"{answer.status} {said.get('code')}: {said.get('detail')}"
            if answer.status in {429, 503} and "Retry-After" in answer.headers:
                outcome.refusals += 1
                return float(answer.headers["Retry-After"])
            return None
        if said["job_id"] not in outcome.jobs:
            outcome.jobs.append(said["job_id"])
        if cancel_after_s is not None:
            await asyncio.sleep(cancel_after_s)
            await self._cancel(session, url, outcome.jobs[-1])
        await self._come_back(session, url, outcome, whole)
        return None

    async def _cancel(self, session, url, job):
        """Cancel a job, as often as it takes until somebody has heard it; one that has ended is fine."""
        until = time.monotonic() + COME_BACK_LIMIT_S
        while time.monotonic() < until:
            try:
                async with session.delete(f"{url}/api/computing/jobs/{job}/") as answer:
                    if answer.status < 500 and answer.status != 429:
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(BREAK_PAUSE_S)

    async def _come_back(self, session, url, outcome, whole):
        """Read the job of a broken stream from its beginning, as soon as somebody answers."""
        until = time.monotonic() + COME_BACK_LIMIT_S
        while time.monotonic() < until:
            try:
                async with session.get(f"{url}/api/computing/jobs/{outcome.jobs[-1]}/stream/?from=0") as answer:
                    answer.raise_for_status()
                    if await read_events(answer, outcome, whole):
                        return
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                await asyncio.sleep(BREAK_PAUSE_S)


async def read_events(answer, outcome, whole):
    """Read a job's numbered events; tells whether the end came."""
    text = ""
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        said = json.loads(line[6:])
        text += said.get("content") or ""
        if said["event"] != "end":
            continue
        outcome.detail = f"came back: {said['status']}"
        if said["status"] == "COMPLETED":
            outcome.ended = "ok" if text == whole else "wrong"
        elif said["status"] == "CANCELED" and outcome.way == "cancel":
            outcome.ended = "canceled" if whole.startswith(text) else "wrong"
        else:
            outcome.ended = "incomplete" if whole.startswith(text) else "wrong"
        outcome.text = text
        return True
    return False


def judge(answer, said, outcome, whole):
    """Read a plain answer, or a refusal; answers how long to wait before trying again."""
    if answer.status == 200:
        outcome.text = said["choices"][0]["message"]["content"]
        outcome.ended = "ok" if outcome.text == whole else "wrong"
        return None
    error = said.get("error") or {}
    outcome.detail = f"{answer.status} {error.get('code')}: {error.get('message')}"
    outcome.ended = "incomplete" if error.get("code") in {"incomplete", "job_failed", "canceled"} else "refused"
    if answer.status in {409, 429, 503} and "Retry-After" in answer.headers:
        outcome.refusals += answer.status != 409  # 409: it is still running
        return float(answer.headers["Retry-After"])
    return None


async def read_stream(answer, outcome, whole, sent_at, leaves_after=None):
    """Read a stream to its end, or leave after so many pieces of text; measure how long it was silent."""
    pieces = 0
    last_text = last_byte = sent_at
    rest, has_ended, error = b"", False, None
    async for data in answer.content.iter_any():
        now = time.monotonic()
        outcome.byte_gap_s, last_byte = max(outcome.byte_gap_s, now - last_byte), now
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]":
                has_ended = True
                continue
            said = json.loads(line[6:])
            error = said.get("error") or error
            text = "".join(choice["delta"].get("content") or "" for choice in said.get("choices") or [])
            if text:
                outcome.text += text
                if outcome.first_s is None:
                    outcome.first_s = now - sent_at
                outcome.text_gap_s, last_text = max(outcome.text_gap_s, now - last_text), now
                pieces += 1
        if leaves_after and pieces >= leaves_after and not has_ended:
            outcome.ended = "left" if whole.startswith(outcome.text) else "wrong"
            answer.close()
            return
    now = time.monotonic()
    outcome.text_gap_s = max(outcome.text_gap_s, now - last_text)
    outcome.byte_gap_s = max(outcome.byte_gap_s, now - last_byte)
    if has_ended:
        outcome.ended = "ok" if outcome.text == whole else "wrong"
    elif not whole.startswith(outcome.text):
        outcome.ended = "wrong"
    elif error:
        outcome.ended, outcome.detail = "incomplete", f"{error.get('code')}: {error.get('message')}"
    else:
        outcome.ended, outcome.detail = "broken", "the stream ended without an end or an error"


def summary(outcomes):
    """The figures of a crowd."""
    ends = {
        end: sum(outcome.ended == end for outcome in outcomes)
        for end in ("ok", "incomplete", "refused", "left", "canceled", "wrong", "broken", "unknown")
    }
    streams = [outcome for outcome in outcomes if outcome.streams]
    return ends | {
        "jobs": len(outcomes),
        "submissions refused": sum(outcome.refusals for outcome in outcomes),
        "connections broken": sum(outcome.breaks for outcome in outcomes),
        "longest gap between two bytes": round(max((outcome.byte_gap_s for outcome in streams), default=0), 1),
        "longest gap between two texts": round(max((outcome.text_gap_s for outcome in streams), default=0), 1),
        "longest wait for a plain answer or a refusal": round(max((outcome.answer_s for outcome in outcomes), default=0), 1),
        "longest wait for the first text": round(max((outcome.first_s or 0 for outcome in streams), default=0), 1),
    }


async def main(asked):
    crowd = Crowd(asked.url, asked.key_file.read_text().strip(), History(asked.history), seed=asked.seed, in_flight=asked.in_flight)
    outcomes = await crowd.run(asked.jobs)
    asked.result.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    sys.stdout.write(json.dumps(summary(outcomes)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(main(parser.parse_args()))
