"""The oracle agrees with true books, and sees false ones."""

import psycopg
import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.proof.machine import Books, machine_over
from tests.ledger.proof.oracle import differences

FEW = settings(max_examples=5, stateful_step_count=20, deadline=None, database=None, phases=[Phase.generate])


@pytest.fixture
def written(database):
    books = Books(database.pay_url, database.admin_url)
    try:
        run_state_machine_as_test(seed(7)(machine_over(books)), settings=FEW)
    finally:
        books.close()
    return database


def test_the_journal_replayed_gives_every_balance(written):
    with psycopg.connect(written.admin_url) as admin:
        assert differences(admin) == []


@pytest.mark.parametrize("column", ["posted", "held", "seq"])
def test_a_balance_that_does_not_follow_from_the_journal_is_seen(written, column):
    change = f"UPDATE ledger.account SET {column} = {column} + %s WHERE id = (SELECT max(id) FROM ledger.account)"
    with psycopg.connect(written.admin_url, autocommit=True) as admin:
        admin.execute(change, [1])
        assert len(differences(admin)) == 1
        admin.rollback()
        admin.autocommit = True
        admin.execute(change, [-1])
