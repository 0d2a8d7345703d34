"""What open dashboards cost: the same jobs with 30 of them open and with none, alternating in one run; and a job end to end, with one.

Starts a whole installation in a throw-away home, as `bench/gateway.py` does, with a scripted runtime as the model. All dashboards are of the
account whose jobs run, which is the worst case: each is told of every job. End to end is from the submission until the end state arrives on a
dashboard's socket.

    .venv/bin/python -m bench.dashboard [--json] [--seconds 8] [--rounds 3] [--dashboards 30] [--in-flight 8] [--plain]

Figures: CPU-ms per job (all our processes, PostgreSQL included), split by process; bytes per job and dashboard, as text before the socket's
own compression, which is offered as browsers do (`--plain`: not); time from the submission to the end on the socket.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from typing import Any

import aiohttp

from bench.installation import MODEL, OURS, Bench, Sample, running_installation
from bench.machine import cpu_ms, machine

OVER = {"COMPLETED", "FAILED", "CANCELED"}
END_LIMIT_S = 20.0
QUIET_S = 1.0  # until what belongs to the last jobs has arrived


class Dashboard:
    """One open socket: counts what comes, and remembers which jobs are over."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.letters = 0
        self.frames = 0
        self._over: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def read(self) -> None:
        """Read to the end."""
        async for said in self._socket:
            self.letters += len(said.data.encode())
            self.frames += 1
            heard = json.loads(said.data)
            for one in heard if isinstance(heard, list) else [heard]:
                if one["type"] == "job_update" and one["job"]["status"] in OVER:
                    self._end(one["job"]["id"])

    def _end(self, job: str) -> None:
        if (future := self._waiting.pop(job, None)) is not None:
            future.set_result(None)
        else:
            self._over.add(job)

    async def end_of(self, job: str) -> None:
        """Wait until a job's end was told."""
        if job in self._over:
            self._over.discard(job)
            return
        future = self._waiting[job] = asyncio.get_running_loop().create_future()
        await asyncio.wait_for(future, END_LIMIT_S)


class DashboardBench(Bench):
    """One installation under measurement, with a session and the dashboard that sees the ends."""

    session: aiohttp.ClientSession
    watcher: Dashboard | None = None
    is_plain = False

    @contextlib.asynccontextmanager
    async def open_boards(self, count: int) -> Any:
        """Open so many dashboards."""
        url = self.ours.url.replace("/v1/chat/completions", "/ws/dashboard/").replace("http://", "ws://")
        async with contextlib.AsyncExitStack() as stack:
            boards, tasks = [], []
            for _ in range(count):
                socket = await stack.enter_async_context(self.session.ws_connect(url, compress=0 if self.is_plain else 15))
                await socket.send_json({"type": "auth", "token": self.key})
                while "jobs_update" not in await socket.receive_str(timeout=30):
                    pass
                boards.append(Dashboard(socket))
                tasks.append(asyncio.create_task(boards[-1].read()))
            try:
                yield boards
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def cpu_ms(self) -> float:
        """Tell what all our processes have used so far."""
        found = self.pids()
        return sum(cpu_ms(pid) for role in OURS for pid in found.get(role, ()))

    async def one_job(self) -> float:
        """Submit a job; tell the time until its answer, or its end on the socket where somebody watches, in ms."""
        text = "Say sixteen words about the sea, the wind, and what lies beyond. " * 2
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 64,
        }
        started = time.perf_counter()
        async with self.session.post(self.ours.url, json=body, headers={"Authorization": f"Bearer {self.key}"}) as answer:
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}: {(await answer.text())[:200]}")
            job = answer.headers["X-GFE-Job"]
            await answer.read()
        if self.watcher:
            await self.watcher.end_of(job)
        return (time.perf_counter() - started) * 1000

    async def stretch(self, *, in_flight: int, seconds: float) -> Sample:
        """Keep jobs running for a while and measure, until all that belongs to them has been told."""
        found = self.pids()
        before = {role: sum(map(cpu_ms, pids)) for role, pids in found.items()}
        started = time.monotonic()
        ends: list[float] = []

        async def client() -> None:
            while time.monotonic() - started < seconds:
                ends.append(await self.one_job())

        await asyncio.gather(*(client() for _ in range(in_flight)))
        elapsed = time.monotonic() - started
        await asyncio.sleep(QUIET_S)
        cpu = {role: sum(map(cpu_ms, pids)) - before[role] for role, pids in found.items()}
        return Sample(requests=len(ends), seconds=elapsed, cpu=cpu, first_ms=ends)


async def compare(bench: DashboardBench, asked: argparse.Namespace) -> dict[str, Any]:
    """Alternate none and many; then jobs end to end."""
    none, many = Sample(), Sample()
    ratios, letters, frames = [], 0, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as bench.session:
        await bench.stretch(in_flight=asked.in_flight, seconds=1)
        for number in range(asked.rounds):
            pair: dict[bool, Sample] = {}
            for has_many in (number % 2 == 0, number % 2 == 1):
                async with bench.open_boards(asked.dashboards if has_many else 0) as boards:
                    pair[has_many] = await bench.stretch(in_flight=asked.in_flight, seconds=asked.seconds)
                    letters += sum(board.letters for board in boards)
                    frames += sum(board.frames for board in boards)
            none.add(pair[False])
            many.add(pair[True])
            ratios.append(round(pair[True].per_request(OURS) / pair[False].per_request(OURS), 3))
            print(json.dumps({"round": number, "ratio": ratios[-1], "jobs": [pair[False].requests, pair[True].requests]}), file=sys.stderr)
        async with bench.open_boards(1) as (bench.watcher,):
            ends = await bench.stretch(in_flight=asked.in_flight, seconds=asked.seconds)
    few, all_, told = none.per_request(OURS), many.per_request(OURS), max(1, many.requests) * asked.dashboards
    return {
        "dashboards": asked.dashboards, "in_flight": asked.in_flight, "none_cpu_ms": round(few, 2), "many_cpu_ms": round(all_, 2),
        "ratio": round(all_ / few, 3), "median_ratio": round(statistics.median(ratios), 3), "ratios": sorted(ratios),
        "bytes_per_job_and_dashboard": round(letters / told), "frames_per_job_and_dashboard": round(frames / told, 3),
        "none_per_s": round(none.requests / none.seconds, 1), "many_per_s": round(many.requests / many.seconds, 1),
        "none_split": none.split(OURS), "many_split": many.split(OURS),
        "end_cpu_ms": round(ends.per_request(OURS), 2), "end_ms_p50": round(statistics.median(ends.first_ms)), "end_per_s": round(ends.requests / ends.seconds, 1),
    }  # fmt: skip


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Start an installation, measure, end it."""
    with running_installation(asked.port_base) as (status, roots):
        bench = DashboardBench(status, roots)
        bench.is_plain = asked.plain
        return asyncio.run(compare(bench, asked))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plain", action="store_true", help="offer no compression")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dashboards", type=int, default=30)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--port-base", type=int, default=24000)
    asked = parser.parse_args()
    row = measured(asked)
    if asked.json:
        print(json.dumps({"machine": machine(), "row": row}))
        return
    print(machine())
    print(
        f"{row['in_flight']} in flight: {row['none_cpu_ms']:.2f} CPU-ms per job, {row['many_cpu_ms']:.2f} with {row['dashboards']} dashboards open: "
        f"ratio {row['ratio']}, median of rounds {row['median_ratio']} {row['ratios']}; {row['none_per_s']}/s and {row['many_per_s']}/s"
    )
    print(f"{row['bytes_per_job_and_dashboard']} bytes and {row['frames_per_job_and_dashboard']} frames per job and dashboard")
    print(f"none: {row['none_split']}\nmany: {row['many_split']}")
    print(f"end to end: {row['end_cpu_ms']:.2f} CPU-ms per job, p50 {row['end_ms_p50']} ms, {row['end_per_s']}/s")


if __name__ == "__main__":
    main()
