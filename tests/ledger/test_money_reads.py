"""Earnings, their release, past balances, the statement as CSV, metrics, the audit of every minute."""

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from ledger.client import BooksUnderReview, Capture
from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.loops import audit_everything, audit_new_entries, clean_up, look
from ledger.money import accounts, reviews
from ledger.money.earnings import Earnings, after
from ledger.money.posting import Kind, Post, Status, apply
from tests.ledger.people import bearer, somebody


async def fund(database, person, micros, address=accounts.paid):
    connection = await connect(database.pay_url, name="test")
    ids = await accounts.open_accounts(connection, ["world:test", address(person)])
    post = Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=((ids["world:test"], -micros), (ids[address(person)], micros)))
    assert await apply(connection, [post]) == [Status.OK]
    await connection.close()


async def person_of(ledger, credential):
    return (await ledger.context.credentials.verify(credential)).person


async def provider_with_node(ledger, database, node="node_bob"):
    bob = await somebody(ledger, "bob")
    person = await person_of(ledger, bob.tokens["access"])
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("INSERT INTO ledger.node (id, person_id, name, kind) VALUES (%s, %s, 'n', 'edge')", [node, person])
    return bob, person


async def served(ledger, credential, model="m", node="node_bob"):
    placed = await ledger.client.place_hold(ledger.hold(key=credential, model=model))
    await ledger.client.capture(
        Capture(id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node=node, attempt=1)
    )


async def earnings(somebody_, **query):
    answer = await somebody_.get("/api/payments/earnings/", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_earnings_are_told_by_day_and_model_and_never_counted_twice(ledger_with, database):
    ledger = await ledger_with(welcome_credits="0")
    ada = await somebody(ledger)
    bob, _ = await provider_with_node(ledger, database)
    await fund(database, await person_of(ledger, ada.tokens["access"]), 100_000_000)
    for model in ("a", "a", "b"):
        await served(ledger, ada.tokens["access"], model)
    for _ in range(2):
        found = await earnings(bob, days=7)
        assert (found["total"], found["period"], found["jobs"]) == ("3.00", "3.00", 3)
        assert len(found["by_day"]) == 7
        assert found["by_day"][-1] == {"date": datetime.now(UTC).date().isoformat(), "earned": "3.00", "jobs": 3}
        assert [(row["model"], row["earned"], row["jobs"]) for row in found["by_model"]] == [("a", "2.00", 2), ("b", "1.00", 1)]
    await asyncio.gather(served(ledger, ada.tokens["access"]), *(earnings(bob) for _ in range(5)))
    assert (await earnings(bob))["jobs"] == 4


@pytest.mark.parametrize("days", ["abc", "0", "366", "99999999999"])
async def test_d21_days_that_are_none_are_400(ledger, days):
    answer = await (await somebody(ledger)).get("/api/payments/earnings/", params={"days": days})
    assert answer.status_code == 400
    assert "days" in answer.json()["errors"]


async def test_earnings_wait_for_their_delay_and_are_released_once(ledger_with, database):
    ledger = await ledger_with(welcome_credits="0")
    ada = await somebody(ledger)
    bob, _ = await provider_with_node(ledger, database)
    await fund(database, await person_of(ledger, ada.tokens["access"]), 10_000_000)
    await served(ledger, ada.tokens["access"])
    await served(ledger, ada.tokens["access"])
    assert await Earnings(ledger.context.database, terms=after(timedelta(hours=1))).release() == 0
    assert (await bob.get("/api/payments/wallet/")).json()["withdrawable"] == "0.00"
    released = await asyncio.gather(*(ledger.context.earnings.release() for _ in range(4)))
    assert sum(released) == 1
    wallet = (await bob.get("/api/payments/wallet/")).json()
    assert wallet["withdrawable"] == "2.00"
    assert [row["kind"] for row in wallet["logs"]] == ["job_earning", "job_earning"]
    assert await ledger.context.earnings.release() == 0


async def test_what_promotional_credits_paid_is_never_withdrawable(ledger, database):
    ada = await somebody(ledger)
    bob, _ = await provider_with_node(ledger, database)
    await served(ledger, ada.tokens["access"])
    await ledger.context.earnings.release()
    wallet = (await bob.get("/api/payments/wallet/")).json()
    assert (wallet["balance"], wallet["withdrawable"]) == ("6.00", "0.00")
    assert (await bob.post("/api/payments/withdraw/", {"amount": "1.00"})).status_code == 402


async def test_a_balance_can_be_told_for_any_past_moment(ledger, database):
    ada = await somebody(ledger)
    person = await person_of(ledger, ada.tokens["access"])
    moments = [datetime.now(UTC) - timedelta(days=1), datetime.now(UTC)]
    for _ in range(5):
        await fund(database, person, 1_000_000)
        moments.append(datetime.now(UTC))
    told = [(await ada.get("/api/payments/balance/", params={"at": at.isoformat()})).json()["total"] for at in moments]
    assert told == ["0.00", "5.00", "6.00", "7.00", "8.00", "9.00", "10.00"]
    assert (await ada.get("/api/payments/balance/", params={"at": "yesterday"})).status_code == 400


async def test_the_statement_as_csv_has_every_line_once(ledger_with, database):
    ledger = await ledger_with(welcome_credits="5.00")
    ada = await somebody(ledger)
    person = await person_of(ledger, ada.tokens["access"])
    for _ in range(7):
        await fund(database, person, 1_000_000)
    answer = await ada.get("/api/payments/statement.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["amount"] for row in rows] == ["1.00"] * 7 + ["5.00"]
    assert [row["balance_after"] for row in rows] == [f"{n}.00" for n in range(12, 4, -1)]
    only = await ada.get("/api/payments/statement.csv", params={"kind": "welcome"})
    assert len(only.text.splitlines()) == 2
    assert (await ledger.http.get("/api/payments/statement.csv")).status_code == 401


async def test_metrics_tell_of_holds_batches_refusals_and_audits(ledger):
    ada = await somebody(ledger)
    await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"]))
    await ledger.http.get("/api/core/profile/", headers=bearer("a.b.c"))
    await look(ledger.context)
    await audit_new_entries(ledger.context)
    await audit_everything(ledger.context)
    text = (await ledger.http.get("/metrics")).text
    for line in (
        "gfe_ledger_open_holds 1.0", 'gfe_ledger_refusals_total{code="token_not_valid"} 1.0', 'gfe_ledger_audit_violations{audit="full"} 0.0',
        'gfe_ledger_audit_violations{audit="incremental"} 0.0',
    ):  # fmt: skip
        assert line in text
    assert "gfe_ledger_writer_batch_size_count" in text
    assert (await ledger.http.get("/metrics", headers={"x-forwarded-for": "1.2.3.4"})).status_code == 404


async def test_the_audit_of_every_minute_sees_a_tampered_balance(ledger, database):
    await audit_new_entries(ledger.context)
    await fund(database, await person_of(ledger, ledger.key), 1_000_000)
    await audit_new_entries(ledger.context)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.account SET posted = posted + 7 WHERE address = 'world:test'")
        await audit_new_entries(ledger.context)
        admin.execute("UPDATE ledger.account SET posted = posted - 7 WHERE address = 'world:test'")
    text = (await ledger.http.get("/metrics")).text
    assert 'gfe_ledger_audit_violations{audit="incremental"} 1.0' in text
    await audit_new_entries(ledger.context)
    assert 'gfe_ledger_audit_violations{audit="incremental"} 0.0' in (await ledger.http.get("/metrics")).text


async def test_cleaning_up_keeps_what_is_still_of_use(ledger):
    ada = await somebody(ledger)
    await clean_up(ledger.context)
    assert (await ada.get("/api/core/profile/")).status_code == 200
    assert (await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})).status_code == 200


async def test_nothing_new_is_held_on_an_account_whose_books_are_wrong_and_everybody_else_goes_on(ledger, database):
    ada = await somebody(ledger)
    person = await person_of(ledger, ada.tokens["access"])
    await audit_new_entries(ledger.context)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.account SET posted = posted + 7 WHERE address = %s", [accounts.promo(person)])
        await audit_new_entries(ledger.context)
        await look(ledger.context)  # every process looks, whoever audits
        with pytest.raises(BooksUnderReview):
            await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"]))
        await ledger.client.place_hold(ledger.hold())
        admin.execute("UPDATE ledger.account SET posted = posted - 7 WHERE address = %s", [accounts.promo(person)])
    await audit_new_entries(ledger.context)
    await look(ledger.context)
    await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"]))


async def test_what_one_audit_found_stays_under_review_until_the_same_audit_finds_it_right(database):
    connection = await connect(database.ledger_url, name="test")
    await reviews.note(connection, "full", frozenset({"a", "b"}))
    await reviews.note(connection, "incremental", frozenset({"b"}))
    await reviews.note(connection, "incremental", frozenset())
    assert await reviews.read(connection) == {"a", "b"}
    await reviews.note(connection, "full", frozenset({"b"}))
    assert await reviews.read(connection) == {"b"}
    await connection.close()
