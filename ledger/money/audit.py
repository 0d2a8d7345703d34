"""Every rule of the books as one check, on one read-only snapshot. The same check runs after every test that has a database."""

from dataclasses import dataclass
from typing import Any

import psycopg

MAX_ROWS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, and the rows that break it (at most `MAX_ROWS`)."""

    rule: str
    violations: tuple[tuple[Any, ...], ...]

    @property
    def is_held(self) -> bool:
        """Whether nothing breaks the rule."""
        return not self.violations


# Each rule selects the rows that break it. (faults reference 4; numbers 1 to 7 and 10 there)
RULES: tuple[tuple[str, str], ...] = (
    ("all entries of a unit sum to zero",
     "SELECT a.unit, sum(e.amount) FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id GROUP BY a.unit HAVING sum(e.amount) <> 0"),
    ("all balances of a unit sum to zero",
     "SELECT unit, sum(posted) FROM ledger.account GROUP BY unit HAVING sum(posted) <> 0"),
    ("the entries of each transaction sum to zero per unit",
     "SELECT e.txn_id, a.unit, sum(e.amount) FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id GROUP BY e.txn_id, a.unit HAVING sum(e.amount) <> 0"),
    ("each entry belongs to a transaction and to an account",
     ("SELECT e.account_id, e.seq FROM ledger.entry e LEFT JOIN ledger.txn t ON t.id = e.txn_id LEFT JOIN ledger.account a ON a.id = e.account_id "
     "WHERE t.id IS NULL OR a.id IS NULL")),
    ("each balance is the sum of its entries, without a gap in their numbers",
     ("SELECT a.address, a.posted, e.sum, a.seq, e.count, e.last FROM ledger.account a LEFT JOIN "
     "(SELECT account_id, sum(amount) AS sum, count(*) AS count, max(seq) AS last, min(seq) AS first FROM ledger.entry GROUP BY account_id) e "
     "ON e.account_id = a.id WHERE a.posted <> coalesce(e.sum, 0) OR a.seq <> coalesce(e.count, 0) OR a.seq <> coalesce(e.last, 0) OR coalesce(e.first, 1) <> 1")),
    ("each running balance follows from the one before",
     ("SELECT account_id, seq FROM (SELECT account_id, seq, balance, amount, lag(balance, 1, 0::bigint) OVER (PARTITION BY account_id ORDER BY seq) AS before "
     "FROM ledger.entry) e WHERE balance <> before + amount")),
    ("what is held on each account is the sum of its open holds",
     ("SELECT a.address, a.held, h.sum FROM ledger.account a LEFT JOIN (SELECT l.account, sum(l.amount) AS sum FROM ledger.hold h, "
     "unnest(h.accounts, h.amounts) AS l(account, amount) GROUP BY l.account) h ON h.account = a.id WHERE a.held <> coalesce(h.sum, 0)")),
    ("no account is below its floor",
     "SELECT address, posted, held, floor FROM ledger.account WHERE posted - held < floor"),
    ("no hold is open that has been resolved",
     "SELECT h.id FROM ledger.hold h JOIN ledger.txn t ON t.id = h.id"),
    ("a capture never takes more than its hold had, and a release takes nothing",
     ("SELECT t.id, (t.meta->>'held')::bigint, e.taken FROM ledger.txn t JOIN (SELECT e.txn_id, -sum(e.amount) AS taken FROM ledger.entry e "
     "JOIN ledger.account a ON a.id = e.account_id WHERE e.amount < 0 AND a.unit = 1 GROUP BY e.txn_id) e ON e.txn_id = t.id "
     "WHERE (t.kind = 2 AND e.taken > (t.meta->>'held')::bigint) OR t.kind IN (3, 4, 11)")),
    ("a refund never gives back more than was charged",
     ("SELECT r.id, c.meta->>'cost', e.back FROM ledger.txn r JOIN ledger.txn c ON c.id = r.reverses JOIN (SELECT txn_id, sum(amount) AS back FROM ledger.entry "
     "WHERE amount > 0 GROUP BY txn_id) e ON e.txn_id = r.id WHERE r.kind = 7 AND e.back > (c.meta->>'cost')::bigint")),
    ("clearing accounts hold nothing of finished payments",
     "SELECT address, posted FROM ledger.account WHERE address LIKE 'clearing:%' AND posted < 0"),
)  # fmt: skip


def audit(connection: psycopg.Connection[Any]) -> list[Finding]:
    """Check every rule inside one snapshot; the connection must not be in a transaction."""
    connection.rollback()
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        return [Finding(rule, tuple(connection.execute(f"{query} LIMIT {MAX_ROWS}".encode()).fetchall())) for rule, query in RULES]
    finally:
        connection.rollback()


def audit_at(url: str) -> list[Finding]:
    """Check every rule of the books at a database URL."""
    with psycopg.connect(url, connect_timeout=3) as connection:
        return audit(connection)
