"""A person's jobs by pages (S20, D33, G16): newest first, short rows, each exactly once whatever comes meanwhile."""

import json
from datetime import datetime

import psycopg
import pytest

from ledger.ids import uuid_of
from serve_app.store.pages import Place, page_statement
from serve_app.store.records import JobState
from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer

ROW = {"id", "status", "prompt", "model", "cost", "created_at", "completed_at"}
MANY = 10_000


async def user_of(platform, consumer):
    profile = await platform.ledger.http.get("/api/core/profile/", headers=consumer.headers)
    return profile.json()["id"]


def write_rows(database, user, count, *, model="m", state=2):
    """Rows of jobs that ended long ago."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO serve_app.job (id, user_id, username, key_id, kind, model, held, is_sync, state, cost, prompt, created_at, ended_at) "
            "SELECT gen_random_uuid(), %s, 'u', 'k', 'chat', %s, 1000000, false, %s, 1000000, repeat('p', 80), at, at "
            "FROM (SELECT clock_timestamp() - make_interval(secs => n) AS at FROM generate_series(1, %s) n) s",
            [user, model, state, count],
        )
        admin.execute("ANALYZE serve_app.job")


async def all_pages(consumer, **query):
    rows, cursor = [], None
    while True:
        page = await consumer.jobs(**query, **({"cursor": cursor} if cursor else {}))
        rows += page["results"]
        cursor = page["next"]
        if cursor is None:
            return rows


async def test_jobs_are_listed_newest_first_in_short_rows(platform):
    """S20."""
    consumer = Consumer(platform)
    prompts = ["first", "second", "third" + "x" * 200]
    names = [await consumer.submitted(prompt) for prompt in prompts]
    for name in names:
        await consumer.ended(name)
    page = await consumer.jobs()
    assert page["next"] is None
    assert [row["id"] for row in page["results"]] == names[::-1]
    assert all(set(row) == ROW for row in page["results"])
    newest = page["results"][0]
    assert newest["prompt"] == prompts[2][:80]
    whole = await consumer.job(names[2])
    assert {name: whole[name] for name in ROW - {"prompt"}} == {name: newest[name] for name in ROW - {"prompt"}}


async def test_jobs_of_every_api_are_in_it(platform):
    """S14: one job record, visible from all."""
    name = (await platform.chat(text="from elsewhere")).headers["x-gfe-job"]
    (row,) = (await Consumer(platform).jobs())["results"]
    assert (row["id"], row["prompt"], row["status"]) == (name, "from elsewhere", "COMPLETED")


@pytest.mark.parametrize("prompt", ["a\0b", "\U0001f600" * 90, '{"prompt": 123}', "x" * 79 + "\U0001f600y"])
async def test_no_prompt_breaks_the_list(platform, prompt):
    """D21: in the original one odd prompt closed the list for ever."""
    consumer = Consumer(platform)
    name = await consumer.submitted(prompt)
    assert (await consumer.ended(name))["prompt"] == prompt
    (row,) = (await consumer.jobs())["results"]
    assert row["prompt"] == prompt[:80].replace("\0", " ")


async def test_half_a_character_from_another_api_does_not_break_it_either(platform):
    """D21."""
    from cluster.jobs import JobKind
    from serve_app.job import JobRequest
    from serve_app.submission import start_job

    request = {"messages": [{"role": "user", "content": "half \ud83d"}], "options": {}}
    asked = JobRequest(kind=JobKind.CHAT, model="fake:words=3", request=request, max_tokens=3, prompt_bytes=9, is_sync=False)
    job = await start_job(platform.context, platform.key, asked)
    consumer = Consumer(platform)
    assert (await consumer.ended(job.name))["prompt"] == "half \ud83d"
    assert (await consumer.jobs())["results"][0]["prompt"] == "half  "


async def test_each_job_is_seen_once_while_new_ones_arrive(platform, database):
    """G16: 45 jobs; some with ids that follow from an Idempotency-Key and tell no time."""
    consumer = Consumer(platform)
    user = await user_of(platform, consumer)
    write_rows(database, user, 45)
    before = {row["id"] for row in await all_pages(consumer, limit=100)}
    assert len(before) == 45
    seen, cursor, arrived = [], None, 0
    while True:
        page = await consumer.jobs(limit=7, **({"cursor": cursor} if cursor else {}))
        seen += [row["id"] for row in page["results"]]
        if (cursor := page["next"]) is None:
            break
        await consumer.submitted(headers={"Idempotency-Key": f"new {arrived}"})
        arrived += 1
    assert seen == list(dict.fromkeys(seen))
    assert set(seen) == before
    assert arrived == 6
    times = [row["created_at"] for row in await all_pages(consumer, limit=10)]
    assert times == sorted(times, reverse=True)
    assert len(times) == 45 + arrived


async def test_jobs_of_the_same_moment_are_each_seen_once(platform, database):
    consumer = Consumer(platform)
    write_rows(database, await user_of(platform, consumer), 30)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.job SET created_at = '2026-01-01T00:00:00Z'")
    seen = [row["id"] for row in await all_pages(consumer, limit=4)]
    assert (len(seen), len(set(seen))) == (30, 30)


async def test_a_page_that_is_just_full_is_the_last_one(platform, database):
    consumer = Consumer(platform)
    write_rows(database, await user_of(platform, consumer), 20)
    assert (await consumer.jobs())["next"] is None
    assert len((await consumer.jobs())["results"]) == 20
    assert (await consumer.jobs(limit=19))["next"] is not None


async def test_it_is_filtered_by_state_and_model(platform, database):
    consumer = Consumer(platform)
    user = await user_of(platform, consumer)
    write_rows(database, user, 3, model="a", state=2)
    write_rows(database, user, 2, model="b", state=3)
    write_rows(database, user, 1, model="a", state=4)

    async def count(**query):
        return len((await consumer.jobs(**query))["results"])

    assert [await count(status=word) for word in ("COMPLETED", "FAILED", "CANCELED", "PENDING", "RUNNING")] == [3, 2, 1, 0, 0]
    assert [await count(model="a"), await count(model="b"), await count(model="c")] == [4, 2, 0]
    assert await count(model="a", status="CANCELED") == 1
    assert len(await all_pages(consumer, limit=1, model="a")) == 4


async def test_everybody_sees_the_own_jobs_alone(platform):
    """G18."""
    consumer, ada = Consumer(platform), Consumer(platform, (await somebody(platform.ledger)).headers)
    mine, hers = await consumer.submitted(), await ada.submitted()
    assert [row["id"] for row in (await consumer.jobs())["results"]] == [mine]
    assert [row["id"] for row in (await ada.jobs())["results"]] == [hers]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"limit": "x"}, "limit"), ({"limit": "-1"}, "limit"), ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 30}, "limit"), ({"limit": ""}, "limit"), ({"cursor": "x"}, "cursor"), ({"cursor": ""}, "cursor"), ({"cursor": "é"}, "cursor"),
        ({"cursor": "W10"}, "cursor"), ({"cursor": "bnVsbA"}, "cursor"), ({"cursor": "W" * 600}, "cursor"), ({"cursor": "WzEsMl0"}, "cursor"),
        ({"cursor": "WyIyMDI2LTAxLTAxIiwiMDAiXQ"}, "cursor"), ({"status": "DONE"}, "status"), ({"status": ""}, "status"),
        ({"model": "a\0b"}, "model"), ({"model": "m" * 301}, "model"),
    ],
)  # fmt: skip
async def test_a_wrong_question_is_refused(platform, query, field):
    """Section 0, Pages."""
    answer = await Consumer(platform).get("/api/computing/jobs/", params=query)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


async def test_a_page_is_small_and_costs_the_same_with_ten_thousand_jobs(platform, database):
    """D33: at most 10 kB; read through the index, no row of the table is looked at in vain."""
    consumer = Consumer(platform)
    user = await user_of(platform, consumer)
    write_rows(database, user, MANY)
    write_rows(database, "user_other", MANY)
    answer = await consumer.get("/api/computing/jobs/")
    assert len(answer.content) <= 10_000
    oldest = (await all_pages(consumer, limit=100))[-21]
    middle = Place(datetime.fromisoformat(oldest["created_at"]), uuid_of("job", oldest["id"]))
    for asked in ({}, {"after": middle}, {"model": "m"}, {"state": JobState.SUCCEEDED}):
        plan = explain(database, user, **asked)
        assert {"Seq Scan", "Sort"}.isdisjoint(kinds(plan)), (asked, plan)
        assert plan["Actual Rows"] == 20
        assert looked_at(plan) <= 21
    for state in (JobState.QUEUED, JobState.RUNNING):
        plan = explain(database, user, state=state)
        assert "Seq Scan" not in kinds(plan), (state, plan)


def explain(database, user, *, after=None, state=None, model=None):
    statement, parameters = page_statement(user, 20, after=after, state=state, model=model)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        (row,) = admin.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).fetchall()
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return plan[0]["Plan"]


def kinds(plan):
    return {plan["Node Type"]}.union(*(kinds(below) for below in plan.get("Plans", ())))


def looked_at(plan):
    return (
        plan["Actual Rows"]
        + plan.get("Rows Removed by Filter", 0)
        + sum(looked_at(below) - plan["Actual Rows"] for below in plan.get("Plans", ()))
    )


async def test_anothers_cursor_opens_nothing(platform, database):
    """G18: it is a place in time, and shows the own jobs alone."""
    consumer, ada = Consumer(platform), Consumer(platform, (await somebody(platform.ledger)).headers)
    write_rows(database, await user_of(platform, consumer), 5)
    cursor = (await consumer.jobs(limit=2))["next"]
    assert (await ada.jobs(cursor=cursor))["results"] == []
