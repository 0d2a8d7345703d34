"""The ledger's public port: wallet, keys, errors, pages, their description."""

import asyncio
import re

import psycopg
import pytest

from ledger.client import Capture, Void
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

MONEY = re.compile(r"-?\d+\.\d{2,6}")


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


async def wallet(ledger, **query):
    answer = await ledger.http.get("/api/payments/wallet/", headers=bearer(ledger.key), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def served(ledger, **changes):
    placed = await ledger.client.place_hold(ledger.hold(**changes))
    fields = {
        "outcome": "succeeded",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "counted_by": "platform",
        "node": "node_local",
        "attempt": 1,
    }
    await ledger.client.capture(Capture(id=placed.id, **fields))
    return placed.id


async def fund_paid(ledger, database, micros):
    """Put deposited credits beside the promotional ones."""
    from ledger.db import connect

    person = (await ledger.context.keys.verify(ledger.key)).person
    connection = await connect(database.pay_url, name="test")
    ids = await accounts.open_accounts(connection, ["world:test", accounts.paid(person)])
    legs = ((ids["world:test"], -micros), (ids[accounts.paid(person)], micros))
    assert await apply(connection, [Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=legs)]) == [Status.OK]
    await connection.close()
    return person


@pytest.mark.parametrize(
    ("header", "code", "detail"),
    [
        (None, "not_authenticated", "Authentication credentials were not provided."),
        ("Bearer ", "not_authenticated", "Authentication credentials were not provided."),
        ("Basic abc", "not_authenticated", "Authentication credentials were not provided."),
        ("Bearer abc", "token_not_valid", "Given token not valid for any token type"),
        ("mistyped", "key_mistyped", "This API key is mistyped or cut off: its checksum does not fit. Copy the whole key again."),
        ("revoked", "key_revoked", "This API key has been revoked. Use another key, or make one with `gfe keys create`."),
    ],
)
async def test_each_kind_of_missing_credential_has_its_sentence(ledger, header, code, detail):
    if header == "mistyped":
        header = f"Bearer {ledger.key[:30]}{'x' if ledger.key[30] != 'x' else 'y'}{ledger.key[31:]}"
    elif header == "revoked":
        spare = (await ledger.http.post("/api/core/keys/", json={"name": "spare"}, headers=bearer(ledger.key))).json()
        header = f"Bearer {spare['key']}"
        assert (await ledger.http.get("/api/payments/wallet/", headers={"Authorization": header})).status_code == 200
        assert (await ledger.http.delete(f"/api/core/keys/{spare['id']}/", headers=bearer(ledger.key))).status_code == 204
    answer = await ledger.http.get("/api/payments/wallet/", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (answer.json()["code"], answer.json()["detail"], answer.json()["error"]) == (code, detail, detail)


async def test_a_scope_that_is_missing_is_403_and_cannot_be_given_on(ledger):
    made = await ledger.http.post("/api/core/keys/", json={"name": "w", "scopes": ["keys:write", "keys:write"]}, headers=bearer(ledger.key))
    narrow = made.json()
    assert (made.status_code, narrow["scopes"]) == (201, ["keys:write"])
    refused = await ledger.http.get("/api/payments/wallet/", headers=bearer(narrow["key"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    wider = await ledger.http.post("/api/core/keys/", json={"name": "x", "scopes": ["jobs:write"]}, headers=bearer(narrow["key"]))
    assert wider.status_code == 403
    inherited = await ledger.http.post("/api/core/keys/", json={"name": "x"}, headers=bearer(narrow["key"]))
    assert inherited.json()["scopes"] == ["keys:write"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "scopes": "jobs:read"}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
    ],
)
async def test_wrong_keys_are_400_and_none_is_made(ledger, body, field):
    answer = await ledger.http.post("/api/core/keys", json=body, headers=bearer(ledger.key))
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert len((await ledger.http.get("/api/core/keys/", headers=bearer(ledger.key))).json()["results"]) == 1


async def test_broken_json_is_400(ledger):
    answer = await ledger.http.post("/api/core/keys/", content=b"{", headers=bearer(ledger.key) | {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body is not valid JSON.")


async def test_somebody_elses_key_cannot_be_revoked(ledger, database):
    from ledger.db import connect
    from ledger.identity.api_keys import insert_key, new_key
    from ledger.identity.people import ALL_SCOPES, register

    connection = await connect(database.ledger_url, name="test")
    other, key = await register(connection, "other", role="USER", welcome=0, open_jobs=1), new_key()
    pepper = bytes.fromhex(ledger.context.settings.secret("api_key_pepper"))
    assert await insert_key(connection, key, pepper, other.id, "k", ALL_SCOPES)
    await connection.close()
    id_ = key.split("_")[2]
    answer = await ledger.http.post(f"/api/core/keys/{id_}/revoke/", headers=bearer(ledger.key))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await ledger.client.introspect(key)).username == "other"


async def test_keys_come_by_page(ledger):
    for n in range(4):
        await ledger.http.post("/api/core/keys/", json={"name": f"k{n}"}, headers=bearer(ledger.key))
    names, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await ledger.http.get("/api/core/keys/", params=query, headers=bearer(ledger.key))).json()
        names += [key["name"] for key in page["results"]]
        cursor = page["next"]
    assert names == ["k3", "k2", "k1", "k0", "first key"]
    assert cursor is None


async def test_last_use_is_noted_to_the_minute(ledger):
    await wallet(ledger)
    await ledger.context.keys.note_uses()
    listed = (await ledger.http.get("/api/core/keys/", headers=bearer(ledger.key))).json()["results"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00\+00:00", listed[0]["last_used_at"])


async def test_the_wallet_adds_up_in_every_look_while_jobs_go_on(ledger_with):
    ledger = await ledger_with(welcome_credits="100.00", job_price="0.70")
    looks = rounds = 0

    async def look():
        nonlocal looks
        while not working.done():
            found = await wallet(ledger)
            amounts = {name: round(float(found[name]) * 10**6) for name in ("balance", "held", "total")}
            assert amounts["balance"] + amounts["held"] == amounts["total"]
            assert sum(round(float(hold["amount"]) * 10**6) for hold in found["holds"]) == amounts["held"]
            assert found["logs"][0]["balance_after"] == found["total"]
            looks += 1

    async def work():
        nonlocal rounds
        while rounds < 5 or looks < 3:
            rounds += 1
            await asyncio.gather(*(served(ledger) for _ in range(5)))

    working = asyncio.create_task(work())
    await asyncio.gather(look(), working)
    assert (await wallet(ledger))["total"] == f"{100 - 3.5 * rounds:.2f}"


async def test_promotional_credits_are_spent_first_and_each_row_tells_the_balance_after_it(ledger, database):
    await fund_paid(ledger, database, 3_000_000)
    for _ in range(7):
        await served(ledger)
    found = await wallet(ledger, limit=100)
    assert (found["total"], found["withdrawable"]) == ("1.00", "0.00")
    assert [row["balance_after"] for row in found["logs"]] == ["1.00", "2.00", "3.00", "4.00", "5.00", "6.00", "7.00", "8.00", "5.00"]
    assert [row["kind"] for row in found["logs"]] == ["job_charge"] * 7 + ["deposit", "welcome"]
    with psycopg.connect(database.admin_url) as admin:
        earned = dict(
            admin.execute(
                "SELECT split_part(address, ':', 3), posted FROM ledger.account a JOIN ledger.person p ON p.username = 'operator' "
                "AND a.address LIKE '%%:' || p.id || ':%%' WHERE posted > 0"
            ).fetchall()
        )
    assert earned == {"promo": 5_000_000, "pending": 2_000_000}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_any_size_are_the_same_log_though_jobs_share_their_moment(ledger_with, database, limit):
    ledger = await ledger_with(job_price="0.30")
    await fund_paid(ledger, database, 5_000_000)
    await asyncio.gather(*(served(ledger) for _ in range(9)))  # batched: many transactions of one time
    whole = (await wallet(ledger, limit=100))["logs"]
    rows, cursor = [], None
    for _ in range(30):
        page = await wallet(ledger, limit=limit, **({"cursor": cursor} if cursor else {}))
        rows += page["logs"]
        cursor = page["next"]
        if cursor is None:
            break
        await served(ledger)  # what is added meanwhile neither repeats nor hides a row
    assert rows == whole
    assert len(rows) == 11


async def test_the_log_can_be_narrowed_to_a_kind(ledger, database):
    await fund_paid(ledger, database, 1_000_000)
    for _ in range(3):
        await served(ledger)
    assert [row["amount"] for row in (await wallet(ledger, kind="welcome", limit=1))["logs"]] == ["5.00"]
    assert [row["amount"] for row in (await wallet(ledger, kind="deposit", limit=1))["logs"]] == ["1.00"]
    first = await wallet(ledger, kind="job_charge", limit=2)
    rest = await wallet(ledger, kind="job_charge", limit=2, cursor=first["next"])
    assert len({row["job_id"] for row in first["logs"] + rest["logs"]}) == 3
    assert rest["next"] is None
    assert (await wallet(ledger, kind="refund"))["logs"] == []


async def test_a_providers_log_shows_earnings(ledger, database):
    from ledger.money.statements import wallet as read

    await fund_paid(ledger, database, 2_000_000)
    for _ in range(6):
        await served(ledger)
    with psycopg.connect(database.admin_url) as admin:
        operator = admin.execute("SELECT id FROM ledger.person WHERE username = 'operator'").fetchone()[0]
    found = await read(ledger.context.database, operator, limit=10)
    assert {entry.kind for entry in found.log} == {"job_earning"}
    assert [entry.balance_after for entry in found.log] == [1_000_000, 5_000_000, 4_000_000, 3_000_000, 2_000_000, 1_000_000]
    assert found.log[0].description.startswith("Earnings for job job_")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"limit": "x"}, "limit"), ({"kind": "bribe"}, "kind"), ({"cursor": "x"}, "cursor"),
        ({"cursor": "WzEsMl0"}, "cursor"), ({"cursor": "W1sxLDIsMyw0XSw1XQ"}, "cursor"), ({"cursor": "é"}, "cursor"), ({"cursor": "W1sxXSxudWxsXQ"}, "cursor"),
    ],
)  # fmt: skip
async def test_bad_pages_are_400_and_name_the_parameter(ledger, query, field):
    answer = await ledger.http.get("/api/payments/wallet/", params=query, headers=bearer(ledger.key))
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


async def test_both_spellings_of_a_path_are_served_and_no_redirect_is(ledger):
    for path in ("/api/core/health", "/api/payments/wallet", "/api/core/keys"):
        answers = [await ledger.http.get(path + slash, headers=bearer(ledger.key)) for slash in ("", "/")]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].headers["cache-control"] == "no-store"


async def test_unknown_paths_and_methods_are_problems(ledger):
    missing = await ledger.http.get("/api/core/nothing/")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await ledger.http.put("/api/core/health/")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "GET")


@pytest.mark.parametrize("path", ["/status", "/reference", "/docs"])
async def test_pages_load_nothing_from_elsewhere(ledger, path):
    page = await ledger.http.get(path)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert re.search(r'(src|link)[^>]*="?https?:', page.text.replace("<a href", "")) is None
    assert "GET /api/payments/wallet/" in (await ledger.http.get("/reference")).text


async def test_the_description_declares_money_as_strings_and_every_route_with_its_errors(ledger):
    described = (await ledger.http.get("/openapi.json")).json()
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert not any("422" in operation["responses"] for operation in operations)
    assert all("401" in operation["responses"] for operation in operations if "public" not in operation.get("tags", ()))
    wallet_of = described["components"]["schemas"]["WalletAnswer"]["properties"]
    for name in ("balance", "held", "total", "withdrawable"):
        assert (wallet_of[name]["type"], wallet_of[name]["pattern"]) == ("string", r"^-?\d+\.\d{2,6}$")
    found = await wallet(ledger)
    assert all(MONEY.fullmatch(found[name]) for name in ("balance", "held", "total", "withdrawable"))


async def test_a_defect_is_a_problem_without_details(ledger):
    async def broken(*_):
        raise ZeroDivisionError("secret detail")

    ledger.context.credentials.verify = broken
    transport = type(ledger.http._transport)(ledger.http._transport.app, raise_app_exceptions=False)
    ledger.http._transport = transport
    answer = await ledger.http.get("/api/payments/wallet/", headers=bearer(ledger.key))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


async def test_a_void_leaves_no_row_in_the_log(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    await ledger.client.void(Void(id=placed.id, reason="test"))
    found = await wallet(ledger)
    assert ([row["kind"] for row in found["logs"]], found["held"]) == (["welcome"], "0.00")
