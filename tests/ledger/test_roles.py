"""What each login of the database may not do: tried, one statement after the other."""

import psycopg
import pytest

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
    "INSERT INTO ledger.feed (seq, kind, subject) VALUES (1, 'x', 'x')",
    "ALTER TABLE ledger.audit_log DISABLE TRIGGER append_only",
    "CREATE TABLE ledger.mine (x int)",
    "SET ROLE gfe_ledger_owner",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY ledger.person TO PROGRAM 'cat'",
    "SELECT * FROM serve_app.job",
]
FORBIDDEN_TO_SERVE = [
    "SELECT 1 FROM ledger.person",
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
