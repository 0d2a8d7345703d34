"""The reconciliation finds what a gateway and the books do not agree on, and posts nothing."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ledger.audit_log import Origin
from ledger.errors import NotFound
from ledger.ids import new_uuid7, text_of
from ledger.payments import rows
from ledger.payments.gateway import ReportRow
from ledger.payments.reconcile import reconcile
from ledger.payments.withdrawals import mark_paid
from tests.ledger.paying import deposit, give_earnings, make_person, rows_of, send, withdraw

LAST_HOUR = timedelta(hours=1)


async def found(ledger, since=LAST_HOUR):
    return await reconcile(ledger.context.payments, "mock", datetime.now(UTC) - since)


async def test_books_that_agree_with_the_gateway_have_no_differences(ledger, database):
    for outcome in ("succeeded", "failed"):
        await send(ledger, (await deposit(ledger)).json(), outcome)
    await deposit(ledger)
    await give_earnings(ledger, database, 5_000_000)
    made = (await withdraw(ledger, "5.00")).json()
    await mark_paid(ledger.context.payments, rows.read_id(made["id"]), await make_person(ledger, database, "op"), Origin("cli"))
    assert await found(ledger) == []


async def test_every_kind_of_difference_is_listed_and_nothing_is_posted(ledger, database, monkeypatch):
    booked, other, lost = [(await deposit(ledger)).json() for _ in range(2)] + [{"id": text_of("dep", new_uuid7())}]
    for made in (booked, other):
        await send(ledger, made)
    before = rows_of(database, "SELECT count(*) FROM ledger.txn")

    async def report(since):
        said = {other["id"]: 24_000_000, lost["id"]: 9_000_000}
        return [ReportRow(payment=rows.read_id(id_), gateway_id="x", amount=amount) for id_, amount in said.items()]

    monkeypatch.setattr(ledger.context.payments.gateways["mock"], "report", report)
    assert {(one.what, one.subject, one.at_gateway, one.in_books) for one in await found(ledger)} == {
        ("not_at_gateway", booked["id"], 0, 25_000_000),
        ("amounts_differ", other["id"], 24_000_000, 25_000_000),
        ("not_in_books", lost["id"], 9_000_000, 0),
    }
    assert rows_of(database, "SELECT count(*) FROM ledger.txn") == before


async def test_an_entry_that_no_payment_explains_is_listed(ledger, database):
    from ledger.db import connect
    from ledger.money import accounts
    from ledger.money.posting import Kind, Post, apply

    connection = await connect(database.pay_url, name="test")
    ids = await accounts.open_accounts(connection, ["world:mock", accounts.GOODWILL])
    await apply(connection, [Post(id=new_uuid7(), kind=Kind.ADJUSTMENT, legs=((ids["world:mock"], -7), (ids[accounts.GOODWILL], 7)))])
    await connection.close()
    assert [(one.what, one.in_books) for one in await found(ledger)] == [("unexplained", 7)]


async def test_payments_from_before_are_left_out_on_both_sides(ledger):
    await send(ledger, (await deposit(ledger)).json())
    assert await found(ledger, -timedelta(minutes=1)) == []


async def test_an_unknown_gateway_is_not_found(ledger):
    with pytest.raises(NotFound):
        await reconcile(ledger.context.payments, "paypal", datetime.now(UTC))


async def test_the_command_tells_differences_by_its_exit_status(ledger, database, monkeypatch):
    from ledger.cli import app

    monkeypatch.setenv("GFE_SECRETS_DIR", str(ledger.folder))
    monkeypatch.setenv("GFE_LEDGER_SOCKET", str(ledger.folder / "s" / "internal.sock"))

    def run(*words):
        return CliRunner().invoke(app, ["reconcile", *words])

    await send(ledger, (await deposit(ledger)).json())
    fine = await asyncio.to_thread(run)
    assert (fine.exit_code, fine.output) == (0, "no differences\n")
    rows_of(database, "UPDATE ledger.payment_event SET body = jsonb_set(body, '{amount}', '1000000')")
    wrong = await asyncio.to_thread(run, "--json")
    assert wrong.exit_code == 1
    assert [(one["what"], one["at_gateway"], one["in_books"]) for one in json.loads(wrong.output)] == [("amounts_differ", "1.00", "25.00")]
    assert (await asyncio.to_thread(run, "--gateway", "paypal")).exit_code == 1
