"""Several nodes serve one job: one charge, each owner paid for its own tokens. And when the platform broke it: nobody charged, who served it paid."""

import asyncio

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.client import Capture, HoldNotOpen, NotFound, OwnNode, Served, Share, Void
from ledger.pricing import Earner, capture_legs, parts_of

CREDIT = 1_000_000
PRICES = {"job_price": "1.00", "completion_price": "10000.00", "platform_fee_percent": 10, "welcome_credits": "100.00"}


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(**PRICES)


def owners(database, **nodes):
    """Register each node for an owner of its own; answers the owners' ids."""
    with psycopg.connect(database.admin_url) as admin:
        found = {}
        for name in nodes:
            (person,) = admin.execute(
                "INSERT INTO ledger.person (id, username, name_key, role) VALUES (gen_random_uuid(), %s, %s, 'PROVIDER') RETURNING id",
                [name, name],
            ).fetchone()
            admin.execute("INSERT INTO ledger.node (id, person_id, name, kind) VALUES (%s, %s, %s, 'edge')", [f"node_{name}", person, name])
            found[name] = person
        return found


def earned(database, person):
    with psycopg.connect(database.admin_url) as admin:
        rows = admin.execute("SELECT posted FROM ledger.account WHERE address LIKE %s AND unit = 1", [f"%{person}%"]).fetchall()
    return sum(row[0] for row in rows)


def capture(id_, **changes):
    fields = {
        "outcome": "succeeded",
        "prompt_tokens": 0,
        "completion_tokens": 100,
        "counted_by": "platform",
        "node": "node_local",
        "attempt": 2,
    }
    return Capture(id=id_, **(fields | changes))


async def test_each_owner_is_paid_for_its_tokens_and_the_consumer_is_charged_once(database, ledger):
    people = owners(database, ada=1, bob=1)
    placed = await ledger.client.place_hold(ledger.hold(prompt_tokens=0))
    request = capture(placed.id, node="node_bob", shares=(Share(node="node_ada", attempt=1, tokens=25),))
    assert (await ledger.client.capture(request)).cost == 2 * CREDIT
    assert (earned(database, people["ada"]), earned(database, people["bob"])) == (450_000, 1_350_000)
    again = await ledger.client.capture(request)
    assert (again.status, again.cost) == ("exists", 2 * CREDIT)
    with pytest.raises(HoldNotOpen):
        await ledger.client.capture(request.model_copy(update={"shares": ()}))
    assert (earned(database, people["ada"]), earned(database, people["bob"])) == (450_000, 1_350_000)


async def test_an_owner_of_both_nodes_is_paid_in_one_leg(database, ledger):
    people = owners(database, ada=1)
    placed = await ledger.client.place_hold(ledger.hold(prompt_tokens=0))
    await ledger.client.capture(capture(placed.id, node="node_ada", shares=(Share(node="node_ada", attempt=1, tokens=99),)))
    assert earned(database, people["ada"]) == 1_800_000


async def test_a_share_of_a_node_that_nobody_knows_pays_nobody(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    with pytest.raises(NotFound):
        await ledger.client.capture(capture(placed.id, shares=(Share(node="node_nobody", attempt=1, tokens=1),)))
    assert (await ledger.client.void(Void(id=placed.id, reason="test"))).cost == 0


async def test_a_share_of_the_consumers_own_node_pays_nobody(database, ledger):
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            "INSERT INTO ledger.node (id, person_id, name, kind) SELECT 'node_own', id, 'own', 'edge' FROM ledger.person WHERE username = 'first'"
        )
    placed = await ledger.client.place_hold(ledger.hold())
    with pytest.raises(OwnNode):
        await ledger.client.capture(capture(placed.id, shares=(Share(node="node_own", attempt=1, tokens=1),)))
    await ledger.client.void(Void(id=placed.id, reason="test"))


async def test_when_the_platform_broke_a_job_it_pays_who_served_it(database, ledger):
    people = owners(database, ada=1)
    placed = await ledger.client.place_hold(ledger.hold())
    lost = Void(id=placed.id, reason="lost", served=Served(node="node_ada", attempt=1, prompt_tokens=5, completion_tokens=50))
    answers = await asyncio.gather(*(ledger.client.void(lost) for _ in range(5)))
    assert {answer.cost for answer in answers} == {0}
    assert earned(database, people["ada"]) == 450_000, "the provider's part of 50 tokens, without the flat tariff"
    wallet = (await ledger.http.get("/api/payments/wallet/", headers={"Authorization": f"Bearer {ledger.key}"})).json()
    assert (wallet["balance"], wallet["held"]) == ("100.00", "0.00")


async def test_goodwill_never_pays_more_than_was_held(database, ledger):
    people = owners(database, ada=1)
    placed = await ledger.client.place_hold(ledger.hold(prompt_tokens=0, max_tokens=10))
    lost = Void(id=placed.id, reason="lost", served=Served(node="node_ada", attempt=1, prompt_tokens=0, completion_tokens=10**6))
    await ledger.client.void(lost)
    assert earned(database, people["ada"]) == placed.held * 9 // 10


async def test_goodwill_for_a_node_that_nobody_knows_is_not_paid_and_the_hold_goes_back(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    lost = Void(id=placed.id, reason="lost", served=Served(node="node_nobody", attempt=1, prompt_tokens=0, completion_tokens=9))
    assert (await ledger.client.void(lost)).status == "ok"


async def test_goodwill_ends_with_the_days_bound_and_holds_go_back_all_the_same(database, ledger_with):
    ledger = await ledger_with(**PRICES, goodwill_per_day="1.00")
    people = owners(database, ada=1)
    placed = [await ledger.client.place_hold(ledger.hold()) for _ in range(5)]
    served = Served(node="node_ada", attempt=1, prompt_tokens=5, completion_tokens=50)
    answers = await asyncio.gather(*(ledger.client.void(Void(id=one.id, reason="lost", served=served)) for one in placed))
    assert {answer.status for answer in answers} == {"ok"}
    assert earned(database, people["ada"]) == 2 * 450_000, "the third would be above the bound"
    wallet = (await ledger.http.get("/api/payments/wallet/", headers={"Authorization": f"Bearer {ledger.key}"})).json()
    assert wallet["held"] == "0.00"


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_parts_add_up_and_nobody_gets_more_than_their_tokens_say(amount, tokens):
    earners = [Earner(n, -n, count) for n, count in enumerate(tokens, 1)]
    parts = parts_of(amount, earners)
    assert sum(parts) == amount
    assert min(parts) >= 0
    total = sum(tokens)
    for part, count in list(zip(parts, tokens, strict=True))[:-1]:
        assert part == (amount * count // total if total else 0)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 100), st.lists(st.integers(0, 50), min_size=1, max_size=4), st.data())
def test_the_legs_of_a_shared_charge_sum_to_zero(promo, paid, fee_percent, tokens, data):
    amount = data.draw(st.integers(0, promo + paid))
    earners = [Earner(10 + n % 2, 20 + n % 2, count) for n, count in enumerate(tokens)]
    legs = capture_legs(((1, promo), (2, paid)), amount, promo_account=1, earners=earners, fees=3, fee_percent=fee_percent)
    assert sum(part for _, part in legs) == 0
    assert len({account for account, _ in legs}) == len(legs)
    assert -sum(part for account, part in legs if account in {1, 2}) == amount
