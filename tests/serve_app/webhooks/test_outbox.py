"""The outbox by itself: who gets how much of the room, and what a claim is worth."""

import psycopg
import pytest

from serve_app.webhooks.outbox import AT_ONCE, AT_ONCE_PER_ACCOUNT, AT_ONCE_PER_HOST, Outbox
from serve_app.webhooks.records import Answer


@pytest.fixture
async def outbox(database):
    one = Outbox(database.serve_url)
    yield one
    await one.aclose()


@pytest.fixture
def events(database):
    def add(user, *urls, job=None):
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            for url in urls:
                admin.execute(
                    "INSERT INTO serve_app.webhook_event (user_id, job_id, type, url) VALUES (%s, coalesce(%s, gen_random_uuid()), 'job.failed', %s)",
                    [user, job, url],
                )

    return add


def counted(claimed, name):
    found = {}
    for one in claimed:
        found[getattr(one, name)] = found.get(getattr(one, name), 0) + 1
    return found


async def test_one_host_and_one_account_get_only_a_part_of_the_room(outbox, events):
    events("big", *["https://one.example/"] * 20, *(f"https://h{n}.example/" for n in range(40)))
    events("small", "https://one.example/", "https://zz.example/")
    claimed = await outbox.claim(AT_ONCE, {}, {})
    assert counted(claimed, "user") == {"big": AT_ONCE_PER_ACCOUNT, "small": 1}
    assert counted(claimed, "lane")["one.example"] == AT_ONCE_PER_HOST
    assert await outbox.claim(AT_ONCE, {"one.example": AT_ONCE_PER_HOST}, {"big": AT_ONCE_PER_ACCOUNT}) == []
    more = await outbox.claim(AT_ONCE, {"one.example": AT_ONCE_PER_HOST - 2}, {"big": AT_ONCE_PER_ACCOUNT - 1})
    assert counted(more, "user")["big"] == 1


async def test_no_more_is_claimed_than_there_is_room_for_and_the_oldest_first(outbox, events):
    for n in range(8):
        events(f"user_{n}", f"https://h{7 - n}.example/")
    assert [one.user for one in await outbox.claim(3, {}, {})] == ["user_0", "user_1", "user_2"]


async def test_events_of_one_job_to_one_webhook_are_claimed_one_after_the_other(outbox, events):
    job = "01890000-0000-7000-8000-000000000000"
    events("user_a", *["https://one.example/"] * 3, job=job)
    ids = []
    while claimed := await outbox.claim(AT_ONCE, {}, {}):
        (one,) = claimed
        assert await outbox.claim(AT_ONCE, {}, {}) == []
        ids.append(one.id)
        if len(ids) == 2:
            await outbox.failed(one, Answer(500, "It answered 500."), None)
        else:
            await outbox.delivered(one.id, 200)
    assert ids == [one.id for one in reversed(await outbox.list("user_a", None, None, 10))]
    assert len(ids) == 3


async def test_what_a_claim_that_ran_out_says_of_a_failure_changes_nothing(outbox, events, database):
    events("user_a", "https://one.example/")
    (old,) = await outbox.claim(AT_ONCE, {}, {})
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.webhook_event SET lease_until = now() - interval '1 second'")
    (new,) = await outbox.claim(AT_ONCE, {}, {})
    assert (new.id, new.attempts, new.claim == old.claim) == (old.id, 2, False)
    await outbox.failed(old, Answer(None, "late"), None)
    (line,) = await outbox.list("user_a", None, None, 10)
    assert (line.state.name, line.error) == ("PENDING", None)
    await outbox.failed(new, Answer(500, "It answered 500."), 60)
    (line,) = await outbox.list("user_a", None, None, 10)
    assert (line.state.name, line.error, line.next_at > line.tried_at) == ("PENDING", "It answered 500.", True)
