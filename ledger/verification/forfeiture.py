"""What a ban does to money: consumers of flagged jobs get theirs back, and what the node had not been paid out is forfeited.

A node answers with its own escrow and, where a job was paid with promotional credits, with what is left of them in its owner's pocket; after
a ban with what it forfeited. Nobody else pays: a refund is as much as is there, at most what the job cost, and once, for a transaction is
reversed once. What lacks is in the transaction and in the audit log; an operator may make it good by a correction.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger.audit_log import note
from ledger.db import Connection
from ledger.errors import LedgerUnavailable
from ledger.ids import text_of
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply
from ledger.verification.records import SYSTEM, Locked
from ledger.verification.rules import STRIKE_WINDOW

Leg = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Paid:
    """What a capture took from its consumer's pockets, in their order of being given back, and gave to the node and to the platform."""

    job: UUID
    pockets: tuple[Leg, ...]
    to_escrow: int
    to_promo: int
    fee: int
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """An account that a refund may be taken from, and how much of it at most."""

    account: int
    amount: int


def refund_legs(pockets: Sequence[Leg], sources: Iterable[Source], wanted: int) -> tuple[tuple[Leg, ...], int]:
    """Take `wanted` from the sources, in their order, and lay it over the pockets, in theirs; answer the legs and what lacks. Pure."""
    legs: dict[int, int] = {}
    lacking = wanted
    for source in sources:
        part = min(lacking, source.amount)
        if part > 0:
            legs[source.account] = legs.get(source.account, 0) - part
            lacking -= part
    left = wanted - lacking
    for account, most in pockets:
        part = min(left, most)
        if part > 0:
            legs[account] = legs.get(account, 0) + part
            left -= part
    return tuple((account, amount) for account, amount in legs.items() if amount), lacking


async def forfeit(connection: Connection, node: Locked) -> None:
    """Refund the flagged jobs of a node, then take what is left of its escrow, in the transaction of the caller, who locked the node."""
    cursor = await connection.execute(
        "SELECT v.job_id FROM ledger.audit_verdict v WHERE v.node_id = %(node)s AND v.is_flagged AND v.rule IN ('A', 'B') "
        "AND v.at > coalesce((SELECT max(at) FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pardon'), '-infinity') "
        "ORDER BY v.at DESC LIMIT %(most)s",
        {"node": node.id, "most": STRIKE_WINDOW},
    )
    for (job,) in await cursor.fetchall():
        await refund_job(connection, node, job)
    escrow, kept = accounts.pending(node.person, node.id), accounts.forfeited(node.id)
    ids = await accounts.open_accounts(connection, [escrow, kept])
    left = await _free(connection, ids[escrow])
    if left:
        number = await _entries(connection, ids[kept])
        await _move(connection, Kind.FORFEITURE, node.id, number, ids[escrow], ids[kept], left)
        await note(connection, SYSTEM, "node.forfeited", node.id, amount=left)


async def refund_job(connection: Connection, node: Locked, job: UUID) -> None:
    """Give the consumer of a flagged job back what it cost, as far as the node has it; nothing when it was given back before."""
    ids = await accounts.open_accounts(
        connection,
        [accounts.FEES, accounts.promo(node.person), accounts.pending(node.person, node.id), accounts.forfeited(node.id)],
    )  # fmt: skip
    fees, promo, escrow, kept = ids.values()
    paid = await _read_paid(connection, job, node.id, fees=fees, promo=promo, escrow=escrow)
    if paid is None:
        return
    wanted = paid.to_escrow + paid.to_promo + paid.fee
    own = [Source(fees, min(paid.fee, await _free(connection, fees))), Source(promo, min(paid.to_promo, await _free(connection, promo)))]
    own += [Source(account, await _free(connection, account)) for account in (escrow, kept)]
    for sources in (own, own[:1] + own[2:]):  # the owner may be spending from that pocket at this moment
        legs, lacking = refund_legs(paid.pockets, sources, wanted)
        if not legs:
            break
        meta = {
            "job": text_of("job", job),
            "model": paid.meta.get("model"),
            "user": paid.meta.get("user"),
            "audited": node.id,
            "lacking": lacking,
        }
        (status,) = await apply(connection, [Post(id=uuid.uuid5(job, "refund"), kind=Kind.REFUND, legs=legs, reverses=job, meta=meta)])
        if status is not Status.FUNDS:
            break
    else:
        raise LedgerUnavailable  # nothing of this commits, and the verdict is reported again
    await note(connection, SYSTEM, "refund", text_of("job", job), reason="flagged by an audit", amount=wanted - lacking, lacking=lacking)


async def give_back(connection: Connection, node: Locked) -> int:
    """Return what a node forfeited to its escrow, and from `platform:goodwill` what its consumers were refunded; answer how much."""
    escrow, promo = accounts.pending(node.person, node.id), accounts.promo(node.person)
    ids = await accounts.open_accounts(connection, [escrow, promo, accounts.forfeited(node.id), accounts.GOODWILL])
    kept = ids[accounts.forfeited(node.id)]
    left, number = await _free(connection, kept), await _entries(connection, ids[escrow])
    if left:
        await _move(connection, Kind.FORFEITURE_RETURNED, node.id, number, kept, ids[escrow], left)
    cursor = await connection.execute(
        "SELECT coalesce(-sum(e.amount), 0)::bigint FROM ledger.audit_verdict v JOIN ledger.txn t ON t.reverses = v.job_id AND t.meta->>'audited' = v.node_id "
        "JOIN ledger.entry e ON e.txn_id = t.id AND e.account_id = ANY (%(own)s) WHERE v.node_id = %(node)s AND v.is_flagged "
        "AND v.at > coalesce((SELECT max(at) FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pardon'), '-infinity')",
        {"node": node.id, "own": [ids[escrow], ids[promo], kept]},
    )
    row = await cursor.fetchone()
    refunded = int(row[0]) if row else 0
    if refunded:
        await _move(connection, Kind.ADJUSTMENT, node.id, number, ids[accounts.GOODWILL], ids[escrow], refunded)
    return left + refunded


async def _read_paid(connection: Connection, job: UUID, node: str, *, fees: int, promo: int, escrow: int) -> Paid | None:
    """Read what a job's capture did; None: it was never charged, not paid to this node, or is given back already."""
    cursor = await connection.execute(
        "SELECT coalesce(meta, '{}') FROM ledger.txn t WHERE t.id = %s AND t.kind = %s AND NOT EXISTS (SELECT FROM ledger.txn r WHERE r.reverses = t.id)",
        [job, int(Kind.CAPTURE)],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    cursor = await connection.execute(
        "SELECT e.account_id, e.amount, split_part(a.address, ':', 3) = 'promo' FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id "
        "WHERE e.txn_id = %s AND a.unit = %s ORDER BY e.account_id",
        [job, accounts.CREDIT],
    )
    legs = await cursor.fetchall()
    gains = {account: amount for account, amount, _ in legs if amount > 0}
    # Deposited credits first, where not all can be given back: promotional ones were a present.
    pockets = sorted(((is_promo, account, -amount) for account, amount, is_promo in legs if amount < 0))
    is_alone = row[0].get("node") == node and not row[0].get("shares")  # of several nodes each answers for its own escrow
    return Paid(
        job, tuple((account, amount) for _, account, amount in pockets), gains.get(escrow, 0), gains.get(promo, 0) if is_alone else 0,
        gains.get(fees, 0) if is_alone else 0, row[0],
    )  # fmt: skip


async def _move(connection: Connection, kind: Kind, node: str, number: int, source: int, target: int, amount: int) -> None:
    """Move an amount in one post. `number` tells a node's moves of one kind apart: it grows with every one of them."""
    post = Post(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{kind.name}:{node}:{number}"),
        kind=kind,
        legs=((source, -amount), (target, amount)),
        meta={"node": node},
    )
    if await apply(connection, [post]) != [Status.OK]:
        raise LedgerUnavailable  # nothing of this commits


async def _free(connection: Connection, account: int) -> int:
    return await _number(connection, "SELECT greatest(posted - held, 0) FROM ledger.account WHERE id = %s", account)


async def _entries(connection: Connection, account: int) -> int:
    return await _number(connection, "SELECT seq FROM ledger.account WHERE id = %s", account)


async def _number(connection: Connection, question: str, account: int) -> int:
    row = await (await connection.execute(question.encode(), [account])).fetchone()
    assert row is not None
    return int(row[0])
