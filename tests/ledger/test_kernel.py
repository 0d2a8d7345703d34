"""The kernel's statuses, one by one, through the same door as the product."""

import uuid

import psycopg
import pytest

from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.money.posting import POCKET, Hold, Kind, Post, Status, Writer, apply


class Books:
    def __init__(self, connection):
        self.connection = connection
        self.accounts = {}

    async def open(self, address, *, unit=1, floor=0, shared=False):
        rows = await self.connection.execute(
            "SELECT id FROM ledger.open_accounts(%s::text[], %s::smallint[], %s::bigint[], %s::boolean[])",
            ([address], [unit], [floor], [shared]),
        )
        self.accounts[address] = (await rows.fetchone())[0]
        return self.accounts[address]

    async def do(self, *operations):
        answers = await apply(self.connection, operations)
        return answers[0] if len(answers) == 1 else answers

    async def balance(self, address):
        rows = await self.connection.execute("SELECT posted, held FROM ledger.account WHERE address = %s", [address])
        return await rows.fetchone()


@pytest.fixture
async def books(database):
    connection = await connect(database.pay_url, name="test")
    books = Books(connection)
    for address, floor, unit in (
        ("world", None, 1),
        ("promo", 0, 1),
        ("paid", 0, 1),
        ("provider", 0, 1),
        ("slots", 0, 3),
        ("issuer", None, 3),
    ):
        await books.open(address, floor=floor, unit=unit, shared=floor is None)
    assert await books.do(post(books, world=-100, promo=30, paid=70)) is Status.OK
    assert await books.do(post(books, issuer=-2, slots=2)) is Status.OK
    yield books
    await connection.close()


def post(books, *, id=None, resolves=False, reverses=None, kind=Kind.DEPOSIT, **legs):
    return Post(
        id=id or new_uuid7(), kind=kind, resolves_hold=resolves, reverses=reverses,
        legs=tuple((books.accounts[address], amount) for address, amount in legs.items()), meta={"held": 10**15},
    )  # fmt: skip


def hold(books, amount, *, id=None, lines=("promo", "paid"), fixed=None, ttl_s=60, meta=None):
    fixed_lines = tuple((books.accounts[address], much) for address, much in (fixed or {}).items())
    return Hold(
        id=id or new_uuid7(), amount=amount, ttl_s=ttl_s, meta=meta or {},
        lines=tuple((books.accounts[address], POCKET) for address in lines) + fixed_lines,
    )  # fmt: skip


async def test_a_hold_empties_pockets_in_their_order(books):
    assert await books.do(hold(books, 40)) is Status.OK
    assert await books.balance("promo") == (30, 30)
    assert await books.balance("paid") == (70, 10)


async def test_a_capture_takes_from_the_held_accounts_and_returns_the_rest(books):
    placed = hold(books, 40)
    await books.do(placed)
    assert await books.do(post(books, id=placed.id, resolves=True, kind=Kind.CAPTURE, promo=-30, paid=-5, provider=35)) is Status.OK
    assert await books.balance("promo") == (0, 0)
    assert await books.balance("paid") == (65, 0)
    assert await books.balance("provider") == (35, 0)


async def test_a_capture_may_not_take_more_than_was_held_on_an_account(books):
    placed = hold(books, 40)
    await books.do(placed)
    assert await books.do(post(books, id=placed.id, resolves=True, kind=Kind.CAPTURE, paid=-11, provider=11)) is Status.OVER_HOLD
    assert await books.do(post(books, id=placed.id, resolves=True, kind=Kind.CAPTURE, paid=-10, provider=10)) is Status.OK


async def test_a_capture_may_not_debit_somebody_elses_account(books):
    await books.open("stranger")
    await books.do(post(books, world=-50, stranger=50))
    placed = hold(books, 10)
    await books.do(placed)
    assert await books.do(post(books, id=placed.id, resolves=True, kind=Kind.CAPTURE, stranger=-1, provider=1)) is Status.OVER_HOLD
    assert await books.balance("stranger") == (50, 0)
    await books.do(post(books, id=placed.id, resolves=True, kind=Kind.VOID))


async def test_the_same_hold_again_exists_and_another_amount_conflicts(books):
    placed = hold(books, 10)
    assert await books.do(placed) is Status.OK
    assert await books.do(placed) is Status.EXISTS
    assert await books.do(hold(books, 11, id=placed.id)) is Status.CONFLICT
    await books.do(post(books, id=placed.id, resolves=True, kind=Kind.VOID))
    assert await books.do(placed) is Status.EXISTS, "a late copy of a resolved hold"
    assert await books.do(hold(books, 11, id=placed.id)) is Status.CONFLICT
    assert await books.balance("promo") == (30, 0)


async def test_a_hold_beyond_the_pockets_is_refused_and_reserves_nothing(books):
    assert await books.do(hold(books, 101)) is Status.FUNDS
    assert await books.balance("promo") == (30, 0)
    assert await books.do(hold(books, 100)) is Status.OK


async def test_a_fixed_line_must_fit_whole_and_a_refused_hold_keeps_no_room(books):
    first, second, third = (hold(books, 10, fixed={"slots": 1}) for _ in range(3))
    assert await books.do(first, second, third) == [Status.OK, Status.OK, Status.LIMIT]
    assert await books.balance("slots") == (2, 2)
    assert await books.balance("promo") == (30, 20)
    await books.do(post(books, id=first.id, resolves=True, kind=Kind.VOID))
    assert await books.do(third) is Status.OK


async def test_a_poor_hold_between_two_good_ones_costs_only_itself(books):
    assert await books.do(hold(books, 60), hold(books, 90), hold(books, 40)) == [Status.OK, Status.FUNDS, Status.OK]


@pytest.mark.parametrize("amount", [0, -5, 10**15 + 1])
async def test_an_impossible_amount_is_invalid_and_does_not_abort_the_others(books, amount):
    assert await books.do(hold(books, 10), hold(books, amount), hold(books, 10)) == [Status.OK, Status.INVALID, Status.OK]


async def test_unknown_accounts_are_named_as_such(books):
    books.accounts["nobody"] = 999_999
    assert await books.do(hold(books, 10, lines=("nobody",))) is Status.NO_ACCOUNT
    assert await books.do(post(books, promo=-1, nobody=1)) is Status.NO_ACCOUNT


async def test_legs_must_sum_to_zero_per_unit(books):
    assert await books.do(post(books, promo=-1, provider=2)) is Status.UNBALANCED
    assert await books.do(post(books, promo=-1, slots=1)) is Status.UNBALANCED
    assert await books.do(post(books, promo=0, provider=0)) is Status.INVALID
    assert await books.do(post(books)) is Status.INVALID


async def test_a_plain_post_may_not_use_the_id_of_an_open_hold(books):
    placed = hold(books, 10)
    await books.do(placed)
    assert await books.do(post(books, id=placed.id, promo=-1, provider=1)) is Status.CONFLICT


async def test_a_transfer_beyond_the_balance_lacks_funds_and_its_neighbor_is_done(books):
    poor = post(books, promo=-31, provider=31, kind=Kind.TRANSFER)
    good = post(books, paid=-1, provider=1, kind=Kind.TRANSFER)
    assert await books.do(poor, good) == [Status.FUNDS, Status.OK]


async def test_money_that_is_held_cannot_be_spent_otherwise(books):
    await books.do(hold(books, 100))
    assert await books.do(post(books, paid=-1, provider=1, kind=Kind.TRANSFER)) is Status.FUNDS


async def test_a_hold_resolves_once(books):
    placed = hold(books, 10)
    await books.do(placed)
    capture = post(books, id=placed.id, resolves=True, kind=Kind.CAPTURE, promo=-10, provider=10)
    assert await books.do(capture) is Status.OK
    assert await books.do(capture) is Status.EXISTS
    assert await books.do(post(books, id=placed.id, resolves=True, kind=Kind.VOID)) is Status.CONFLICT
    assert await books.do(post(books, resolves=True, kind=Kind.VOID)) is Status.NO_HOLD


async def test_a_refund_happens_once_and_only_of_what_exists(books):
    sale = post(books, promo=-10, provider=10, kind=Kind.TRANSFER)
    await books.do(sale)
    assert await books.do(post(books, reverses=sale.id, kind=Kind.REFUND, provider=-10, promo=10)) is Status.OK
    assert await books.do(post(books, reverses=sale.id, kind=Kind.REFUND, provider=-10, promo=10)) is Status.CONFLICT
    assert await books.do(post(books, reverses=uuid.uuid4(), kind=Kind.REFUND, paid=-1, promo=1)) is Status.NO_TXN


async def test_entries_and_transactions_cannot_be_changed_by_anybody(database, books):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        for statement in (
            "UPDATE ledger.entry SET amount = 1",
            "DELETE FROM ledger.entry",
            "TRUNCATE ledger.entry",
            "DELETE FROM ledger.txn",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                admin.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.account SET posted = posted + 1",
        "INSERT INTO ledger.entry VALUES (1, 1, gen_random_uuid(), 1, 1)",
        "DELETE FROM ledger.hold",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE gfe_ledger_owner",
    ],
)
async def test_the_services_login_has_no_way_round_the_door(books, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await books.connection.execute(statement)


async def test_the_serve_login_sees_nothing_of_the_ledger(database):
    with psycopg.connect(database.serve_url) as serve, pytest.raises(psycopg.errors.InsufficientPrivilege):
        serve.execute("SELECT * FROM ledger.account")


async def test_no_function_is_executable_by_everybody(database):
    with psycopg.connect(database.admin_url) as admin:
        rows = admin.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('ledger', 'serve_app') "
            "AND (p.proacl IS NULL OR EXISTS (SELECT 1 FROM aclexplode(p.proacl) a WHERE a.grantee = 0))"
        ).fetchall()
    assert rows == []


async def test_the_writer_batches_what_arrives_together_and_survives_a_killed_backend(database, books):
    import asyncio

    writer = Writer(database.ledger_url)
    writer.start()
    holds = [hold(books, 1) for _ in range(50)]
    assert set(await asyncio.gather(*(writer.submit(one) for one in holds))) == {Status.OK}
    assert writer.batches < 10, "natural batching"
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'gfe_ledger_writer%%' AND datname = current_database()"
        )
    assert await writer.submit(hold(books, 1)) is Status.OK
    await writer.aclose()
