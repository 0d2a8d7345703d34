"""Withdrawals: earnings alone, once, and back when refused."""

import asyncio
import uuid

import pytest

from ledger.audit_log import Origin
from ledger.errors import InvalidRequest, LedgerUnavailable, NotFound, PaymentEnded
from ledger.ids import new_uuid7
from ledger.payments import rows, withdrawals
from ledger.payments.withdrawals import mark_paid, refuse
from tests.ledger.paying import balance_of, deposit, give_earnings, make_person, rows_of, send, transaction, wallet, withdraw

CLI = Origin("cli")
CLEARING = "clearing:payouts:mock"


async def test_a_withdrawal_leaves_the_earnings_at_once(ledger, database):
    await give_earnings(ledger, database, 30_000_000)
    answer = await withdraw(ledger, "20.00", destination="DE00 1234")
    made = answer.json()
    assert (answer.status_code, made["type"], made["status"], made["amount"], made["destination"]) == (
        201, "WITHDRAWAL", "PENDING", "20.00", "DE00 1234",
    )  # fmt: skip
    assert made["id"].startswith("wd_")
    found = await wallet(ledger)
    assert found["withdrawable"] == "10.00"
    assert (found["logs"][0]["kind"], found["logs"][0]["amount"], found["logs"][0]["balance_after"]) == ("withdrawal", "-20.00", "10.00")
    assert balance_of(database, CLEARING) == 20_000_000
    assert await transaction(ledger, made["id"]) == made


async def test_neither_welcome_nor_deposited_credits_can_be_withdrawn(ledger, database):
    await send(ledger, (await deposit(ledger)).json())
    await give_earnings(ledger, database, 2_000_000)
    answer = await withdraw(ledger, "2.01")
    assert (answer.status_code, answer.json()["detail"]) == (402, "Insufficient funds")
    assert (answer.json()["available"], answer.json()["required"]) == ("2.00", "2.01")
    assert rows_of(database, "SELECT count(*) FROM ledger.payment WHERE kind = 'WITHDRAWAL'") == [(0,)]
    assert (await withdraw(ledger, 2)).status_code == 201


HUGE = ["999999999999999", 10**30]


async def test_more_than_anybody_has_is_no_defect(ledger):
    for amount in HUGE:
        assert (await withdraw(ledger, amount)).status_code == 402


WRONG_WITHDRAWALS = [
    ({}, "amount", "This field is required."),
    ({"amount": "0.99"}, "amount", "Ensure this value is greater than or equal to 1.00."),
    ({"amount": "-5"}, "amount", "Ensure this value is greater than or equal to 1.00."),
    ({"amount": 1.5}, "amount", 'Send amounts as decimal strings, e.g. "25.00".'),
    ({"amount": "5", "gateway_id": "mock"}, "gateway_id", "Unknown field."),
]


async def test_wrong_withdrawals_are_400(ledger):
    for body, field, text in WRONG_WITHDRAWALS:
        from tests.ledger.paying import bearer

        answer = await ledger.http.post("/api/payments/withdraw", json=body, headers=bearer(ledger.key))
        assert (answer.status_code, answer.json()["errors"]) == (400, {field: [text]})


async def test_twenty_at_once_over_one_balance_take_what_there_is(ledger, database):
    await give_earnings(ledger, database, 10_000_000)
    answers = await asyncio.gather(*(withdraw(ledger, "3.00") for _ in range(20)))
    assert sorted({answer.status_code for answer in answers}) == [201, 402]
    assert sum(answer.status_code == 201 for answer in answers) == 3
    assert ((await wallet(ledger))["withdrawable"], balance_of(database, CLEARING)) == ("1.00", 9_000_000)
    assert rows_of(database, "SELECT count(*) FROM ledger.payment") == [(3,)]


async def test_a_repeat_with_the_same_key_takes_once(ledger, database, idempotency_key):
    await give_earnings(ledger, database, 30_000_000)
    answers = await asyncio.gather(*(withdraw(ledger, "20.00", key=idempotency_key) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 4
    assert (await wallet(ledger))["withdrawable"] == "10.00"
    assert (await withdraw(ledger, "21.00", key=idempotency_key)).status_code == 422


async def asked(ledger, database, amount="20.00", earnings=3_000_000_000):
    person = await give_earnings(ledger, database, earnings)
    made = (await withdraw(ledger, amount)).json()
    return person, made["id"], rows.read_id(made["id"])


async def test_a_paid_one_is_gone_and_cannot_be_paid_or_refused_again(ledger, database):
    _, text, id_ = await asked(ledger, database)
    operator = await make_person(ledger, database, "op")
    assert (await mark_paid(ledger.context.payments, id_, operator, CLI)).status == "SUCCESS"
    assert (balance_of(database, CLEARING), balance_of(database, "world:mock")) == (0, 20_000_000)
    with pytest.raises(PaymentEnded):
        await mark_paid(ledger.context.payments, id_, operator, CLI)
    with pytest.raises(PaymentEnded):
        await refuse(ledger.context.payments, id_, operator, "too late", CLI)
    assert (await transaction(ledger, text))["status"] == "SUCCESS"
    assert balance_of(database, "world:mock") == 20_000_000


async def test_a_refused_one_comes_back_with_its_reason(ledger, database):
    _, text, id_ = await asked(ledger, database)
    operator = await make_person(ledger, database, "op")
    assert (await refuse(ledger.context.payments, id_, operator, "no such account", CLI)).status == "FAILED"
    found = await wallet(ledger)
    assert (found["withdrawable"], found["logs"][0]["kind"], found["logs"][0]["amount"]) == ("3000.00", "withdrawal_returned", "20.00")
    assert found["logs"][0]["description"] == "Withdrawal returned"
    assert (await transaction(ledger, text))["reason"] == "no such account"
    assert balance_of(database, CLEARING) == 0
    with pytest.raises(PaymentEnded):
        await mark_paid(ledger.context.payments, id_, operator, CLI)
    assert rows_of(database, "SELECT action FROM ledger.audit_log WHERE target = %s ORDER BY seq", text) == [
        ("withdrawal_requested",),
        ("withdrawal_returned",),
    ]


async def test_paid_and_refused_at_once_end_in_one_way(ledger, database):
    _, _, id_ = await asked(ledger, database)
    operator = await make_person(ledger, database, "op")
    payments = ledger.context.payments
    ends = [mark_paid(payments, id_, operator, CLI) if n % 2 else refuse(payments, id_, operator, "no", CLI) for n in range(6)]
    done = await asyncio.gather(*ends, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in done) == 1
    assert all(isinstance(one, PaymentEnded) for one in done if isinstance(one, Exception))
    assert balance_of(database, CLEARING) == 0


async def test_a_large_one_needs_two_operators_who_are_not_its_owner(ledger, database):
    person, text, id_ = await asked(ledger, database, "1000.01")
    one, two = await make_person(ledger, database, "op1"), await make_person(ledger, database, "op2")
    payments = ledger.context.payments
    with pytest.raises(InvalidRequest):
        await mark_paid(payments, id_, person, CLI)
    assert (await mark_paid(payments, id_, one, CLI)).status == "PENDING"
    assert (await mark_paid(payments, id_, one, CLI)).status == "PENDING"
    assert balance_of(database, "world:mock") == 0
    assert (await mark_paid(payments, id_, two, CLI)).status == "SUCCESS"
    assert balance_of(database, "world:mock") == 1_000_010_000
    actions = [row[0] for row in rows_of(database, "SELECT action FROM ledger.audit_log WHERE target = %s ORDER BY seq", text)]
    assert actions == ["withdrawal_requested", "withdrawal_approved", "withdrawal_approved", "withdrawal_paid"]


async def test_one_at_the_threshold_needs_one_operator(ledger, database):
    _, _, id_ = await asked(ledger, database, "1000.00")
    assert (await mark_paid(ledger.context.payments, id_, await make_person(ledger, database, "op"), CLI)).status == "SUCCESS"


async def test_a_crash_between_row_and_post_leaves_both_or_neither(ledger, database, monkeypatch):
    posted = withdrawals.post

    async def die_before(connection, operation):
        raise LedgerUnavailable

    async def die_after(connection, operation):
        assert await posted(connection, operation)
        raise LedgerUnavailable

    await give_earnings(ledger, database, 30_000_000)
    for death in (die_before, die_after):
        with monkeypatch.context() as patch:
            patch.setattr(withdrawals, "post", death)
            assert (await withdraw(ledger, "20.00")).status_code == 503
        assert rows_of(database, "SELECT count(*) FROM ledger.payment") == [(0,)]
        assert ((await wallet(ledger))["withdrawable"], balance_of(database, CLEARING)) == ("30.00", 0)
    id_ = rows.read_id((await withdraw(ledger, "20.00")).json()["id"])
    with monkeypatch.context() as patch:
        patch.setattr(withdrawals, "post", die_after)
        for end in (
            mark_paid(ledger.context.payments, id_, uuid.uuid4(), CLI),
            refuse(ledger.context.payments, id_, uuid.uuid4(), "x", CLI),
        ):
            with pytest.raises(Exception):  # noqa: B017, PT011 - an unknown operator or the death: either way nothing may stand
                await end
    assert rows_of(database, "SELECT status FROM ledger.payment") == [("PENDING",)]
    assert balance_of(database, CLEARING) == 20_000_000


async def test_an_unknown_one_is_not_found(ledger, database):
    made = (await deposit(ledger)).json()
    for id_ in (new_uuid7(), rows.read_id(made["id"])):
        with pytest.raises(NotFound):
            await mark_paid(ledger.context.payments, id_, new_uuid7(), CLI)
