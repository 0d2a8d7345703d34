"""What each login of the database may not do: tried, one statement after the other."""

import psycopg
import pytest

from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

FORBIDDEN_TO_THE_LEDGER = [
    "INSERT INTO ledger.txn (id, kind, at, digest) VALUES (gen_random_uuid(), 1, now(), 1)",
    "INSERT INTO ledger.entry VALUES (1, 1, gen_random_uuid(), 1, 1)",
    "UPDATE ledger.account SET posted = 1",
    "DELETE FROM ledger.hold",
    "DELETE FROM ledger.person",
    "UPDATE ledger.person SET id = gen_random_uuid()",
    "UPDATE ledger.api_key SET mac = ''",
    "UPDATE ledger.api_key SET scopes = '{}'",
    "DELETE FROM ledger.api_key",
    "UPDATE ledger.price SET flat = 0",
    "DELETE FROM ledger.price",
    "UPDATE ledger.payment SET amount = 1",
    "DELETE FROM ledger.payment",
    "UPDATE ledger.payment_event SET body = '{}'",
    "DELETE FROM ledger.payment_event",
    "UPDATE ledger.correction SET amount = 1",
    "DELETE FROM ledger.approval",
    "UPDATE ledger.audit_log SET actor = ''",
    "DELETE FROM ledger.audit_log",
    "TRUNCATE ledger.audit_log",
    "DELETE FROM ledger.audit_seal",
    "UPDATE ledger.audit_verdict SET is_flagged = false",
    "DELETE FROM ledger.audit_verdict",
    "UPDATE ledger.audit_sample SET sealed = ''",
    "UPDATE ledger.count_alarm SET jobs = 0",
    "DELETE FROM ledger.node_step",
    "UPDATE ledger.appeal SET note = ''",
    "UPDATE ledger.owed_mail SET body = ''",
    "UPDATE ledger.node SET network = NULL",
    "DELETE FROM ledger.appeal",
    "INSERT INTO ledger.feed (seq, kind, subject) VALUES (1, 'x', 'x')",
    "ALTER TABLE ledger.audit_log DISABLE TRIGGER append_only",
    "CREATE TABLE ledger.mine (x int)",
    "SET ROLE gfe_ledger_owner",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY ledger.person TO PROGRAM 'cat'",
    "SELECT * FROM serve_app.job",
]
FORBIDDEN_TO_PAY = [
    "INSERT INTO ledger.entry VALUES (1, 1, gen_random_uuid(), 1, 1)",
    "UPDATE ledger.account SET posted = 1",
    "UPDATE ledger.payment SET amount = 1",
    "INSERT INTO ledger.payment (id) VALUES (gen_random_uuid())",
    "INSERT INTO ledger.payment_event (gateway) VALUES ('mock')",
    "SELECT 1 FROM ledger.person",
    "SELECT 1 FROM ledger.api_key",
    "SELECT 1 FROM ledger.session",
    "SELECT 1 FROM ledger.audit_log",
    "SELECT 1 FROM ledger.audit_sample",
    "SELECT 1 FROM ledger.audit_verdict",
    "SELECT 1 FROM ledger.owed_mail",
    "UPDATE ledger.person SET is_operator = true",
    "SELECT ledger.tell('x', 'x', '{}')",
    "SET ROLE gfe_ledger",
    "SET ROLE gfe_ledger_owner",
    "SELECT * FROM serve_app.job",
]
FORBIDDEN_TO_SERVE = [
    "SELECT 1 FROM ledger.person",
    "SELECT 1 FROM ledger.audit_sample",
    "SELECT ledger.tell('x', 'x', '{}')",
    "SELECT ledger.apply(null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null)",
]


@pytest.mark.parametrize("statement", FORBIDDEN_TO_THE_LEDGER)
def test_the_ledgers_login_may_not(database, statement):
    with psycopg.connect(database.ledger_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("statement", FORBIDDEN_TO_SERVE)
def test_serves_login_may_not(database, statement):
    with psycopg.connect(database.serve_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("statement", FORBIDDEN_TO_PAY)
def test_the_login_for_payments_may_not(database, statement):
    with psycopg.connect(database.pay_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


async def deposited(url, source):
    """Post a deposit from `source` as the login of `url`."""
    connection = await connect(url, name="test")
    try:
        ids = await accounts.open_accounts(connection, [source, "consumer:mallory:paid"])
        legs = ((ids[source], -1), (ids["consumer:mallory:paid"], 1))
        assert await apply(connection, [Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=legs)]) == [Status.OK]
    finally:
        await connection.close()


async def test_the_request_path_cannot_move_credits_in_from_the_world_whatever_it_says(database):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await deposited(database.ledger_url, "world:mock")
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        assert admin.execute("SELECT count(*) FROM ledger.entry").fetchone() == (0,)
        await deposited(database.pay_url, "world:mock")
        assert admin.execute("SELECT posted FROM ledger.account WHERE address = 'consumer:mallory:paid'").fetchone() == (1,)


@pytest.mark.parametrize(
    "account",
    ["'mint:mine', 1, NULL, true", "'consumer:mallory:paid', 1, NULL, false", "'consumer:mallory:paid', 1, -5, false",
     "'issuer:mine', 1, NULL, true", "'world:hidden', 1, 0, false", "'platform:promotions2', 1, NULL, true"],
)  # fmt: skip
def test_the_request_path_opens_no_other_source_of_credits(database, account):
    address, unit, floor, is_shared = account.split(", ")
    statement = f"SELECT ledger.open_accounts(ARRAY[{address}], ARRAY[{unit}]::smallint[], ARRAY[{floor}]::bigint[], ARRAY[{is_shared}])"
    with psycopg.connect(database.ledger_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
