"""The journal, replayed by plain arithmetic: nothing of the kernel's own sums is believed."""

from collections import Counter, defaultdict
from typing import Any

import psycopg

Findings = list[str]


def differences(connection: psycopg.Connection[Any]) -> Findings:
    """Everything in which the accounts differ from what their journal and their open holds say, on one snapshot."""
    connection.rollback()
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        accounts = {
            row[0]: row[1:] for row in connection.execute("SELECT id, unit, floor, posted, held, seq FROM ledger.account").fetchall()
        }
        txns = dict(connection.execute("SELECT id, at FROM ledger.txn").fetchall())
        entries = connection.execute(
            "SELECT account_id, seq, txn_id, amount, balance FROM ledger.entry ORDER BY account_id, seq"
        ).fetchall()
        holds = connection.execute("SELECT id, accounts, amounts FROM ledger.hold").fetchall()
    finally:
        connection.rollback()
    return [*_replayed(accounts, txns, entries), *_balanced(accounts, entries), *_held(accounts, txns, holds)]


def _replayed(accounts: dict, txns: dict, entries: list) -> Findings:
    """Replay each account's entries in their order: numbers, times, running balances, floors; then compare with the account."""
    found: Findings = []
    balances: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    latest: dict[int, Any] = {}
    for account, seq, txn, amount, balance in entries:
        balances[account] += amount
        counts[account] += 1
        if seq != counts[account] or balance != balances[account]:
            found.append(f"account {account}: entry {seq} says {balance}, replayed {counts[account]} and {balances[account]}")
        if txn not in txns or account not in accounts:
            found.append(f"account {account}: entry {seq} belongs to nothing")
            continue
        if account in latest and txns[txn] < latest[account]:
            found.append(f"account {account}: entry {seq} is older than the one before")
        latest[account] = txns[txn]
        floor = accounts[account][1]
        if floor is not None and balances[account] < floor:
            found.append(f"account {account}: entry {seq} goes below the floor")
    for account, (_, _, posted, _, seq) in accounts.items():
        if posted != balances[account] or seq != counts[account]:
            found.append(f"account {account}: {posted} after {seq}, replayed {balances[account]} after {counts[account]}")
    return found


def _balanced(accounts: dict, entries: list) -> Findings:
    sums: defaultdict[Any, Counter[int]] = defaultdict(Counter)
    for account, _, txn, amount, _ in entries:
        sums[txn][accounts[account][0]] += amount
    return [f"transaction {txn} does not sum to zero" for txn, units in sums.items() if any(units.values())]


def _held(accounts: dict, txns: dict, holds: list) -> Findings:
    sums: Counter[int] = Counter()
    for _, ids, amounts in holds:
        for account, amount in zip(ids, amounts, strict=True):
            sums[account] += amount
    found = [f"hold {id_} is open and resolved" for id_, _, _ in holds if id_ in txns]
    for account, (_, floor, posted, held, _) in accounts.items():
        if held != sums[account] or (floor is not None and posted - held < floor):
            found.append(f"account {account}: {posted} with {held} held, open holds say {sums[account]}")
    return found
