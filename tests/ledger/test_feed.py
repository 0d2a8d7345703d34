"""The change feed: in order, without gaps, for our own services only."""

import asyncio

import aiohttp
import pytest

from cluster.service_tokens import ServiceTokens
from ledger.audit_log import Origin
from ledger.client import LedgerClient, LedgerUnavailable
from ledger.db import connect
from ledger.identity.feed import tell
from ledger.ids import text_of
from ledger.money.prices import set_default_price
from serve_app.local.secrets import make_service_key
from tests.edge_agent import account, execute


@pytest.fixture
async def owner(ledger, database):
    return await account(ledger, database, "owner")


async def now_of(ledger):
    return (await ledger.client.feed(None)).seq


async def test_what_changes_is_told_in_order_and_nothing_new_is_an_empty_list(ledger, owner):
    before = await now_of(ledger)
    _, node = await owner.enrolled()
    await owner.call("PATCH", f"nodes/{node}/", json={"state": "paused"})
    key = owner.headers["Authorization"].split("_")[2]
    await ledger.context.keys.revoke(owner.person, key, Origin("test"))
    await ledger.context.keys.revoke(owner.person, key, Origin("test"))  # twice is fine, and told once
    page = await ledger.client.feed(before)
    assert [(entry.seq - before, entry.kind, entry.subject) for entry in page.entries] == [
        (1, "node", node),
        (2, "node", node),
        (3, "key_revoked", key),
    ]
    assert (page.reset, page.seq) == (False, before + 3)
    active, paused = page.entries[0].detail, page.entries[1].detail
    assert (active["owner"], active["kind"], active["state"], active["tier"]) == (
        text_of("user", owner.person),
        "edge",
        "active",
        "probation",
    )
    assert paused == active | {"state": "paused"}
    assert len(active["key"]) == 43
    for _ in range(2):
        nothing = await ledger.client.feed(page.seq)
        assert (nothing.seq, nothing.reset, nothing.entries) == (page.seq, False, ())


async def test_a_limit_cuts_a_page_and_the_next_goes_on(ledger, database):
    before = await now_of(ledger)
    connection = await connect(database.ledger_url, name="test")
    for n in range(7):
        await tell(connection, "session_revoked", f"s{n}")
    await connection.close()
    seen, after = [], before
    while (page := await ledger.client.feed(after, limit=3)).entries:
        assert len(page.entries) <= 3
        seen += [entry.subject for entry in page.entries]
        after = page.seq
    assert seen == [f"s{n}" for n in range(7)]


async def test_a_reader_never_skips_what_a_slow_writer_commits_late(ledger, database):
    before = await now_of(ledger)
    writers, each = 6, 12

    async def write(name):
        connection = await connect(database.ledger_url, name="test")
        for n in range(each):
            async with connection.transaction():
                await tell(connection, "session_revoked", f"{name}-{n}")
                await asyncio.sleep(0.002 * (name % 3))  # slow to commit
        await connection.close()

    seen, after = [], before
    writing = asyncio.gather(*(write(name) for name in range(writers)))
    while len(seen) < writers * each:
        was_done = writing.done()
        page = await ledger.client.feed(after)
        assert not page.reset
        seen += page.entries
        after = page.seq
        assert not was_done or page.entries, "an entry was skipped"
    await writing
    assert [entry.seq for entry in seen] == list(range(before + 1, before + 1 + writers * each))
    assert {entry.subject for entry in seen} == {f"{name}-{n}" for name in range(writers) for n in range(each)}


async def test_a_change_that_is_rolled_back_is_not_told(ledger, database):
    before = await now_of(ledger)
    connection = await connect(database.ledger_url, name="test")
    async with connection.transaction(force_rollback=True):
        await tell(connection, "session_revoked", "undone")
    await tell(connection, "session_revoked", "done")
    await connection.close()
    page = await ledger.client.feed(before)
    assert [(entry.seq, entry.subject) for entry in page.entries] == [(before + 1, "done")]


async def test_a_new_price_is_told_once(ledger, database):
    before = await now_of(ledger)
    connection = await connect(database.ledger_url, name="test")
    for flat in (7, 7, 8):
        await set_default_price(connection, flat, 1, 2)
    await connection.close()
    page = await ledger.client.feed(before)
    assert [(entry.kind, entry.subject, entry.detail["flat"]) for entry in page.entries] == [("price", "", 7), ("price", "", 8)]
    state = await ledger.client.feed(None)
    assert [entry.detail for entry in state.entries if entry.kind == "price"] == [page.entries[1].detail]


async def test_who_knows_nothing_gets_the_whole_state(ledger, owner, database):
    _, node = await owner.enrolled()
    other = await account(ledger, database, "other")
    key = owner.headers["Authorization"].split("_")[2]
    await ledger.context.keys.revoke(owner.person, key, Origin("test"))
    session = "01990000-0000-7000-8000-000000000001"
    execute(
        database,
        "INSERT INTO ledger.session (id, person_id, expires_at, revoked_at) VALUES (%s, %s, clock_timestamp() + interval '1 day', clock_timestamp()), "
        "(gen_random_uuid(), %s, clock_timestamp() - interval '1 day', clock_timestamp()), (gen_random_uuid(), %s, clock_timestamp() + interval '1 day', NULL)",
        [session, *[owner.person] * 3],
    )
    execute(database, "UPDATE ledger.person SET blocked_at = clock_timestamp() WHERE username = 'other'")
    page = await ledger.client.feed(None)
    assert page.reset
    found = {(entry.kind, entry.subject): entry.detail for entry in page.entries}
    assert set(found) == {
        ("node", node), ("node", "node_local"), ("key_revoked", key), ("session_revoked", session), ("person_blocked", text_of("user", other.person)),
        ("price", ""), ("model", "smollm2:135m"),
    }  # fmt: skip
    assert (found["node", "node_local"]["kind"], found["node", "node_local"]["key"]) == ("trusted", None)
    after = await ledger.client.feed(page.seq)
    assert (after.reset, after.entries) == (False, ())


async def test_old_news_is_forgotten_and_who_missed_it_starts_anew(ledger, owner, database):
    first = await now_of(ledger)
    _, node = await owner.enrolled()
    await owner.call("PATCH", f"nodes/{node}/", json={"state": "paused"})
    execute(database, "UPDATE ledger.feed SET at = at - interval '8 days'")
    await owner.call("PATCH", f"nodes/{node}/", json={"state": "active"})
    assert await ledger.context.feed.clean() == first + 2
    assert [entry.detail["state"] for entry in (await ledger.client.feed(first + 2)).entries] == ["active"]
    missed = await ledger.client.feed(first)
    assert (missed.reset, missed.seq) == (True, first + 3)
    assert {entry.subject: entry.detail["state"] for entry in missed.entries if entry.kind == "node"} == {
        node: "active",
        "node_local": "active",
    }


async def test_the_last_number_survives_every_clean_up(ledger, owner, database):
    _, node = await owner.enrolled()
    last = await now_of(ledger)
    execute(database, "UPDATE ledger.feed SET at = at - interval '8 days'")
    await ledger.context.feed.clean()
    assert await ledger.context.feed.clean() == 0
    assert (await ledger.client.feed(last)).reset is False
    await owner.call("PATCH", f"nodes/{node}/", json={"state": "paused"})
    assert [entry.seq for entry in (await ledger.client.feed(last)).entries] == [last + 1]


async def test_a_number_that_was_never_given_starts_anew(ledger):
    last = await now_of(ledger)
    assert (await ledger.client.feed(last + 1)).reset
    assert (await ledger.client.feed(2**63 - 1)).reset


async def test_an_empty_feed_is_read_cheaply_too(ledger, database):
    execute(database, "DELETE FROM ledger.feed")
    page = await ledger.client.feed(0)
    assert (page.seq, page.reset, page.entries) == (0, False, ())


async def ask(ledger, path="/internal/v1/feed", service=None, **headers):
    if service:
        make_service_key(ledger.folder, service)
        ledger.context.services.public_keys[service] = (ledger.folder / f"service_{service}.pub.pem").read_bytes()
        token = ServiceTokens((ledger.folder / f"service_{service}.pem").read_bytes(), service).mint("ledger-internal")
        headers["Authorization"] = f"Bearer {token}"
    connector = aiohttp.UnixConnector(path=str(ledger.context.settings.ledger_socket))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://ledger{path}", headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_only_our_own_services_read_it(ledger):
    assert (await ask(ledger))[0] == 401
    assert (await ask(ledger, Authorization=f"Bearer {ledger.key}"))[0] == 401
    assert (await ask(ledger, service="auditor"))[0] == 403
    for service in ("serve", "edge"):
        status, page = await ask(ledger, service=service)
        assert (status, page["reset"]) == (200, True)
    assert (await ledger.http.get("/internal/v1/feed")).status_code == 404  # not on the public port


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=", "after=9223372036854775808", "after=٣", "limit=0", "limit=1001", "limit=x"]
)
async def test_bad_questions_are_400(ledger, query):
    status, problem = await ask(ledger, f"/internal/v1/feed?{query}", service="serve")
    assert (status, list(problem["errors"])) == (400, [query.split("=")[0]])


async def test_a_client_without_a_ledger_says_so(tmp_path):
    client = LedgerClient(tmp_path / "nothing.sock", lambda: "token")
    with pytest.raises(LedgerUnavailable):
        await client.feed(None)
    await client.start()
    with pytest.raises(LedgerUnavailable):
        await client.feed(None)
    await client.aclose()


async def test_the_edge_gateway_reads_the_feed_and_does_nothing_with_money(ledger):
    tokens = ServiceTokens((ledger.folder / "service_edge.pem").read_bytes(), "edge")
    edge = LedgerClient(ledger.context.settings.ledger_socket, lambda: tokens.mint("ledger-internal"))
    await edge.start()
    try:
        assert (await edge.feed(None)).reset
        headers = {"Authorization": f"Bearer {tokens.mint('ledger-internal')}"}
        connector = aiohttp.UnixConnector(path=str(ledger.context.settings.ledger_socket))
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            answer = await http.post("http://ledger/internal/v1/operations", json={"operations": [{"op": "find_holds", "older_than_s": 0}]})
            assert (answer.status, (await answer.json())["code"]) == (403, "not_permitted")
    finally:
        await edge.aclose()
