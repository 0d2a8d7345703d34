"""Many slow streams at once through one replica: what they cost, and how evenly their chunks come."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from bench.machine import cpu_ms

MODEL, WORDS_PER_S = "fake:drip=0.1", 10
WARM_S = 4.0  # until all have begun
MEASURED_S = 12.0  # each stream lasts 20 s


async def one_stream(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], number: int, gaps: list[float], window: list[float]
) -> int:
    """Read one stream; note the gaps between its chunks while the window is open; answer how many chunks came then."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Drip, number {number}."}], "stream": True, "max_tokens": 256}
    count, last = 0, 0.0
    async with session.post(url, json=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:200]}")
        async for _ in answer.content.iter_any():
            now = time.perf_counter()
            if window and len(window) == 1 and last:
                gaps.append(now - last)
                count += 1
            last = now
    return count


async def measure(url: str, key: str, pids: Callable[[], dict[str, list[int]]], streams: int) -> dict[str, Any]:
    """Open so many streams and watch them for a while."""
    gaps: list[float] = []
    window: list[float] = []
    headers = {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        tasks = [asyncio.create_task(one_stream(session, url, headers, number, gaps, window)) for number in range(streams)]
        await asyncio.sleep(WARM_S)
        found = pids()
        before = {role: sum(map(cpu_ms, ids)) for role, ids in found.items()}
        started, own = time.perf_counter(), time.process_time()
        window.append(started)
        await asyncio.sleep(MEASURED_S)
        window.append(time.perf_counter())
        elapsed, own = window[1] - started, time.process_time() - own
        used = {role: sum(map(cpu_ms, ids)) - before[role] for role, ids in found.items()}
        await asyncio.gather(*tasks)
    gaps.sort()
    share = {role: round(ms / 10 / elapsed, 1) for role, ms in used.items() if ms}  # per cent of one core
    return {
        "streams": streams, "chunks_per_s": round(len(gaps) / elapsed), "cpu_percent": share, "cpu_percent_of_all": round(sum(share.values()), 1),
        "reader_percent": round(100 * own / elapsed, 1), "ms_per_chunk": round(sum(used.values()) / max(1, len(gaps)), 3),
        "gap_ms": {name: round(1000 * gaps[int(at * (len(gaps) - 1))], 1) for name, at in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))},
    }  # fmt: skip
