"""Budgets and limits of keys: enforced where the money is reserved, however many ask at once."""

import asyncio
from datetime import datetime

import psycopg
import pytest

from ledger.client import (
    BudgetExceeded,
    Capture,
    CredentialExpired,
    CredentialRevoked,
    LedgerError,
    ModelNotAllowed,
    RateLimited,
    Void,
)
from ledger.money.budgets import budgets_of
from tests.ledger.people import somebody


async def served(ledger, key, **changes):
    placed = await ledger.client.place_hold(ledger.hold(key=key, **changes))
    await ledger.client.capture(
        Capture(
            id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
        )
    )
    return placed


async def tried(ledger, key):
    try:
        return await served(ledger, key)
    except LedgerError as refused:
        return refused


@pytest.mark.parametrize(("field", "period"), [("budget_day", "day"), ("budget_month", "month"), ("budget_total", "total")])
async def test_a_budget_worth_three_jobs_serves_three_of_forty_at_once(ledger_with, field, period):
    ledger = await ledger_with(welcome_credits="100.00")
    key = await (await somebody(ledger)).key(**{field: "3.00"})
    answers = await asyncio.gather(*(tried(ledger, key) for _ in range(40)))
    refused = [one for one in answers if isinstance(one, Exception)]
    assert len(answers) - len(refused) == 3
    assert {(type(one), one.period, one.left_micros, one.required_micros) for one in refused} == {(BudgetExceeded, period, 0, 1_000_000)}


async def test_the_narrowest_budget_binds_and_only_what_was_used_is_spent(ledger_with):
    ledger = await ledger_with(welcome_credits="100.00")
    key = await (await somebody(ledger)).key(budget_day="2.00", budget_total="100.00")
    placed = await ledger.client.place_hold(ledger.hold(key=key))
    await ledger.client.void(Void(id=placed.id, reason="test"))
    await served(ledger, key)
    await served(ledger, key)
    with pytest.raises(BudgetExceeded) as refused:
        await served(ledger, key)
    assert refused.value.period == "day"


async def test_a_budget_can_be_raised_and_lowered_and_what_is_spent_stays_spent(ledger_with, database):
    ledger = await ledger_with(welcome_credits="100.00")
    ada = await somebody(ledger)
    key = await ada.key(budget_total="2.00")
    id_ = key.split("_")[2]

    async def change(**fields):
        answer = await ada.call("PATCH", f"/api/core/keys/{id_}/", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    await served(ledger, key)
    assert (await change(budget_total="3.00"))["budget_total"] == "3.00"
    await served(ledger, key)
    await served(ledger, key)
    assert type(await tried(ledger, key)) is BudgetExceeded
    await change(budget_total="1.00")
    assert (await tried(ledger, key)).left_micros == 0
    await change(budget_total="5.00")
    await served(ledger, key)
    await served(ledger, key)
    assert type(await tried(ledger, key)) is BudgetExceeded
    await change(budget_total=None)
    await served(ledger, key)


async def test_a_budget_lowered_below_what_is_held_leaves_nothing(ledger_with):
    ledger = await ledger_with(welcome_credits="100.00")
    ada = await somebody(ledger)
    key = await ada.key(budget_total="5.00")
    held = [await ledger.client.place_hold(ledger.hold(key=key)) for _ in range(2)]
    assert (await ada.call("PATCH", f"/api/core/keys/{key.split('_')[2]}/", json={"budget_total": "0.50"})).status_code == 200
    assert (await tried(ledger, key)).left_micros == 0
    await ledger.client.void(Void(id=held[0].id, reason="test"))
    assert type(await tried(ledger, key)) is not BudgetExceeded  # what comes back is the key's: the cut takes what is free at its moment


@pytest.mark.parametrize(
    ("at", "day", "month"),
    [
        ("2026-11-24T23:59:59+00:00", "2026-11-24", "2026-11"),
        ("2026-11-25T00:00:00+00:00", "2026-11-25", "2026-11"),
        ("2026-12-01T00:30:00+02:00", "2026-11-30", "2026-11"),
        ("2026-10-31T20:00:00-08:00", "2026-11-01", "2026-11"),
    ],
)
def test_days_and_months_are_utcs_and_each_has_its_own_budget(at, day, month):
    found = budgets_of("k", {"day": 1, "month": 1, "total": None}, datetime.fromisoformat(at))
    assert [one.address for one in found] == [f"budget:k:{day}", f"budget:k:{month}"]


async def test_a_key_may_be_for_some_models_only(ledger):
    key = await (await somebody(ledger)).key(models=["a", "b"])
    await served(ledger, key, model="a")
    with pytest.raises(ModelNotAllowed):
        await served(ledger, key, model="c")


async def test_a_key_has_so_many_jobs_per_minute_and_they_come_back(ledger, database):
    key = await (await somebody(ledger)).key(per_minute=2)
    answers = await asyncio.gather(*(tried(ledger, key) for _ in range(4)))
    assert sorted(type(one).__name__ for one in answers) == ["HoldPlaced", "HoldPlaced", "RateLimited", "RateLimited"]
    assert next(one for one in answers if isinstance(one, RateLimited)).retry_after_s == 30
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.bucket SET at = at - interval '31 seconds'")
    await served(ledger, key)


async def test_an_account_has_so_many_jobs_per_minute_over_all_its_keys(ledger_with):
    ledger = await ledger_with(welcome_credits="100.00", submits_per_minute=5)
    ada = await somebody(ledger)
    keys = [await ada.key(), await ada.key()]
    answers = [await tried(ledger, key) for key in keys * 4]
    assert [isinstance(one, RateLimited) for one in answers] == [False] * 5 + [True] * 3


async def test_an_expired_key_says_so(ledger, database):
    ada = await somebody(ledger)
    past = await ada.post("/api/core/keys/", {"name": "old", "expires_at": "2020-01-01T00:00:00Z"})
    assert past.json()["errors"] == {"expires_at": ["This time has passed."]}
    key = await ada.key(expires_at="2999-01-01T00:00:00Z")
    await served(ledger, key)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.api_key SET expires_at = clock_timestamp() WHERE id = %s", [key.split("_")[2]])
    ledger.context.keys._rows.clear()
    with pytest.raises(CredentialExpired):
        await served(ledger, key)


async def test_a_limited_key_cannot_lift_its_own_limits(ledger):
    ada = await somebody(ledger)
    key = await ada.key(budget_total="1.00")
    headers = {"Authorization": f"Bearer {key}"}
    for method, path, body in [
        ("POST", "/api/core/keys/", {"name": "free"}),
        ("PATCH", f"/api/core/keys/{key.split('_')[2]}/", {"budget_total": None}),
    ]:
        answer = await ledger.http.request(method, path, headers=headers, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")


@pytest.mark.parametrize(
    ("fields", "name", "text"),
    [
        ({"budget_day": 1.5}, "budget_day", 'Send amounts as decimal strings, e.g. "25.00".'),
        ({"budget_day": "-1"}, "budget_day", "Ensure this value is greater than or equal to 0.00."),
        ({"budget_day": "1e3"}, "budget_day", "A valid number is required."),
        ({"budget_day": True}, "budget_day", "A valid number is required."),
        ({"budget_total": "0.0000001"}, "budget_total", "Ensure that there are no more than 6 decimal places."),
        ({"budget_total": "NaN"}, "budget_total", "A valid number is required."),
        ({"per_minute": 0}, "per_minute", None),
        ({"models": []}, "models", None),
        ({"privacy": "secret"}, "privacy", None),
        ({"limit": 1}, "limit", "Unknown field."),
    ],
    ids=repr,
)
async def test_a_wrong_limit_is_400(ledger, fields, name, text):
    answer = await (await somebody(ledger)).post("/api/core/keys/", {"name": "k"} | fields)
    assert answer.status_code == 400
    assert name in answer.json()["errors"]
    assert text is None or answer.json()["errors"][name] == [text]


async def test_a_sign_in_can_place_holds_too(ledger):
    ada = await somebody(ledger)
    placed = await served(ledger, ada.tokens["access"])
    assert (placed.caller.username, placed.caller.key) == ("ada", "")


async def test_a_blocked_account_is_cut(ledger, database):
    ada = await somebody(ledger)
    key = await ada.key()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.person SET blocked_at = clock_timestamp() WHERE username = 'ada'")
    ledger.context.keys._rows.clear()
    ledger.context.credentials.forget_sessions()
    for credential in (key, ada.tokens["access"]):
        with pytest.raises(CredentialRevoked):
            await served(ledger, credential)
