"""What a dashboard sees: every job of its own from the first moment to the last, and nobody else's."""

import asyncio
import contextlib
import dataclasses
import json
import socket as sockets
from itertools import groupby

import pytest
from structlog.testing import capture_logs

from serve_app.db import DatabaseUnavailable
from serve_app.feed import NodeFact
from serve_app.live import changes as reading
from serve_app.live import hub as hubs
from serve_app.live import listener as listeners
from serve_app.live import session
from serve_app.live.messages import Kind, message, stats_update
from tests.ledger.people import somebody
from tests.serve_app.dashboards import dashboard, opened
from tests.waiting import until

FULL_ROW = {"id", "status", "prompt", "model", "cost", "created_at", "completed_at"}


async def ended(board, name):
    return await board.until(
        lambda one: one["type"] == "job_update" and one["job"]["id"] == name and one["job"]["status"] not in {"PENDING", "RUNNING"}
    )


async def test_every_state_of_a_job_arrives_in_order_and_once(platform):
    async with dashboard(platform) as board:
        asking = asyncio.create_task(platform.chat("fake:drip=0.1", "Tell me a story.", max_tokens=8, stream=True))
        running = await board.until(lambda one: one["type"] == "job_update" and one["job"]["status"] == "RUNNING")
        name = running["job"]["id"]
        assert (await asking).headers["x-gfe-job"] == name
        await board.until(lambda one: one["type"] == "balance_update")
        told = board.told_of(name)
        order = ["PENDING", "RUNNING", "COMPLETED"]
        states = [state for state, _ in groupby(one["job"]["status"] for one in told)]
        assert states in (order, order[1:])  # the first one may be over before it could be seen
        numbers = [one["seq"] for one in told]
        assert numbers == sorted(set(numbers))
        assert set(told[0]["job"]) == FULL_ROW
        assert told[0]["job"]["prompt"] == "Tell me a story."
        row = {key: value for one in told for key, value in one["job"].items()}
        kept = await platform.job(name)
        assert {key: row[key] for key in FULL_ROW} == {key: kept[key] for key in FULL_ROW}


async def test_the_first_page_has_the_newest_jobs_first_and_what_follows_adds_to_it(platform):
    old = [(await platform.chat(text=f"number {n}")).headers["x-gfe-job"] for n in range(3)]
    await platform.settled()
    async with dashboard(platform) as board:
        (page,) = board.of("jobs_update")
        assert [one["id"] for one in page["jobs"]] == old[::-1]
        assert {one["status"] for one in page["jobs"]} == {"COMPLETED"}
        assert [one["prompt"] for one in page["jobs"]] == ["number 2", "number 1", "number 0"]
        new = (await platform.chat()).headers["x-gfe-job"]
        await ended(board, new)
        assert {one["job"]["id"] for one in board.of("job_update")} == {new}
        assert all(one["seq"] > page["seq"] for one in board.of("job_update"))


async def test_three_jobs_side_by_side_are_told_side_by_side(platform_with):
    platform = await platform_with(slots=4)
    async with dashboard(platform) as board:
        answers = await asyncio.gather(*(platform.chat("fake:drip=0.1", f"job {n}", max_tokens=8) for n in range(3)))
        for answer in answers:
            assert (await ended(board, answer.headers["x-gfe-job"]))["job"]["cost"] == "1.00"


async def test_a_job_that_waits_and_one_that_fails_are_told_too(platform_with):
    platform = await platform_with(slots=1)
    async with dashboard(platform) as board:
        first = asyncio.create_task(platform.chat("fake:drip=0.1", "first", max_tokens=16))
        await board.until(lambda one: one["type"] == "job_update" and one["job"]["status"] == "RUNNING")
        second = asyncio.create_task(platform.chat("fake:500", "second"))
        waiting = await board.until(lambda one: one["type"] == "job_update" and one["job"].get("prompt") == "second")
        assert waiting["job"]["status"] == "PENDING"
        last = await ended(board, waiting["job"]["id"])
        assert (last["job"]["status"], last["job"]["cost"]) == ("FAILED", "0.00")
        await asyncio.gather(first, second)


async def test_a_job_that_moves_to_another_node_is_one_job_to_its_owner(platform_with):
    platform = await platform_with(nodes=2, slots=1)
    platform.scripts[1].always = "fake:500"
    async with dashboard(platform) as board:
        answers = await asyncio.gather(platform.chat(), platform.chat())  # one of them meets the bad node
        for answer in answers:
            last = await ended(board, answer.headers["x-gfe-job"])
            assert last["job"]["status"] == "COMPLETED"
        assert len({one["job"]["id"] for one in board.of("job_update")}) == 2
        assert "FAILED" not in json.dumps(board.heard)


async def test_who_comes_back_hears_what_was_missed_and_nothing_twice(platform_with):
    platform = await platform_with(credits="100.00")
    async with dashboard(platform) as board:
        await ended(board, (await platform.chat(text="seen")).headers["x-gfe-job"])
        await board.until(lambda one: one["type"] == "balance_update")
        last = board.seq
    missed = [(await platform.chat(text=f"missed {n}")).headers["x-gfe-job"] for n in range(15)]
    await platform.settled()
    await until_written(platform)
    async with dashboard(platform, since=last) as again:
        for name in missed:  # replayed, or, where the reader was about to look anyway, told by it
            await ended(again, name)
        told = again.of("job_update")
        assert [one["job"]["id"] for one in told] == missed
        assert {one["job"]["status"] for one in told} == {"COMPLETED"}
        assert all(set(one["job"]) == FULL_ROW for one in told)
        assert [one["seq"] for one in told] == sorted(one["seq"] for one in told)
        assert again.of("jobs_update") == []
        assert again.seq >= told[-1]["seq"] > last
        seen_all = again.seq
    async with dashboard(platform, since=seen_all) as idle:
        assert idle.of("job_update") == idle.of("jobs_update") == []


async def until_written(platform):
    """Until what the ledger acknowledged stands in the rows as well."""
    await until(lambda: not platform.context.writer._settled)
    await platform.context.store.ping()
    async with asyncio.timeout(60):
        while (await platform.context.store._line.query("SELECT count(*) FROM serve_app.job WHERE owed IS NOT NULL"))[0][0]:
            await asyncio.sleep(0.02)


async def until_told(platform):
    """Until the reader has passed everything that was written so far."""
    await until_written(platform)
    live = platform.app.state.live
    ((last,),) = await platform.context.store._line.query("SELECT last_value FROM serve_app.change")
    await until(lambda: live._position >= last)


async def test_a_socket_cut_in_the_middle_of_a_job_learns_its_end(platform):
    async with dashboard(platform) as board:
        asking = asyncio.create_task(platform.chat("fake:drip=0.1", max_tokens=8))
        name = (await board.until(lambda one: one["type"] == "job_update" and one["job"]["status"] == "RUNNING"))["job"]["id"]
        last = board.seq
    await asking
    async with dashboard(platform, since=last) as again:
        assert (await ended(again, name))["job"]["status"] == "COMPLETED"


@pytest.mark.parametrize("since", [2**62, 0])
async def test_a_number_that_is_too_old_or_not_ours_gets_a_fresh_page(platform, monkeypatch, since):
    monkeypatch.setattr(reading, "REPLAY_NUMBERS", 2)
    name = (await platform.chat()).headers["x-gfe-job"]
    await platform.settled()
    await until_written(platform)
    async with dashboard(platform, since=since) as board:
        assert [one["id"] for one in board.of("jobs_update")[0]["jobs"]] == [name]


async def test_who_missed_more_than_a_replay_holds_gets_a_fresh_page(platform, monkeypatch):
    monkeypatch.setattr(reading, "REPLAY_JOBS", 2)
    for _ in range(3):
        await platform.chat()
    await platform.settled()
    await until_written(platform)
    async with dashboard(platform, since=1) as board:
        assert len(board.of("jobs_update")[0]["jobs"]) == 3


async def test_other_peoples_jobs_never_arrive(platform):
    ada = await somebody(platform.ledger)
    async with dashboard(platform) as mine, dashboard(platform, ada.tokens["access"]) as hers:
        assert hers.of("jobs_update")[0]["jobs"] == []
        my_job = (await platform.chat(text="mine")).headers["x-gfe-job"]
        answer = await platform.http.post("/v1/chat/completions", json=platform.body(text="hers"), headers=ada.headers)
        her_job = answer.headers["x-gfe-job"]
        await ended(mine, my_job)
        await ended(hers, her_job)
        assert her_job not in json.dumps(mine.heard)
        assert my_job not in json.dumps(hers.heard)
        assert "mine" not in json.dumps(hers.heard)
    async with dashboard(platform, ada.tokens["access"], since=1) as hers:
        await ended(hers, her_job)
        assert {one["job"]["id"] for one in hers.of("job_update")} == {her_job}


async def test_a_provider_is_told_that_a_job_on_his_node_ended_and_nothing_else_of_it(platform):
    ada = await somebody(platform.ledger)
    user = (await platform.context.callers.require(platform.key, "jobs:read")).user
    platform.context.feed.nodes["node_local"] = NodeFact(user, "trusted", "active")
    async with dashboard(platform) as owner, dashboard(platform, ada.tokens["access"]) as consumer:
        await platform.http.post("/v1/chat/completions", json=platform.body(text="secret"), headers=ada.headers)
        await owner.until(lambda one: one["type"] == "provider_stats_update")
        assert owner.of("provider_stats_update")[0] == {"type": "provider_stats_update"}
        assert owner.of("job_update") == owner.of("balance_update") == []
        assert "secret" not in json.dumps(owner.heard)
        await consumer.until(lambda one: one["type"] == "balance_update")
        assert consumer.of("provider_stats_update") == []


async def test_thirty_dashboards_hear_all_of_it_in_one_statement(platform, monkeypatch):
    reads = []
    read = hubs.Changes.read

    async def counted(self, position, users, nodes):
        reads.append(sorted(users))
        return await read(self, position, users, nodes)

    monkeypatch.setattr(hubs.Changes, "read", counted)
    async with contextlib.AsyncExitStack() as stack:
        boards = [await stack.enter_async_context(dashboard(platform)) for _ in range(30)]
        names = [(await platform.chat(text=f"for all, {n}")).headers["x-gfe-job"] for n in range(5)]
        for board in boards:
            for name in names:
                await ended(board, name)
            assert {one["job"]["id"] for one in board.of("job_update")} == set(names)
            numbers = [one["seq"] for one in board.of("job_update")]
            assert numbers == sorted(set(numbers))
        user = (await platform.context.callers.require(platform.key, "jobs:read")).user
        assert all(users in ([user], []) for users in reads)


async def test_a_job_costs_a_dashboard_less_than_a_kilobyte(platform):
    async with dashboard(platform) as board:
        before = sum(len(frame.encode()) for frame in board.frames)
        for _ in range(4):
            asking = asyncio.create_task(platform.chat("fake:drip=0.1", "漢" * 500, max_tokens=5))
            name = (await asking).headers["x-gfe-job"]
            await ended(board, name)
            await board.until(lambda one: one["type"] == "balance_update")
        spent = sum(len(frame.encode()) for frame in board.frames) - before
        assert board.of("job_update")[0]["job"]["prompt"] == "漢" * 80
        assert spent / 4 <= 1000


async def test_nobody_is_read_for_when_nobody_listens(platform):
    live = platform.app.state.live
    assert live._task is None
    async with dashboard(platform):
        assert live._task is not None
    await until(lambda: live._task is None)
    async with dashboard(platform) as board:
        await ended(board, (await platform.chat()).headers["x-gfe-job"])


async def test_the_cluster_is_told_at_first_and_when_it_changes(platform, monkeypatch):
    surveys = []
    monkeypatch.setattr(hubs, "SURVEY_S", 0.05)
    monkeypatch.setattr(hubs, "stats_update", lambda *cluster: surveys.append(stats_update(*cluster)) or surveys[-1])
    async with dashboard(platform) as board:
        stats = await board.until(lambda one: one["type"] == "stats_update")
        models = await board.until(lambda one: one["type"] == "models_update")
        assert stats == {
            "type": "stats_update", "active_nodes": 1, "total_jobs": 0, "completed_jobs": 0, "available_models": len(models["models"]),
            "waiting_jobs": 0,
        }  # fmt: skip
        assert {"name": "fake:words=3", "nodes": 1} in models["models"]
        await until(lambda: len(surveys) > 4)
        platform.context.view.workers.clear()
        gone = await board.until(lambda one: one["type"] == "models_update" and one["models"] == [])
        assert board.of("models_update") == [models, gone]
        assert [one["active_nodes"] for one in board.of("stats_update")] == [1, 0]


async def test_a_dashboard_hears_only_what_it_wants_and_begins_anew_when_it_wants_it_again(platform):
    async with dashboard(platform) as board:
        await board.say("unsubscribe", kinds=["jobs", "balance"])
        await board.say("ping")
        await board.until(lambda one: one["type"] == "pong")
        name = (await platform.chat(text="unheard")).headers["x-gfe-job"]
        await platform.settled()
        await until_told(platform)
        await board.say("subscribe", kinds=["jobs", "balance"])
        page = await board.until(lambda one: one["type"] == "jobs_update" and one["jobs"])
        assert [(one["id"], one["status"]) for one in page["jobs"]] == [(name, "COMPLETED")]
        assert [one for one in board.told_of(name) if one["seq"] <= page["seq"]] == []
        other = (await platform.chat(text="heard")).headers["x-gfe-job"]
        await ended(board, other)


async def test_a_quiet_socket_is_told_where_it_stands(platform, monkeypatch):
    monkeypatch.setattr(session, "BEAT_S", 0.1)
    async with dashboard(platform) as board:
        await board.until(lambda one: one["type"] == "beat")
        name = (await platform.chat()).headers["x-gfe-job"]
        await ended(board, name)
        end = board.told_of(name)[-1]["seq"]
        assert (await board.until(lambda one: one["type"] == "beat" and one["seq"] >= end))["seq"] >= end


async def test_a_slow_reader_is_let_go_and_hurts_nobody_else(platform, monkeypatch):
    monkeypatch.setattr(listeners, "MAX_BATCHES", 8)
    monkeypatch.setattr(listeners, "MAX_LETTERS", 2**21)
    narrow = sockets.socket()
    narrow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    host, port = platform.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
    async with dashboard(platform) as other, dashboard(platform, sock=narrow, max_queue=1) as slow:
        fat = message("fat", text="x" * 200_000)
        victim = await the_listener_of(slow, platform)
        async with asyncio.timeout(20):
            while victim._reason is None:
                victim.put([fat])
                await asyncio.sleep(0.005)
        assert isinstance(victim._reason, listeners.TooSlow)
        name = (await platform.chat()).headers["x-gfe-job"]
        await ended(other, name)
        code, reason = await slow.until_closed()
        assert (code, "since" in reason) == (4408, True)
        assert other.of("fat") == []
    await until(lambda: platform.app.state.live._task is None)


async def the_listener_of(board, platform):
    """Find it by what it does: it alone stops to listen to the balance."""
    await board.say("unsubscribe", kinds=["balance"])
    return await until(lambda: next((one for one in platform.app.state.live._listeners if Kind.BALANCE not in one.kinds), None))


async def test_a_reader_that_dies_ends_every_socket_and_says_so_in_the_log(platform, monkeypatch):
    async with dashboard(platform) as board, dashboard(platform) as other:

        async def broken(self, position, users, nodes):
            raise RuntimeError("a defect")

        with capture_logs() as logs:
            monkeypatch.setattr(hubs.Changes, "read", broken)
            for one in (board, other):
                code, reason = await one.until_closed()
                assert (code, "since" in reason) == (1012, True)
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["live_reader_failed"]
    monkeypatch.undo()
    async with dashboard(platform) as board:
        await ended(board, (await platform.chat()).headers["x-gfe-job"])


async def test_whatever_a_node_says_of_itself_no_socket_ends(platform, monkeypatch):
    monkeypatch.setattr(hubs, "SURVEY_S", 0.05)
    worker = platform.workers[0]
    model = worker.node.models[0]
    async with dashboard(platform) as board:
        names = ["\ud800", "x" * 100_000, "\x00", *(f"fake:model={n}" for n in range(2000))]
        worker._set_node(models=(*(dataclasses.replace(model, name=name) for name in names), *worker.node.models))
        told = await board.until(lambda one: one["type"] == "models_update" and len(one["models"]) > 100)
        assert len(told["models"]) <= 500
        broken = []
        monkeypatch.setattr(hubs, "models_update", lambda *_: broken.append(1) or 1 / 0)
        await until(lambda: len(broken) > 2)
        await ended(board, (await platform.chat()).headers["x-gfe-job"])


async def test_a_database_that_is_away_for_a_moment_loses_nothing(platform, monkeypatch):
    monkeypatch.setattr(hubs, "SILENT_S", 0.05)
    async with dashboard(platform) as board:
        read, failures = hubs.Changes.read, []

        async def silent(self, position, users, nodes):
            if len(failures) < 5:
                failures.append(position)
                raise DatabaseUnavailable(3)
            return await read(self, position, users, nodes)

        monkeypatch.setattr(hubs.Changes, "read", silent)
        name = (await platform.chat()).headers["x-gfe-job"]
        await ended(board, name)
        assert len(failures) == 5


async def test_the_page_and_the_changes_that_overtake_it_never_go_back(platform_with):
    """Sockets that open while jobs run: whatever a page shows, no later message takes a job back."""
    platform = await platform_with(slots=8)
    rank = {"PENDING": 0, "RUNNING": 1, "COMPLETED": 2}
    asking = [asyncio.create_task(platform.chat("fake:drip=0.1", f"{n}", max_tokens=10)) for n in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        boards = []
        while not all(one.done() for one in asking):
            boards.append(await stack.enter_async_context(dashboard(platform)))
            await asyncio.sleep(0.03)
            if len(boards) > 40:
                break
        names = [(await one).headers["x-gfe-job"] for one in asking]
        for board in boards:
            shown = {one["id"]: one["status"] for one in board.of("jobs_update")[0]["jobs"]}
            for name in names:
                if shown.get(name) != "COMPLETED":
                    await ended(board, name)
                states = [rank[one["job"]["status"]] for one in board.told_of(name)]
                assert [rank[shown[name]], *states] == sorted([rank[shown[name]], *states]) if name in shown else states == sorted(states)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_who_joins_while_a_reading_is_on_its_way_misses_nothing_of_it(platform, monkeypatch, comes_back):
    ada = await somebody(platform.ledger)
    begun, go_on = asyncio.Event(), asyncio.Event()
    read = hubs.Changes.read

    async def slowly(self, position, users, nodes):
        begun.set()
        await go_on.wait()
        return await read(self, position, users, nodes)

    async with dashboard(platform, ada.tokens["access"]):
        since = platform.app.state.live._position if comes_back else None
        monkeypatch.setattr(hubs.Changes, "read", slowly)
        await begun.wait()  # it asks for ada's jobs alone
        async with opened(platform) as board:
            await board.say("auth", token=platform.key, **({"since": since} if comes_back else {}))
            await board.until(lambda one: one["type"] == "authenticated")
            name = (await platform.chat()).headers["x-gfe-job"]
            await platform.settled()
            await until_written(platform)
            go_on.set()
            await board.until(lambda one: name in json.dumps(one) and "COMPLETED" in json.dumps(one))


async def test_a_socket_that_says_nothing_is_none_of_ours(platform, monkeypatch):
    monkeypatch.setattr(session, "FIRST_FRAME_S", 0.2)
    async with opened(platform) as board:
        assert (await board.until_closed())[0] == 4401
