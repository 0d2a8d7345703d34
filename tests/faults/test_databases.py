"""PostgreSQL killed and frozen while jobs run, and expiry that races capture: rows 24, 25, 26 and 31 of the fault matrix.

The ledger alone goes through rows 24 to 27 in tests/ledger/test_database_faults.py.
"""

import asyncio
import signal
import time

import psycopg
import pytest

from cluster import processes
from tests.books import contradictions, rows_of
from tests.crowd import QUICK, Crowd, History, Kind, summary
from tests.faults.platform import until
from tests.scripted_runtime import words_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
STEADY = Kind("fake:drip=0.1", 12, 12)
SHORT = Kind("fake:words=3", 100, 3)
ANSWER_TARGET_S = 3.5
BACK_LIMIT_S = 60
FROZEN_S = 8.0
# Each hold once: in 1 ms to 10 s, evenly on a logarithmic scale, so that on any machine some are captured before and some expire.
SOON = """
UPDATE ledger.hold SET expires_at = clock_timestamp() + interval '1 ms' * power(10, 4 * random())
 WHERE expires_at > clock_timestamp() + interval '20 s'"""
HONEST = {"ok", "incomplete", "refused"}


def crowd_of(platform, tmp_path, *kinds, in_flight=8, seed=1):
    return Crowd(
        platform.url, platform.key, History(tmp_path / "history"), kinds=tuple((kind, 1) for kind in kinds), in_flight=in_flight, seed=seed
    )


async def ended_honestly(platform, outcomes, row, figure):
    figures = summary(outcomes)
    await platform.require_quiet(60)
    assert {outcome.ended for outcome in outcomes} <= HONEST, [one for one in outcomes if one.ended not in HONEST]
    assert [one for one in contradictions(platform.database.admin_url, outcomes) if one[0] != "not paid"] == []
    for key in ("ok", "incomplete", "refused", "submissions refused"):
        figure(row, f"of {figures['jobs']} jobs {key}", figures[key])


async def test_row_24_backends_killed_at_random_are_noticed_by_nobody(platform_over, server, figure, tmp_path):
    platform = await platform_over(nodes=2, slots=8)
    crowd = crowd_of(platform, tmp_path, STEADY, QUICK, in_flight=12)
    running = asyncio.create_task(crowd.run(120))
    killed = 0
    while not running.done():
        await asyncio.wait({running}, timeout=0.7)
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'gfe' AND pid <> pg_backend_pid()"
        killed += (await asyncio.to_thread(rows_of, server.admin_url, query))[0][0]
    outcomes = await running
    assert killed >= 10
    figure(24, "connections killed", killed)
    await ended_honestly(platform, outcomes, 24, figure)
    assert contradictions(server.admin_url, outcomes) == []


async def test_row_25_a_killed_database_loses_nothing_and_streams_go_on(platform_over, server, figure, tmp_path):
    platform = await platform_over(nodes=2, slots=8)
    crowd = crowd_of(platform, tmp_path, STEADY, QUICK, in_flight=12)
    running = asyncio.create_task(crowd.run(100))
    longest_s = 0.0
    for ended in (20, 60):
        await until(lambda ended=ended: crowd.ended >= ended, 60)
        server.kill()
        began = time.monotonic()
        await asyncio.to_thread(server.start)
        while (await platform.chat("fake:words=3", max_tokens=3)).status_code != 200:
            assert time.monotonic() - began < BACK_LIMIT_S
            await asyncio.sleep(0.05)
        longest_s = max(longest_s, time.monotonic() - began)
    outcomes = await running
    figure(25, "new jobs after a kill of the database, at the latest after", f"{longest_s:.1f} s")
    await ended_honestly(platform, outcomes, 25, figure)


async def test_row_26_a_frozen_database_is_told_of_in_time_and_running_streams_go_on(platform_over, server, figure):
    platform = await platform_over(nodes=2, slots=8)
    streams = [asyncio.create_task(timed_stream(platform, f"stream {n}")) for n in range(4)]
    await until(lambda: sum(node.script.running for node in platform.nodes) == 4)
    postmaster = server._process.pid
    frozen = (processes.process_of(postmaster), *processes.descendants(postmaster))
    for process in frozen:
        processes.send(process, signal.SIGSTOP)
    frozen_at = time.monotonic()
    try:
        slowest_s = 0.0
        while time.monotonic() - frozen_at < FROZEN_S - ANSWER_TARGET_S:
            slowest_s = max(slowest_s, *await asyncio.gather(*(refusal_s(platform) for _ in range(4))))
        await until(lambda: time.monotonic() - frozen_at >= FROZEN_S, FROZEN_S)
    finally:
        for process in frozen:
            processes.send(process, signal.SIGCONT)
    thawed_at = time.monotonic()
    while (await platform.chat("fake:words=3")).status_code != 200:
        assert time.monotonic() - thawed_at < BACK_LIMIT_S
        await asyncio.sleep(0.05)
    figure(26, f"slowest 503 of a database frozen for {FROZEN_S:g} s", f"{slowest_s:.1f} s")
    figure(26, "new jobs after the thaw after", f"{time.monotonic() - thawed_at:.1f} s")
    gaps = [await stream for stream in streams]
    figure(26, "longest gap in a running stream", f"{max(gaps):.2f} s")
    assert max(gaps) < FROZEN_S


async def timed_stream(platform, text):
    """Read a stream of 10 s to its end; answers its longest gap."""
    words, last, longest_s = "", time.monotonic(), 0.0
    async with platform.http.stream(
        "POST", "/v1/chat/completions", json=platform.body("fake:drip=0.1", text, max_tokens=100, stream=True), headers=platform.bearer
    ) as answer:
        async for line in answer.aiter_lines():
            now = time.monotonic()
            longest_s, last = max(longest_s, now - last), now
            words += line
    assert words.endswith("data: [DONE]"), words[-200:]
    assert words_of(text, 100)[-1] in words
    return longest_s


async def refusal_s(platform):
    """Ask for a new job while the database is frozen; answers how long the 503 took."""
    began = time.monotonic()
    answer = await platform.chat("fake:words=3")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
    return time.monotonic() - began


async def test_row_31_expiry_that_races_capture_never_does_both(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=2, slots=8)
    before = float(await platform.balance())
    crowd = crowd_of(platform, tmp_path, SHORT, in_flight=8)
    running = asyncio.create_task(crowd.run(400))
    async with await psycopg.AsyncConnection.connect(platform.database.admin_url, autocommit=True) as admin:
        while not running.done():
            await admin.execute(SOON)
            await platform.ledger.context.settling.expire()
            await asyncio.sleep(0.002)
    outcomes = await running
    assert {outcome.ended for outcome in outcomes} == {"ok"}, summary(outcomes)
    await platform.require_quiet()
    kinds = dict(rows_of(platform.database.admin_url, "SELECT kind, count(*) FROM ledger.txn WHERE kind IN (2, 3, 4, 11) GROUP BY kind"))
    figure(31, "of 400 holds captured / expired in a race", f"{kinds.get(2, 0)} / {kinds.get(4, 0)}")
    assert kinds.get(2, 0) + kinds.get(4, 0) == 400
    assert min(kinds.get(2, 0), kinds.get(4, 0)) > 0
    paid = rows_of(platform.database.admin_url, "SELECT coalesce(sum(cost), 0) FROM serve_app.job")[0][0]
    assert before - float(await platform.balance()) == pytest.approx(int(paid) / 1e6)
    assert int(paid) == kinds[2] * 1_003_000  # the flat price and three words
