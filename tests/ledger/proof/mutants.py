"""Small defects, put into the kernel on purpose: each must be found, or the proof proves nothing.

python -m tests.ledger.proof.mutants
"""

import contextlib
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import hypothesis
import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from psycopg import sql
from psycopg.conninfo import make_conninfo

import ledger.migrations
from ledger import pricing
from ledger.money import posting
from tests.hunt import hunt
from tests.ledger.proof.machine import Books, machine_over
from tests.ledger.proof.server import PASSWORD, throw_away_server

KERNEL = Path(ledger.migrations.__file__).with_name("kernel.sql")
SEED = 20_26
HUNT = settings(
    max_examples=40, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    report_multiple_bugs=False, print_blob=False,
)  # fmt: skip  # no shrinking: that it is found is all that is asked


@dataclass(frozen=True)
class InSql:
    """A defect of `ledger.apply`: texts that stand there exactly once, and what they become."""

    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class InPython:
    """A defect of what packs operations or lays out charges."""

    target: object
    name: str
    wrong: Callable[[Callable], Callable]


def sql_mutant(*texts: str) -> InSql:
    return InSql(tuple(zip(texts[::2], texts[1::2], strict=True)))


def forgetting_of(verb: str, field: int) -> InPython:
    """A digest that leaves out one part of what an operation says."""

    def wrong(right):
        return lambda said: right("|".join(part for n, part in enumerate(said.split("|")) if n != field or not said.startswith(f"{verb}|")))

    return InPython(posting, "digest_of", wrong)


def _remainder_to_the_provider(right):
    return lambda amount, percent: (amount - amount * percent // 100, amount * percent // 100)


def _remainder_lost(right):
    return lambda amount, percent: (amount * (100 - percent) // 100, amount * percent // 100)


def _paid_pocket_first(right):
    return lambda taken_from, amount, **accounts: right(taken_from[::-1], amount, **accounts)


def _all_withdrawable(right):
    return lambda taken_from, amount, **accounts: right(taken_from, amount, **accounts | {"promo_account": 0})


MUTANTS: dict[str, InSql | InPython] = {
    "a capture may debit any account": sql_mutant(
        "IF allowed[i] < 0 THEN is_bad := true;",
        "IF allowed[i] < 0 AND EXISTS (SELECT FROM generate_series(o_first[n], o_last[n]) o WHERE spot[open_0 + o] = i) THEN is_bad := true;",
    ),
    "a capture may take 1 % more": sql_mutant(
        "i := spot[open_0 + k]; allowed[i] := allowed[i] + o_amount[k];",
        "i := spot[open_0 + k]; allowed[i] := allowed[i] + o_amount[k] * 101 / 100;",
    ),
    "a capture may take one micro-credit more": sql_mutant("IF allowed[i] < 0 THEN", "IF allowed[i] < -1 THEN"),
    "a capture may not take all": sql_mutant("IF allowed[i] < 0 THEN", "IF allowed[i] <= 0 THEN"),
    "what a capture leaves serves the next": sql_mutant("allowed[spot[open_0 + k]] := 0;", "NULL;"),
    "a resolved hold stays open": sql_mutant(
        "DELETE FROM hold h WHERE h.id = ANY (resolved);", "PERFORM FROM hold h WHERE h.id = ANY (resolved);"
    ),
    "a resolved hold keeps its money": sql_mutant("held[i] := held[i] - o_amount[k];", "NULL;"),
    "a late hold of other content exists": sql_mutant(
        "u.digest = CASE WHEN u.n > n_posts THEN x.hold_digest ELSE x.digest END THEN", "u.n > n_posts OR u.digest = x.digest THEN"
    ),
    "a late hold is placed again": sql_mutant("WHEN x.id IS NOT NULL THEN CASE", "WHEN x.id IS NOT NULL AND u.n <= n_posts THEN CASE"),
    "another hold of an open hold's id exists": sql_mutant("CASE WHEN u.digest = h.digest THEN 1 ELSE 2 END", "1"),
    "a post may use an open hold's id": sql_mutant("ELSIF o_first[n] > 0 THEN t_status[n] := 'conflict'; CONTINUE;", ""),
    "a hold keeps no room": sql_mutant("takes[k] := m; held[i] := held[i] + m;", "takes[k] := m;"),
    "a refused hold keeps its room": sql_mutant("held[i] := held[i] - takes[k];", "NULL;"),
    "pockets are emptied backwards": sql_mutant(
        "FOR k IN first .. last LOOP\n      i := spot[line_0 + k]; m := posted[i]",
        "FOR k IN REVERSE last .. first LOOP\n      i := spot[line_0 + k]; m := posted[i]",
    ),
    "a fixed line may not take all": sql_mutant("ELSIF hl_amount[k] > m THEN", "ELSIF hl_amount[k] >= m THEN"),
    "a fixed line may take too much": sql_mutant("ELSIF hl_amount[k] > m THEN", "ELSIF hl_amount[k] > m + 1 THEN"),
    "a hold may lack one micro-credit": sql_mutant("IF is_bad OR need > 0 THEN", "IF is_bad OR need > 1 THEN"),
    "a hold of nothing is placed": sql_mutant("need <= 0 OR need > most", "need < 0 OR need > most"),
    "a hold may last for no time": sql_mutant("BETWEEN 1 AND 604800", "BETWEEN 0 AND 604800"),
    "a leg may be zero": sql_mutant("IF m = 0 OR m > most", "IF m > most"),
    "units are summed together": sql_mutant("IF s1 <> 0 OR s2 <> 0 OR s3 <> 0 THEN", "IF s1 + s2 + s3 <> 0 THEN"),
    "sums are not looked at": sql_mutant("IF s1 <> 0 OR s2 <> 0 OR s3 <> 0 THEN t_status[n] := 'unbalanced'; CONTINUE; END IF;", ""),
    "nothing can be refunded": sql_mutant("IF NOT EXISTS (SELECT FROM txn x WHERE x.id = t_reverses[n]) THEN", "IF false THEN"),
    "a refund may come twice": sql_mutant(" OR EXISTS (SELECT FROM txn x WHERE x.reverses = t_reverses[n])", ""),
    "a refund may come twice in a batch": sql_mutant("t_reverses[n] = ANY (reversed) OR ", ""),
    "a refund is not noted": sql_mutant(", o_at, t_reverses, t_digest,", ", o_at, array_fill(NULL::uuid, ARRAY[n_posts]), t_digest,"),
    "the running balance is the one before": sql_mutant("e_balance[k] := m;", "e_balance[k] := m - l_amount[k];"),
    "a refused post leaves a gap": sql_mutant("seq[i] := seq[i] - 1; e_seq[k] := 0;", "e_seq[k] := 0;"),
    "a refused post keeps its money": sql_mutant("posted[i] := posted[i] - l_amount[k]; seq[i] := seq[i] - 1;", "seq[i] := seq[i] - 1;"),
    "held money may be spent": sql_mutant("AND posted[i] - held[i] < bottom[i] THEN", "AND posted[i] < bottom[i] THEN"),
    "a repeat within a batch is not seen": sql_mutant("WHEN u.times > 1 THEN 3", "WHEN false THEN 3"),
    "balances are written for holds only": sql_mutant("AND (x.held <> u.held OR x.seq <> u.seq)", "AND x.held <> u.held"),
    "the digest of a post forgets its legs' amounts": forgetting_of("post", 5),
    "the digest of a post forgets its legs' accounts": forgetting_of("post", 4),
    "the digest of a post forgets its kind": forgetting_of("post", 1),
    "the digest of a post forgets that it resolves": forgetting_of("post", 2),
    "the digest of a post forgets what it reverses": forgetting_of("post", 3),
    "the digest of a post forgets its meta": forgetting_of("post", 6),
    "the digest of a hold forgets its amount": forgetting_of("hold", 1),
    "the digest of a hold forgets its lines": forgetting_of("hold", 2),
    "the digest of a hold forgets its lines' amounts": forgetting_of("hold", 3),
    "the digest of a hold forgets its meta": forgetting_of("hold", 4),
    "a charge empties the paid pocket first": InPython(pricing, "capture_legs", _paid_pocket_first),
    "promotional credits become withdrawable": InPython(pricing, "capture_legs", _all_withdrawable),
    "the fee's remainder goes to the provider": InPython(pricing, "split_fee", _remainder_to_the_provider),
    "the fee's remainder is lost": InPython(pricing, "split_fee", _remainder_lost),
}


def mutated(changes: tuple[tuple[str, str], ...]) -> str:
    """The statement that puts a changed `ledger.apply` in the place of the right one."""
    found = re.search(r"CREATE (FUNCTION ledger\.apply\(.*?\nEND \$\$;)", KERNEL.read_text(), re.DOTALL)
    assert found
    text = found[1]
    for right, wrong in changes:
        assert text.count(right) == 1, f"stands {text.count(right)} times in ledger.apply: {right}"
        text = text.replace(right, wrong)
    return f"CREATE OR REPLACE {text}"


@contextlib.contextmanager
def planted(mutant: InSql | InPython, admin_url: str) -> Iterator[None]:
    """The product with a defect, in one database or in this process."""
    if isinstance(mutant, InPython):
        with mock.patch.object(mutant.target, mutant.name, mutant.wrong(getattr(mutant.target, mutant.name))):
            yield
        return
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("SET ROLE gfe_ledger_owner")
        admin.execute(mutated(mutant.changes).encode())
    yield


@contextlib.contextmanager
def scratch_database(server_url: str, template: str) -> Iterator[str]:
    """A copy of a migrated database that may be left in any state."""
    name = sql.Identifier(f"m_{uuid.uuid4().hex[:12]}")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO gfe_pay").format(name))
        try:
            yield make_conninfo(server_url, dbname=name.as_string().strip('"'))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def difference_found(mutant: InSql | InPython | None, server_url: str, template: str) -> str | None:
    """Hunt for a difference between model and mutant; tell the first line of it. `None` as the mutant: the product as it is."""
    with scratch_database(server_url, template) as admin_url, contextlib.ExitStack() as stack:
        if mutant is not None:
            stack.enter_context(planted(mutant, admin_url))
        books = Books(make_conninfo(admin_url, user="gfe_pay", password=PASSWORD), admin_url)
        stack.callback(books.close)
        machine = hypothesis.seed(SEED)(machine_over(books))
        try:
            with contextlib.redirect_stdout(None):
                run_state_machine_as_test(machine, settings=HUNT)
        except (AssertionError, psycopg.Error, hypothesis.errors.Flaky) as difference:
            return f"{type(difference).__name__}: {str(difference).partition(chr(10))[0][:160]}"
    return None


def main() -> int:
    with throw_away_server("-c", "fsync=off") as server:
        server_url = make_conninfo(server.admin_url, dbname="postgres")
        if found := difference_found(None, server_url, "gfe"):
            sys.stdout.write(f"the product itself differs from the model: {found}\n")
            return 1
        return hunt(MUTANTS, lambda mutant: difference_found(mutant, server_url, "gfe"))


if __name__ == "__main__":
    sys.exit(main())
