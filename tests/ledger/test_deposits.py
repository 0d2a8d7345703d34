"""Deposits: what may be asked for, what stands when something breaks, what a page shows."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.api.asked_amounts import micros_asked
from ledger.errors import GatewayUnavailable
from ledger.payments.deposits import expire
from ledger.payments.gateway import Looked
from tests.ledger.paying import bearer, deposit, rows_of, send, transaction, wallet

REQUIRED, NO_NUMBER = "This field is required.", "A valid number is required."
TOO_LITTLE, TOO_MUCH = "Ensure this value is greater than or equal to 1.00.", "Ensure this value is less than or equal to 10000.00."
DECIMALS, AS_STRING = "Ensure that there are no more than 2 decimal places.", 'Send amounts as decimal strings, e.g. "25.00".'


async def test_a_deposit_is_pending_and_moves_no_credit(ledger):
    answer = await deposit(ledger)
    made = answer.json()
    assert answer.status_code == 201
    assert (made["amount"], made["currency"], made["type"], made["status"], made["user"]) == ("25.00", "USD", "DEPOSIT", "PENDING", "first")
    assert made["id"].startswith("dep_")
    assert made["checkout_url"].endswith(f"/api/payments/mock/pay/{made['id']}/")
    assert (await wallet(ledger))["balance"] == "5.00"
    assert await transaction(ledger, made["id"]) == made


async def test_a_confirmed_deposit_is_in_the_wallet_with_its_sentence(ledger):
    made = (await deposit(ledger)).json()
    assert (await send(ledger, made)).json() == {"status": "Transaction Processed"}
    found = await wallet(ledger)
    assert (found["balance"], found["withdrawable"]) == ("30.00", "0.00")
    assert (found["logs"][0]["kind"], found["logs"][0]["description"], found["logs"][0]["amount"]) == (
        "deposit",
        "Deposit via mock",
        "25.00",
    )
    assert (await transaction(ledger, made["id"]))["status"] == "SUCCESS"


WRONG_AMOUNTS = [
        (b"{}", REQUIRED), (b'{"amount": null}', REQUIRED), (b'{"amount": ""}', NO_NUMBER), (b'{"amount": "x"}', NO_NUMBER),
        (b'{"amount": true}', NO_NUMBER), (b'{"amount": NaN}', NO_NUMBER), (b'{"amount": 1e999}', NO_NUMBER), (b'{"amount": "NaN"}', NO_NUMBER),
        (b'{"amount": "1e3"}', NO_NUMBER), (b'{"amount": "1_000"}', NO_NUMBER), (b'{"amount": "25,00"}', NO_NUMBER), (b'{"amount": []}', NO_NUMBER),
        ('{"amount": "\u0661\u0662"}'.encode(), NO_NUMBER), (b'{"amount": 25.5}', AS_STRING), (b'{"amount": 25.0}', AS_STRING),
        (b'{"amount": "25.001"}', DECIMALS), (b'{"amount": "0.99"}', TOO_LITTLE), (b'{"amount": 0}', TOO_LITTLE), (b'{"amount": -25}', TOO_LITTLE),
        (b'{"amount": "-25.00"}', TOO_LITTLE), (b'{"amount": "10000.01"}', TOO_MUCH), (b'{"amount": 100000000000000000000000}', TOO_MUCH),
        (b'{"amount": "' + b"9" * 5000 + b'"}', TOO_MUCH),
    ]  # fmt: skip


async def test_each_wrong_amount_has_its_sentence_and_leaves_nothing(ledger, database):
    for body, text in WRONG_AMOUNTS:
        answer = await ledger.http.post(
            "/api/payments/deposit", content=body, headers=bearer(ledger.key) | {"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["errors"]) == (400, {"amount": [text]})
        assert rows_of(database, "SELECT count(*) FROM ledger.payment") == [(0,)]


WRONG_FIELDS = [
    ({"bribe": 1}, "bribe", "Unknown field."),
    ({"type": "WITHDRAWAL"}, "type", "Send withdrawals to `/api/payments/withdraw/`."),
    ({"type": "GIFT"}, "type", '"GIFT" is not a valid choice.'),
    ({"gateway_id": "paypal"}, "gateway_id", '"paypal" is not a valid choice.'),
    ({"currency": "EUR"}, "currency", '"EUR" is not a valid choice.'),
]


async def test_other_wrong_fields_are_named(ledger):
    for more, field, text in WRONG_FIELDS:
        answer = await deposit(ledger, **more)
        assert (answer.status_code, answer.json()["errors"]) == (400, {field: [text]})


AT_THE_BOUNDS = ["1", "1.0", "1.00", "10000.00", "00025.50", 1, 10000]


async def test_amounts_at_the_bounds_are_taken(ledger):
    for amount in AT_THE_BOUNDS:
        answer = await deposit(ledger, amount)
        assert (answer.status_code, float(answer.json()["amount"])) == (201, float(amount))


async def test_whatever_is_sent_as_an_amount_is_refused_or_within_the_bounds(ledger, database):
    taken = {}

    async def ask(value):
        answer = await deposit(ledger, value)
        assert answer.status_code in {201, 400}, answer.text
        if answer.status_code == 201:
            taken[answer.json()["id"]] = answer.json()["amount"]
        else:
            assert list(answer.json()["errors"]) == ["amount"]

    values = []
    numbers = st.decimals(allow_nan=True, allow_infinity=True).map(str) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    near = st.integers(-200, 1_000_200).map(lambda cents: f"{cents / 100:.2f}")

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(numbers | near | st.text(max_size=20) | st.booleans() | st.lists(st.integers(), max_size=2))
    def gather(value):
        values.append(value)

    await asyncio.to_thread(gather)
    for value in values:
        await ask(value)
    stored = rows_of(database, "SELECT min(amount), max(amount), count(*) FROM ledger.payment")[0]
    assert stored[2] == len(taken) > 10
    assert 1_000_000 <= stored[0] <= stored[1] <= 10_000_000_000
    assert (await wallet(ledger))["balance"] == "5.00"


@given(st.integers(-(10**12), 10**12))
def test_cents_are_read_exactly(cents):
    sign = "-" if cents < 0 else ""
    assert micros_asked(f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}", decimals=2) == cents * 10_000


async def test_a_repeat_with_the_same_key_answers_the_same_and_makes_nothing(ledger, idempotency_key):
    first = await deposit(ledger, key=idempotency_key)
    await send(ledger, first.json())
    again = await deposit(ledger, key=idempotency_key)
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert "idempotent-replayed" not in first.headers
    other = await deposit(ledger, "26.00", key=idempotency_key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_ten_at_once_with_one_key_make_one_deposit(ledger, database, idempotency_key):
    answers = await asyncio.gather(*(deposit(ledger, key=idempotency_key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert rows_of(database, "SELECT count(*) FROM ledger.payment") == [(1,)]


async def test_a_repeat_completes_what_a_dead_gateway_or_a_crash_left_undone(ledger, database, idempotency_key, monkeypatch):
    mock = ledger.context.payments.gateways["mock"]

    async def dead(payment):
        raise GatewayUnavailable("mock")

    with monkeypatch.context() as patch:
        patch.setattr(mock, "open_checkout", dead)
        broken = await deposit(ledger, key=idempotency_key)
    assert (broken.status_code, broken.json()["code"], broken.headers["retry-after"]) == (503, "gateway_unavailable", "5")
    assert rows_of(database, "SELECT status, checkout_url FROM ledger.payment") == [("PENDING", None)]
    again = await deposit(ledger, key=idempotency_key)
    assert (again.status_code, again.json()["checkout_url"] is not None) == (201, True)
    assert rows_of(database, "SELECT count(*), count(checkout_url) FROM ledger.payment") == [(1, 1)]


async def test_no_transaction_is_open_while_the_checkout_opens(ledger, database, monkeypatch):
    seen = []

    async def look(payment):
        seen.extend(
            rows_of(database, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%%'")
        )
        raise GatewayUnavailable("mock")

    monkeypatch.setattr(ledger.context.payments.gateways["mock"], "open_checkout", look)
    assert (await deposit(ledger)).status_code == 503
    assert seen == []


async def test_the_list_is_newest_first_by_page_and_ones_own(ledger, database):
    made = [(await deposit(ledger, n)).json()["id"] for n in range(1, 6)]
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await ledger.http.get("/api/payments/transactions/", params=query, headers=bearer(ledger.key))).json()
        seen += [row["id"] for row in page["results"]]
        cursor = page["next"]
    assert (seen, cursor) == (made[::-1], None)
    bad = await ledger.http.get("/api/payments/transactions", params={"cursor": "WzEsMl0"}, headers=bearer(ledger.key))
    assert (bad.status_code, list(bad.json()["errors"])) == (400, ["cursor"])
    other = rows_of(database, "SELECT id FROM ledger.person WHERE username = 'operator'")[0][0]
    rows_of(database, "UPDATE ledger.payment SET person_id = %s", other)
    assert (await ledger.http.get(f"/api/payments/transactions/{made[0]}/", headers=bearer(ledger.key))).status_code == 404
    assert (await ledger.http.get("/api/payments/transactions/dep_x/", headers=bearer(ledger.key))).status_code == 404


async def test_a_key_needs_the_scope_to_pay(ledger):
    made = await ledger.http.post("/api/core/keys/", json={"name": "w", "scopes": ["wallet:read"]}, headers=bearer(ledger.key))
    for path in ("deposit", "withdraw"):
        refused = await ledger.http.post(f"/api/payments/{path}/", json={"amount": "5"}, headers=bearer(made.json()["key"]))
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert (await ledger.http.get("/api/payments/transactions/", headers=bearer(made.json()["key"]))).status_code == 200


async def test_what_nobody_confirms_expires_and_money_that_comes_later_is_credited(ledger, database):
    old, young = (await deposit(ledger)).json(), (await deposit(ledger)).json()
    rows_of(
        database,
        "UPDATE ledger.payment SET created_at = created_at - interval '25 hours' WHERE id = (SELECT min(id::text)::uuid FROM ledger.payment)",
    )
    assert await expire(ledger.context.payments) == 1
    assert [(await transaction(ledger, one["id"]))["status"] for one in (old, young)] == ["FAILED", "PENDING"]
    assert (await send(ledger, old)).status_code == 200
    assert ((await transaction(ledger, old["id"]))["status"], (await wallet(ledger))["balance"]) == ("SUCCESS", "30.00")


async def test_a_deposit_is_not_given_up_while_its_gateway_has_the_money_or_is_silent(ledger, database, monkeypatch):
    made = (await deposit(ledger)).json()
    rows_of(database, "UPDATE ledger.payment SET created_at = created_at - interval '25 hours'")
    mock = ledger.context.payments.gateways["mock"]

    async def dead(gateway_id, event):
        raise GatewayUnavailable("mock")

    async def paid(gateway_id, event):
        return Looked(state="succeeded", amount=25_000_000, currency="USD")

    monkeypatch.setattr(mock, "look_up", dead)
    assert await expire(ledger.context.payments) == 0
    assert (await transaction(ledger, made["id"]))["status"] == "PENDING"
    monkeypatch.setattr(mock, "look_up", paid)
    assert await expire(ledger.context.payments) == 1
    assert ((await transaction(ledger, made["id"]))["status"], (await wallet(ledger))["balance"]) == ("SUCCESS", "30.00")


async def test_every_step_is_in_the_audit_log(ledger, database):
    made = (await deposit(ledger)).json()
    await send(ledger, made)
    assert rows_of(
        database, "SELECT action, split_part(actor, '_', 1) FROM ledger.audit_log WHERE target = %s ORDER BY seq", made["id"]
    ) == [
        ("deposit_requested", "user"),
        ("deposit_succeeded", "gateway:mock"),
    ]


async def test_the_mock_page_pays_without_a_script(ledger):
    made = (await deposit(ledger)).json()
    path = made["checkout_url"].removeprefix(ledger.context.settings.site_url)
    page = await ledger.http.get(path)
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "unsafe" not in page.headers["content-security-policy"]
    pressed = await ledger.http.post(path, content="outcome=succeeded", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (pressed.status_code, pressed.headers["location"]) == (303, f"/dashboard/wallet?deposit={made['id']}&outcome=paid")
    again = await ledger.http.post(path, content="outcome=succeeded", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert again.status_code == 303
    assert (await wallet(ledger))["balance"] == "30.00"
    ended = (await ledger.http.get(path)).text
    assert "SUCCESS" in ended
    assert f"/dashboard/wallet?deposit={made['id']}&amp;outcome=paid" in ended
