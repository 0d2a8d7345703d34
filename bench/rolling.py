"""What people notice of a rolling restart: every part of an installation is started anew, one after the other, under a constant load.

Starts a whole installation with two replicas in a throw-away home, with a scripted runtime as the model, and an edge agent beside it. So many
requests a second are begun whatever becomes of the earlier ones: plain answers, streams, jobs that run by themselves, jobs of the edge node. No
client asks twice: what is refused, cut off, wrong or late counts as failed. Each answer is compared word by word, and at the end the books with
what the clients saw.

    .venv/bin/python -m bench.rolling [--json] [--figures FILE] [--per-s 20] [--settle-s 25] [--parts ledger,serve]

A part's figures are those of the requests that ended between its restart and the next one's, which begins `--settle-s` after it is back: what waited
meanwhile is served by then, as an operator would wait for it.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from bench.installation import start_stub
from bench.machine import machine
from cluster import processes
from tests.books import contradictions, unquiet
from tests.crowd import Kind, Outcome, judge, read_events, read_stream
from tests.e2e.conftest import Installation
from tests.e2e.market import Market
from tests.scripted_runtime import words_of

QUICK = Kind("fake:words=16", 64, 16)
STEADY = Kind("fake:drip=0.1", 20, 20)  # two seconds: every restart meets some in the middle
ROUND = (
    "plain", "stream", "plain", "job", "stream", "plain", "edge", "stream", "plain", "job",
    "plain", "stream", "plain", "job", "stream", "plain", "job", "stream", "plain", "job",
)  # fmt: skip
SILENT = "nothing"  # the first stretch: what the load costs by itself
BEGINNING = "warm-up"  # before the first stretch
PARTS = (SILENT, "guard", "auditor", "ledger", "edge", "dispatcher", "worker", "serve", "haproxy", "postgres")
KILLED = ("haproxy",)  # Ray's own, and new with a new Ray only
REQUEST_LIMIT_S = 60.0
REST_LIMIT_S = 60.0
SLOTS = 64
SETTINGS = {
    "GFE_REPLICAS": "2", "GFE_SLOTS": str(SLOTS), "GFE_OPEN_JOBS": "1000", "GFE_SUBMITS_PER_MINUTE": "1000000",
    "GFE_DEFAULT_MODEL": QUICK.model, "GFE_WELCOME_CREDITS": "10000000.00", "GFE_ADMISSION_CANARIES": "0", "GFE_CANARY_PERCENT": "0",
}  # fmt: skip


@dataclass(slots=True)
class Stretch:
    """The time of one part: from its restart to the next one's."""

    part: str
    how: str = ""
    restart_s: float = 0.0
    began: float = field(default_factory=time.monotonic)
    requests: int = 0
    delays_s: list[float] = field(default_factory=list)  # the longest wait of each request without a byte
    failures: Counter[str] = field(default_factory=Counter)

    def note(self, outcome: Outcome) -> None:
        """Take a request that ended now."""
        self.requests += 1
        self.delays_s.append(max(outcome.answer_s, outcome.first_s or 0.0, outcome.byte_gap_s))
        if outcome.ended != "ok":
            self.failures[f"{ROUND[outcome.number % len(ROUND)]} {outcome.ended}: {outcome.detail.partition(':')[0][:60]}"] += 1

    def row(self) -> dict[str, Any]:
        """Write its figures."""
        ordered = sorted(self.delays_s) or [0.0]
        return {
            "part": self.part, "how": self.how, "restart_s": self.restart_s, "requests": self.requests, "failed": self.failures.total(),
            "longest_s": round(ordered[-1], 2), "p50_s": round(ordered[len(ordered) // 2], 3), "why": dict(self.failures.most_common(6)),
        }  # fmt: skip


class Load:
    """A constant stream of requests, each made once."""

    def __init__(self, session: aiohttp.ClientSession, url: str, edge_node: str, per_s: float) -> None:
        self._session, self._url, self._edge_node, self._per_s = session, url, edge_node, per_s
        self.stretch = Stretch(BEGINNING, "left alone")
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Begin requests until canceled; then wait for those that run."""
        running: set[asyncio.Task[None]] = set()
        began, number = time.monotonic(), 0
        try:
            while True:
                await asyncio.sleep(max(0.0, began + number / self._per_s - time.monotonic()))
                task = asyncio.create_task(self._one(number))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
        finally:
            await asyncio.gather(*running)

    async def _one(self, number: int) -> None:
        way = ROUND[number % len(ROUND)]
        kind = STEADY if way == "stream" else QUICK
        prompt = f"request {number} of the rolling restart"
        outcome = Outcome(number, way == "stream", kind.model)
        whole = "".join(words_of(prompt, kind.words))
        began = time.monotonic()
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                await (self._chat if way in {"plain", "stream"} else self._job)(way, kind, prompt, outcome, whole)
        except ValueError as broken:
            outcome.ended, outcome.detail = "broken", str(broken)
            outcome.answer_s = time.monotonic() - began
        except (aiohttp.ClientError, TimeoutError, OSError) as broken:
            outcome.ended, outcome.detail = "broken", f"{type(broken).__name__}: {broken}"
            outcome.answer_s = time.monotonic() - began
        self.outcomes.append(outcome)
        self.stretch.note(outcome)

    async def _chat(self, way: str, kind: Kind, prompt: str, outcome: Outcome, whole: str) -> None:
        """Ask as OpenAI's clients do; a stream is read to its end."""
        body = {
            "model": kind.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": kind.max_tokens, "stream": way == "stream",
        }  # fmt: skip
        sent_at = time.monotonic()
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
            outcome.jobs = [answer.headers["X-GFE-Job"]] if "X-GFE-Job" in answer.headers else []
            if way == "stream" and answer.status == 200:
                await read_stream(answer, outcome, whole, sent_at)
                return
            said = await _read(answer)
            outcome.answer_s = time.monotonic() - sent_at
            judge(answer, said, outcome, whole)

    async def _job(self, way: str, kind: Kind, prompt: str, outcome: Outcome, whole: str) -> None:
        """Submit a job, and read it along to its end; it takes no time by itself, so all of it is delay."""
        body = {"model": kind.model, "prompt": prompt, "max_tokens": kind.max_tokens} | (
            {"provider": self._edge_node} if way == "edge" else {}
        )
        sent_at = time.monotonic()
        async with self._session.post(f"{self._url}/api/computing/submit-job/", json=body) as answer:
            said = await _read(answer)
            if answer.status != 201:
                outcome.ended, outcome.detail = "refused", f"{answer.status} {said.get('code')}: {said.get('detail')}"
                outcome.answer_s = time.monotonic() - sent_at
                return
        outcome.jobs = [said["job_id"]]
        async with self._session.get(f"{self._url}/api/computing/jobs/{said['job_id']}/stream/?from=0") as answer:
            answer.raise_for_status()
            if not await read_events(answer, outcome, whole):
                outcome.ended, outcome.detail = "broken", "the job's events ended without an end"
        outcome.answer_s = time.monotonic() - sent_at


async def _read(answer: aiohttp.ClientResponse) -> Any:
    """Read an answer's JSON; what is none was not said by us."""
    text = await answer.text()
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"status {answer.status}, no JSON ({len(text)} characters)") from None


@asynccontextmanager
async def loaded(installation: Installation, edge_node: str, per_s: float) -> AsyncIterator[Load]:
    """Keep a load on an installation."""
    headers = {"Authorization": f"Bearer {installation.report['api_key']}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        session._retry_connection = False  # aiohttp repeats a GET by itself when a kept connection turns out to be closed
        load = Load(session, installation.report["api_url"], edge_node, per_s)
        running = asyncio.create_task(load.run())
        try:
            yield load
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def started_anew(installation: Installation, part: str) -> str:
    """Start one part anew as an operator does, or kill it; tell how."""
    if part == SILENT:
        return "left alone"
    if part in KILLED:
        pid = installation.pid_of(part)
        processes.send(processes.Process(pid, processes.process_of(pid).start), signal.SIGKILL)  # type: ignore[union-attr]
        installation.wait_until_green()
        return "killed"
    done = installation.gfe("restart", part, "--json", limit_s=300)
    if done.returncode:
        raise SystemExit(f"{part}: {done.stderr}")
    return "gfe restart"


async def roll(installation: Installation, edge_node: str, parts: Sequence[str], *, per_s: float, settle_s: float) -> dict[str, Any]:
    """Start the parts anew under load; answer the figures, and what the books say afterwards."""
    async with loaded(installation, edge_node, per_s) as load:
        rows = [load.stretch]
        await asyncio.sleep(settle_s)
        for part in parts:
            load.stretch = stretch = Stretch(part)
            stretch.how = await asyncio.to_thread(started_anew, installation, part)
            stretch.restart_s = round(time.monotonic() - stretch.began, 1)
            await asyncio.sleep(settle_s)
            rows.append(stretch)
            print(json.dumps(stretch.row()), file=sys.stderr)
    return {"rows": [stretch.row() for stretch in rows], "per_s": per_s} | await asyncio.to_thread(books, installation, load.outcomes)


def books(installation: Installation, outcomes: list[Outcome]) -> dict[str, Any]:
    """Wait until all is quiet; compare the books with what the clients saw."""
    admin_url = (installation.home.secrets / "admin_database_url").read_text()
    until = time.monotonic() + REST_LIMIT_S
    while (open_ := unquiet(admin_url)) and time.monotonic() < until:
        time.sleep(0.5)
    audit = installation.gfe("ledger", "audit")
    return {
        "requests": len(outcomes), "failed": sum(outcome.ended != "ok" for outcome in outcomes),
        "open": {rule: len(rows) for rule, rows in open_.items()}, "contradictions": len(contradictions(admin_url, outcomes)),
        "audit": "green" if audit.returncode == 0 else audit.stdout,
    }  # fmt: skip


def measured(parts: Sequence[str], *, per_s: float, settle_s: float, port_base: int) -> dict[str, Any]:
    """Start an installation and an agent, roll, end them."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-rolling-"))
    stub, stub_url = start_stub()
    installation = Installation(folder, port_base)
    installation.environment |= SETTINGS | {"GFE_OLLAMA_URL": stub_url}
    try:
        installation.up()
        with ExitStack() as stack:
            agent = Market(installation, folder, stack, Decimal(0)).agent("edge", stub_url)
            return asyncio.run(roll(installation, agent.node, parts, per_s=per_s, settle_s=settle_s))
    finally:
        installation.remove()
        stub.terminate()
        stub.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figures", type=Path, help="write the figures here too, for docs/reliability.md")
    parser.add_argument("--per-s", type=float, default=20)
    parser.add_argument("--settle-s", type=float, default=25)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--port-base", type=int, default=23500)
    asked = parser.parse_args()
    found = {"machine": machine()} | measured(asked.parts.split(","), per_s=asked.per_s, settle_s=asked.settle_s, port_base=asked.port_base)
    if asked.figures:
        asked.figures.write_text(json.dumps(found, indent=1))
    print(json.dumps(found) if asked.json else said(found))


def said(found: dict[str, Any]) -> str:
    """Write the figures as text."""
    lines = [str(found["machine"]), f"{'part':<11} {'how':<12} {'back after':>10} {'requests':>9} {'failed':>7} {'longest':>8} {'p50':>7}"]
    for row in found["rows"]:
        lines.append(
            f"{row['part']:<11} {row['how']:<12} {row['restart_s']:>8} s {row['requests']:>9} {row['failed']:>7} "
            f"{row['longest_s']:>6} s {row['p50_s']:>5} s"
        )
        lines += [f"{'':>12}{count}: {why}" for why, count in row["why"].items()]
    end = f"audit {found['audit']}, open {found['open']}, contradictions {found['contradictions']}"
    return "\n".join([*lines, f"{found['failed']} of {found['requests']} failed; {end}"])


if __name__ == "__main__":
    main()
