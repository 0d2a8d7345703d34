"""The audit of every minute: what was posted since the last one, from a mark per account; cheap however long the history is.

The full audit (`ledger.money.audit`) proves everything from the first entry on; this one proves that nothing went wrong since it last
looked, and what holds reserve. All on one snapshot.
"""

from ledger.db import Connection
from ledger.money.audit import Finding

LOCK = "ledger audit"

_NEW = (
    "SELECT a.id, a.address, a.posted, a.seq, coalesce(m.seq, 0) AS mark, coalesce(m.balance, 0) AS balance FROM ledger.account a "
    "LEFT JOIN ledger.audit_mark m ON m.account_id = a.id WHERE a.seq <> coalesce(m.seq, 0) OR a.posted <> coalesce(m.balance, 0)"
)
RULES: tuple[tuple[str, str], ...] = (
    ("each balance is the one before plus its new entries, without a gap",
     (f"WITH new AS ({_NEW}) SELECT n.address, n.posted, n.balance, s.sum, n.seq, n.mark, s.count FROM new n "  # noqa: S608
     "LEFT JOIN LATERAL (SELECT coalesce(sum(e.amount), 0) AS sum, count(*) AS count FROM ledger.entry e WHERE e.account_id = n.id "
     "AND e.seq > n.mark) s ON true WHERE n.posted <> n.balance + s.sum OR n.seq <> n.mark + s.count")),
    ("the new entries of each transaction sum to zero per unit",
     (f"WITH new AS ({_NEW}) SELECT e.txn_id, a.unit, sum(e.amount) FROM new n JOIN ledger.entry e ON e.account_id = n.id AND e.seq > n.mark "  # noqa: S608
     "JOIN ledger.account a ON a.id = n.id GROUP BY e.txn_id, a.unit HAVING sum(e.amount) <> 0")),
    ("what is held on each account is the sum of its open holds",
     ("SELECT a.address, a.held, h.sum FROM ledger.account a FULL JOIN (SELECT l.account, sum(l.amount) AS sum FROM ledger.hold h, "
     "unnest(h.accounts, h.amounts) AS l(account, amount) GROUP BY l.account) h ON h.account = a.id WHERE coalesce(a.held, 0) <> coalesce(h.sum, 0)")),
    ("no account is below its floor", "SELECT address, posted, held, floor FROM ledger.account WHERE posted - held < floor"),
)  # fmt: skip
MAX_ROWS = 20


async def audit_new(connection: Connection) -> list[Finding] | None:
    """Check what is new and move the marks; None: another process is at it. A violation leaves the marks where they were."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [LOCK])
        row = await cursor.fetchone()
        if not row or not row[0]:
            return None
        findings = []
        for rule, query in RULES:
            cursor = await connection.execute(f"{query} LIMIT {MAX_ROWS}".encode())
            findings.append(Finding(rule, tuple(await cursor.fetchall())))
        if all(found.is_held for found in findings):
            await connection.execute(
                f"INSERT INTO ledger.audit_mark (account_id, seq, balance) SELECT id, seq, posted FROM ({_NEW}) n "  # noqa: S608
                "ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq, balance = excluded.balance"
            )
        return findings
