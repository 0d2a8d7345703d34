"""What the ledger does when something is wrong: databases that go away, tokens that are not ours, batches with bad operations."""

import asyncio
import time
import uuid

import httpx2
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.service_tokens import ServiceTokens
from ledger.audit_log import Origin
from ledger.bootstrap import bootstrap
from ledger.client import Capture, HoldNotOpen, LedgerClient, LedgerUnavailable, PlaceHold, Void, new_hold_id
from ledger.errors import CredentialUnknown, NotAuthenticated
from ledger.identity.api_keys import CACHE_S, new_key
from ledger.identity.services import AUDIENCE, ServiceVerifier
from ledger.loops import expire_holds
from ledger.money.requests import VoidRequest


@pytest.fixture
async def internal(ledger):
    """The internal listener, as an HTTP client with a good token."""
    tokens = ServiceTokens((ledger.folder / "service_serve.pem").read_bytes(), "serve")
    transport = httpx2.AsyncHTTPTransport(uds=str(ledger.folder / "s" / "internal.sock"))
    headers = {"Authorization": f"Bearer {tokens.mint(AUDIENCE)}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://ledger", headers=headers) as http:
        yield http


def token(key, **changes):
    now = int(time.time())
    claims = {"iss": "serve", "aud": AUDIENCE, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex} | changes
    return "Bearer " + jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm="EdDSA")


@pytest.fixture
def service_key():
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key, ServiceVerifier({"serve": public})


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "edge"}, {"iss": None}, {"aud": "node"}, {"aud": None}, {"jti": None}, {"exp": None}, {"iat": None},
        {"exp": 1}, {"exp": int(time.time()) + 3600}, {"iat": int(time.time()) + 3600},
    ],
)  # fmt: skip
def test_a_service_token_that_is_not_exactly_right_is_refused(service_key, changes):
    key, verifier = service_key
    with pytest.raises(NotAuthenticated):
        verifier.verify(token(key, **changes))


def test_a_service_token_names_its_service_and_only_with_its_own_key(service_key):
    key, verifier = service_key
    good = token(key)
    assert [verifier.verify(good), verifier.verify(good)] == ["serve", "serve"]
    for wrong in (token(Ed25519PrivateKey.generate()), good.removeprefix("Bearer "), good.replace("Bearer", "Basic"), good[:-3], "", None):
        with pytest.raises(NotAuthenticated):
            verifier.verify(wrong)


async def test_a_bad_operation_in_a_batch_is_refused_alone(ledger, internal):
    good = ledger.hold().model_dump(mode="json")
    bad = [good | {"id": "x"}, good | {"surprise": 1}, good | {"model": "a\0b"}, good | {"max_tokens": 2**40}, {"op": "mint"}, 7]
    said = (await internal.post("/internal/v1/operations", json={"operations": [good, *bad]})).json()["answers"]
    assert [answer["answer"] for answer in said] == ["placed", *["refused"] * len(bad)]
    assert {answer["code"] for answer in said[1:]} == {"invalid_request"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b'{"operations": []}', b'{"operations": {}}', b'{"operations": [' + b"7," * 256 + b"7]}"]
)
async def test_what_is_no_batch_is_400(internal, body):
    answer = await internal.post("/internal/v1/operations", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_a_batch_beyond_the_limit_is_413_while_it_is_read(internal):
    assert (await internal.post("/internal/v1/operations", content=b" " * (4 * 1024 * 1024 + 1))).status_code == 413


async def test_two_services_do_not_see_or_void_each_others_holds(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    assert await ledger.context.holds.find("edge", 0, 10) == []
    answers = await ledger.context.settling.resolve([VoidRequest(id=placed.id, service="edge", reason="theirs", retryable=False)])
    assert isinstance(answers[0], HoldNotOpen)
    assert [hold.id for hold in await ledger.client.find_holds(0)] == [placed.id]


async def test_operations_on_one_hold_in_one_batch_go_in_their_order(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    capture = Capture(
        id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
    )
    void = Void(id=placed.id, reason="late")
    answers = await asyncio.gather(*(ledger.client._ask(one) for one in (capture, void, capture)), return_exceptions=True)
    assert (answers[0].status, answers[0].cost) == ("ok", 1_000_000)
    assert isinstance(answers[1], HoldNotOpen)
    assert (answers[2].status, answers[2].cost) == ("exists", 1_000_000)


async def test_while_the_database_is_away_callers_hear_so_in_time_and_afterwards_all_is_well(ledger, database):
    bearer = {"Authorization": f"Bearer {ledger.key}"}
    assert (await ledger.http.get("/api/core/health/")).status_code == 200
    await ledger.client.place_hold(ledger.hold())
    with psycopg.connect(database.admin_url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
        try:
            started = time.monotonic()
            with pytest.raises(LedgerUnavailable):
                await ledger.client.place_hold(ledger.hold())
            assert time.monotonic() - started < 3.5
            started = time.monotonic()
            health, wallet = await asyncio.gather(
                ledger.http.get("/api/core/health/"), ledger.http.get("/api/payments/wallet/", headers=bearer)
            )
            assert time.monotonic() - started < 3.5
        finally:
            admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
    assert (health.status_code, wallet.status_code) == (503, 503)
    assert health.headers["retry-after"] == wallet.headers["retry-after"] == "2"
    assert wallet.json()["code"] == "ledger_unavailable"
    async with asyncio.timeout(60):
        while (await ledger.http.get("/api/core/health/")).status_code != 200:
            await asyncio.sleep(0.05)
    assert (await ledger.client.place_hold(ledger.hold())).status == "ok"


async def test_connections_that_the_server_closed_cost_no_request(ledger, database):
    bearer = {"Authorization": f"Bearer {ledger.key}"}
    await asyncio.gather(*(ledger.http.get("/api/core/health/") for _ in range(6)))
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    answers = await asyncio.gather(*(ledger.http.get("/api/payments/wallet/", headers=bearer) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await ledger.client.place_hold(ledger.hold())).status == "ok"


async def test_a_client_without_a_ledger_says_so_at_once_and_closes_cleanly(tmp_path):
    client = LedgerClient(tmp_path / "none.sock", lambda: "t")
    await client.start()
    started = time.monotonic()
    answers = await asyncio.gather(*(client.introspect("x") for _ in range(300)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert time.monotonic() - started < 2
    await client.aclose()
    with pytest.raises(LedgerUnavailable):
        await client.introspect("x")


async def test_a_token_that_cannot_be_made_is_an_answer_not_a_hang(tmp_path):
    def broken():
        raise RuntimeError("no key")

    client = LedgerClient(tmp_path / "none.sock", broken)
    await client.start()
    async with asyncio.timeout(60):
        with pytest.raises(LedgerUnavailable):
            await client.introspect("x")
    await client.aclose()


async def test_who_waits_when_the_client_closes_is_told(tmp_path):
    arrived = asyncio.Event()

    async def swallow(reader, writer):
        arrived.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(swallow, tmp_path / "s.sock")
    client = LedgerClient(tmp_path / "s.sock", lambda: "t")
    await client.start()
    waiting = [asyncio.create_task(client.introspect("x")) for _ in range(3)]
    await arrived.wait()
    waiting.append(asyncio.create_task(client.introspect("y")))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await client.aclose()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    server.close()


async def test_a_silent_ledger_costs_a_caller_three_seconds_and_who_waits_behind_no_more(tmp_path):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "s.sock")
    client = LedgerClient(tmp_path / "s.sock", lambda: "t")
    await client.start()
    started = time.monotonic()
    first = asyncio.create_task(client.introspect("x"))
    while not client._task:
        await asyncio.sleep(0)
    answers = await asyncio.gather(first, *(client.introspect("y") for _ in range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert 2.5 < time.monotonic() - started < 3.6
    await client.aclose()
    server.close()


async def test_a_connection_that_breaks_is_repeated_with_the_same_ids(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    session, broken = ledger.client._session, []

    real = ledger.client._post_once

    async def breaks_after_the_first(body):
        said = await real(body)
        if not broken:
            import aiohttp

            broken.append(body)
            raise aiohttp.ServerDisconnectedError
        return said

    ledger.client._post_once = breaks_after_the_first
    again = await ledger.client.place_hold(ledger.hold())
    assert (again.status, len(broken)) == ("ok", 1)
    assert len(await ledger.client.find_holds(0)) == 2
    assert session is ledger.client._session
    assert placed.id != again.id


async def test_bootstrap_again_and_twice_at_once_changes_nothing(ledger, database):
    done = await asyncio.gather(*(bootstrap(ledger.context.settings, "First") for _ in range(2)))
    assert {(one.username, one.made_account, one.made_key) for one in done} == {("first", False, False)}
    with psycopg.connect(database.admin_url) as admin:
        counts = admin.execute(
            "SELECT (SELECT count(*) FROM ledger.txn WHERE kind = 1), (SELECT count(*) FROM ledger.person), (SELECT count(*) FROM ledger.price)"
        ).fetchone()
    assert counts == (1, 2, 1)
    assert (ledger.folder / "first_api_key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="no name"):
        await bootstrap(ledger.context.settings, "a b")


async def test_a_lost_key_file_gets_a_new_key(ledger):
    (ledger.folder / "first_api_key").unlink()
    assert (await bootstrap(ledger.context.settings, "first")).made_key
    key = (ledger.folder / "first_api_key").read_text()
    assert (await ledger.client.introspect(key)).username == "first"
    assert (await ledger.client.introspect(ledger.key)).username == "first"


async def test_a_price_is_a_new_version_and_old_holds_keep_theirs(ledger, database):
    before = await ledger.client.place_hold(ledger.hold())
    with psycopg.connect(database.ledger_url, autocommit=True) as service:
        service.execute("INSERT INTO ledger.price (model, flat, prompt_per_million, completion_per_million) VALUES ('m', 2000000, 0, 0)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("UPDATE ledger.price SET flat = 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("UPDATE ledger.api_key SET mac = 'x'")
    async with asyncio.timeout(CACHE_S * 3):
        while (after := await ledger.client.place_hold(ledger.hold())).held != 2_000_000:
            await ledger.client.void(Void(id=after.id, reason="test"))
            await asyncio.sleep(0.1)  # fewer than the key may send in a minute
    assert after.price.version > before.price.version
    fields = {
        "outcome": "succeeded",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "counted_by": "platform",
        "node": "node_local",
        "attempt": 1,
    }
    assert (await ledger.client.capture(Capture(id=before.id, **fields))).cost == 1_000_000
    assert (await ledger.client.place_hold(ledger.hold(model="other"))).held == 1_000_000


async def test_the_expiry_loop_releases_what_is_over_and_says_expired_afterwards(ledger, database):
    placed = [await ledger.client.place_hold(ledger.hold()) for _ in range(3)]
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.hold SET expires_at = clock_timestamp() - interval '1 second' WHERE id <> %s", [placed[0].id])
    await asyncio.gather(expire_holds(ledger.context), expire_holds(ledger.context))
    assert [hold.id for hold in await ledger.client.find_holds(0)] == [placed[0].id]
    assert (await ledger.client.void(Void(id=placed[1].id, reason="late"))).status == "exists"


async def test_a_revocation_cuts_a_look_up_that_is_on_its_way(ledger):
    keys = ledger.context.keys
    person = (await keys.verify(ledger.key)).person
    spare = await keys.create(person, "spare", ("jobs:read",), {}, Origin("test"))
    real, going = keys._load, asyncio.Event()

    async def slow(ids):
        rows = await real(ids)
        going.set()
        await asyncio.sleep(0.2)
        return rows

    keys._load = slow
    looking = asyncio.create_task(keys.verify_all([spare]))
    await going.wait()
    await keys.revoke(person, spare.split("_")[2], Origin("test"))
    assert type((await looking)[spare]).__name__ == "CredentialRevoked"


async def test_an_unknown_key_of_the_right_form_is_unknown(ledger):
    with pytest.raises(CredentialUnknown) as refused:
        await ledger.client.place_hold(PlaceHold(**(ledger.hold().model_dump() | {"credential": new_key(), "id": new_hold_id()})))
    assert str(refused.value) == "Given token not valid for any token type"
