"""The ledger as its callers see it: over its socket and its public port."""

import asyncio

import pytest

from ledger.client import (
    Capture,
    CredentialMistyped,
    CredentialRevoked,
    CredentialUnknown,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    NotFound,
    RateLimited,
    Void,
    new_hold_id,
)
from ledger.money.requests import CaptureRequest, VoidRequest


def capture(hold, *, outcome="succeeded", completion_tokens=5, node="node_local", attempt=1, prompt_tokens=10):
    return Capture(
        id=hold.id,
        outcome=outcome,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        counted_by="platform",
        node=node,
        attempt=attempt,
    )


async def wallet(ledger, **query):
    answer = await ledger.http.get("/api/payments/wallet/", headers={"Authorization": f"Bearer {ledger.key}"}, params=query)
    assert answer.status_code == 200
    return answer.json()


async def test_a_hold_and_its_capture_move_the_price_to_the_provider(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    assert (placed.status, placed.held, placed.caller.username) == ("ok", 1_000_000, "first")
    during = await wallet(ledger)
    assert (during["balance"], during["held"], during["total"]) == ("4.00", "1.00", "5.00")
    assert [hold["amount"] for hold in during["holds"]] == ["1.00"]
    assert (await ledger.client.capture(capture(placed))).cost == 1_000_000
    after = await wallet(ledger)
    assert (after["balance"], after["held"], after["total"]) == ("4.00", "0.00", "4.00")
    assert [(row["kind"], row["amount"], row["balance_after"]) for row in after["logs"]] == [
        ("job_charge", "-1.00", "4.00"),
        ("welcome", "5.00", "5.00"),
    ]


async def test_the_same_capture_again_answers_as_the_first_time_and_another_conflicts(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    first = await ledger.client.capture(capture(placed))
    again = await ledger.client.capture(capture(placed))
    assert (first.status, again.status, again.cost) == ("ok", "exists", first.cost)
    with pytest.raises(HoldNotOpen) as refused:
        await ledger.client.capture(capture(placed, completion_tokens=6))
    assert refused.value.state == "captured"
    with pytest.raises(HoldNotOpen):
        await ledger.client.void(Void(id=placed.id, reason="late"))


async def test_a_void_returns_everything_and_ends_the_hold(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    assert (await ledger.client.void(Void(id=placed.id, reason="no node"))).status == "ok"
    assert (await ledger.client.void(Void(id=placed.id, reason="no node"))).status == "exists"
    assert (await wallet(ledger))["balance"] == "5.00"
    with pytest.raises(HoldNotOpen) as refused:
        await ledger.client.capture(capture(placed))
    assert refused.value.state == "voided"


async def test_an_incomplete_job_pays_its_tokens_without_the_flat_tariff(ledger_with):
    ledger = await ledger_with(welcome_credits="5.00", prompt_price="1000.00", completion_price="2000.00")
    placed = await ledger.client.place_hold(ledger.hold())
    assert placed.held == 1_000_000 + 10 * 1000 + 100 * 2000
    assert (await ledger.client.capture(capture(placed, outcome="incomplete"))).cost == 10 * 1000 + 5 * 2000
    placed = await ledger.client.place_hold(ledger.hold())
    assert (await ledger.client.capture(capture(placed, outcome="canceled"))).cost == 1_000_000 + 10 * 1000 + 5 * 2000


async def test_a_capture_is_never_above_its_hold(ledger_with):
    ledger = await ledger_with(completion_price="2000.00")
    placed = await ledger.client.place_hold(ledger.hold())
    assert (await ledger.client.capture(capture(placed, completion_tokens=1_000_000))).cost == placed.held


async def test_twenty_holds_at_once_against_five_credits_are_five(ledger):
    answers = await asyncio.gather(*(ledger.client.place_hold(ledger.hold()) for _ in range(20)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, InsufficientFunds)]
    assert len(refused) == 15
    assert {(one.available_micros, one.required_micros) for one in refused} == {(0, 1_000_000)}
    assert (await wallet(ledger))["balance"] == "0.00"


async def test_open_jobs_are_limited_in_the_same_transaction(ledger_with):
    ledger = await ledger_with(open_jobs=2)
    answers = await asyncio.gather(*(ledger.client.place_hold(ledger.hold()) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 3


async def test_the_fee_is_split_without_losing_a_micro_credit(ledger_with, database):
    ledger = await ledger_with(job_price="0.000333", platform_fee_percent=10)
    placed = await ledger.client.place_hold(ledger.hold())
    assert (await ledger.client.capture(capture(placed))).cost == 333
    import psycopg

    with psycopg.connect(database.admin_url) as admin:
        shares = dict(
            admin.execute(
                "SELECT CASE WHEN address LIKE 'consumer%' THEN 'provider' ELSE address END, posted FROM ledger.account "
                "WHERE unit = 1 AND posted BETWEEN 1 AND 333"
            ).fetchall()
        )
    assert shares == {"provider": 299, "platform:fees": 34}


async def test_three_kinds_of_wrong_key_get_three_answers(ledger):
    flipped = ledger.key[:-1] + ("0" if ledger.key[-1] != "0" else "1")
    with pytest.raises(CredentialMistyped):
        await ledger.client.place_hold(ledger.hold(key=flipped))
    with pytest.raises(CredentialUnknown):
        await ledger.client.place_hold(ledger.hold(key="sk-something"))
    bearer = {"Authorization": f"Bearer {ledger.key}"}
    made = (await ledger.http.post("/api/core/keys/", json={"name": "spare"}, headers=bearer)).json()
    assert (await ledger.client.introspect(made["key"])).username == "first"
    assert (await ledger.http.post(f"/api/core/keys/{made['id']}/revoke/", headers=bearer)).status_code == 204
    with pytest.raises(CredentialRevoked):
        await ledger.client.place_hold(ledger.hold(key=made["key"]))
    listed = (await ledger.http.get("/api/core/keys/", headers=bearer)).json()["results"]
    assert [key["revoked_at"] is None for key in listed] == [False, True]
    assert ledger.key not in str(listed)


async def test_an_idempotency_key_places_one_hold_and_frees_itself_after_our_fault(ledger, idempotency_key):
    asked = {"idempotency_key": idempotency_key, "request_digest": "aa"}
    answers = await asyncio.gather(*(ledger.client.place_hold(ledger.hold(**asked)) for _ in range(5)))
    assert {answer.id for answer in answers} == {answers[0].id}
    assert sorted(answer.status for answer in answers) == ["exists"] * 4 + ["ok"]
    with pytest.raises(IdempotencyConflict):
        await ledger.client.place_hold(ledger.hold(idempotency_key=idempotency_key, request_digest="bb"))
    await ledger.client.void(Void(id=answers[0].id, reason="node lost", retryable=True))
    retried = await ledger.client.place_hold(ledger.hold(**asked))
    assert retried.status == "ok"
    assert retried.id != answers[0].id


async def test_a_void_that_is_our_fault_frees_its_key_and_another_does_not(ledger, idempotency_key):
    asked = {"idempotency_key": idempotency_key, "request_digest": "aa"}
    placed = await ledger.client.place_hold(ledger.hold(**asked))
    await ledger.client.void(Void(id=placed.id, reason="the request was wrong"))
    again = await ledger.client.place_hold(ledger.hold(**asked))
    assert (again.status, again.id) == ("exists", placed.id)


async def test_a_service_resolves_no_hold_of_another_service(ledger, database):
    placed = await ledger.client.place_hold(ledger.hold())
    fields = {
        "outcome": "succeeded",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "counted_by": "platform",
        "node": "node_local",
        "attempt": 1,
    }
    others = [
        VoidRequest(id=placed.id, service="other", reason="x", retryable=False),
        CaptureRequest(id=placed.id, service="other", **fields),
    ]
    answers = await ledger.context.settling.resolve(others)
    assert [str(answer.state) for answer in answers] == ["unknown", "unknown"]
    assert [hold.id for hold in await ledger.client.find_holds(0)] == [placed.id]


async def test_an_unknown_node_is_paid_nothing(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    with pytest.raises(NotFound):
        await ledger.client.capture(capture(placed, node="node_nobody"))
    await ledger.client.void(Void(id=placed.id, reason="test"))


async def test_a_service_finds_its_own_old_holds(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    assert [hold.id for hold in await ledger.client.find_holds(0)] == [placed.id]
    assert await ledger.client.find_holds(30) == ()


async def test_a_hold_that_is_over_expires_by_the_databases_clock(ledger, database):
    import psycopg

    placed = await ledger.client.place_hold(ledger.hold())
    assert await ledger.context.settling.expire() == 0
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.hold SET expires_at = clock_timestamp() - interval '1 second'")
    assert await ledger.context.settling.expire() == 1
    with pytest.raises(HoldNotOpen) as refused:
        await ledger.client.capture(capture(placed))
    assert refused.value.state == "expired"


async def test_without_a_service_token_nothing_is_done(ledger):
    import httpx2

    transport = httpx2.AsyncHTTPTransport(uds=str(ledger.folder / "s" / "internal.sock"))
    async with httpx2.AsyncClient(transport=transport) as http:
        for authorization in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {ledger.key}"}):
            answer = await http.post("http://ledger/internal/v1/operations", json={"operations": []}, headers=authorization)
            assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"name": "x", "extra": 1}, "extra", "Unknown field."),
        ({}, "name", "This field is required."),
        ({"name": 1}, "name", "Not a valid string."),
    ],
)
async def test_wrong_bodies_are_400_and_name_the_field(ledger, body, field, text):
    answer = await ledger.http.post("/api/core/keys/", json=body, headers={"Authorization": f"Bearer {ledger.key}"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == {field: [text]}


async def test_a_body_over_the_limit_is_413(ledger):
    answer = await ledger.http.post("/api/core/keys/", content=b"x" * (1024 * 1024 + 1), headers={"Authorization": f"Bearer {ledger.key}"})
    assert answer.status_code == 413


async def test_the_wallet_needs_a_key_and_says_so(ledger):
    answer = await ledger.http.get("/api/payments/wallet/")
    assert (answer.status_code, answer.json()["detail"]) == (401, "Authentication credentials were not provided.")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_log_pages_without_repeating_or_hiding_a_row(ledger):
    for _ in range(4):
        await ledger.client.capture(capture(await ledger.client.place_hold(ledger.hold())))
    first = await wallet(ledger, limit=2)
    second = await wallet(ledger, limit=2, cursor=first["next"])
    third = await wallet(ledger, limit=2, cursor=second["next"])
    ids = [row["id"] for page in (first, second, third) for row in page["logs"]]
    assert len(ids) == len(set(ids)) == 5
    assert third["next"] is None


async def test_a_bad_operation_costs_its_neighbors_nothing(ledger):
    answers = await asyncio.gather(
        ledger.client.place_hold(ledger.hold(key="nonsense")),
        ledger.client.place_hold(ledger.hold()),
        ledger.client.void(Void(id=new_hold_id(), reason="unknown")),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == ["CredentialUnknown", "HoldPlaced", "HoldNotOpen"]
