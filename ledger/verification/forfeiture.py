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


@dataclass(frozen=True, slots=True)
class Purse:
    """Where refunds of a node's jobs may come from, and what is `left` of its own: promotional pocket, escrow, forfeited. Changes as it is used."""

    fees: int
    promo: int
    escrow: int
    kept: int
    left: dict[int, int]


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund that is to be posted: how much of the job's cost, and what lacks; no post where all of it does."""

    job: UUID
    amount: int
    lacking: int
    post: Post | None


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


async def forfeit(connection: Connection, node: Locked) -> int:
    """Refund the flagged jobs of a node, then take what is left of its escrow, in the transaction of the caller, who locked the node; answer how much."""
    cursor = await connection.execute(
        "SELECT v.job_id FROM ledger.audit_verdict v WHERE v.node_id = %(node)s AND v.is_flagged AND v.rule IN ('A', 'B') "
        "AND v.at > coalesce((SELECT max(at) FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pardon'), '-infinity') "
        "ORDER BY v.at DESC LIMIT %(most)s",
        {"node": node.id, "most": STRIKE_WINDOW},
    )
    return await _settle(connection, node, [job for (job,) in await cursor.fetchall()], is_forfeited=True)


async def refund_job(connection: Connection, node: Locked, job: UUID) -> None:
    """Give the consumer of a flagged job back what it cost, as far as the node has it; nothing when it was given back before."""
    await _settle(connection, node, [job], is_forfeited=False)


async def _settle(connection: Connection, node: Locked, jobs: Sequence[UUID], *, is_forfeited: bool) -> int:
    """Refund jobs and take the rest, in one call of the books: it locks all their accounts in one order, so that nobody waits crosswise.

    Answers how much was taken.
    """
    purse = await _open_purse(connection, node)
    paid = [one for job in jobs if (one := await _read_paid(connection, job, node.id, purse)) is not None]
    refunds = {one.job: _refund_of(one, node, purse) for one in paid}
    posts = [refund.post for refund in refunds.values() if refund.post]
    rest = purse.left[purse.escrow] if is_forfeited else 0
    if rest:
        number = await _entries(connection, purse.kept)
        posts.append(_moved(Kind.FORFEITURE, node.id, number, ((purse.escrow, -rest), (purse.kept, rest))))
    statuses = await _post_surely(connection, posts, {Status.OK, Status.FUNDS})
    if rest and statuses[-1] is not Status.OK:
        raise LedgerUnavailable
    short = {post.id for post, status in zip(posts, statuses, strict=True) if status is Status.FUNDS}
    if short:  # the owner is spending from the promotional pocket at this moment
        purse = await _open_purse(connection, node)
        purse.left[purse.promo] = 0
        again = {one.job: _refund_of(one, node, purse) for one in paid if uuid.uuid5(one.job, "refund") in short}
        await _post_surely(connection, [refund.post for refund in again.values() if refund.post], {Status.OK})
        refunds |= again
    for refund in refunds.values():
        why = {"reason": "flagged by an audit", "amount": refund.amount, "lacking": refund.lacking}
        await note(connection, SYSTEM, "refund", text_of("job", refund.job), **why)
    if rest:
        await note(connection, SYSTEM, "node.forfeited", node.id, amount=rest)
    return rest


async def _post_surely(connection: Connection, posts: Sequence[Post], fine: set[Status]) -> list[Status]:
    """Post, and have nothing of the transaction commit when the books say something else than what is fine: then it is reported again."""
    statuses = await apply(connection, posts) if posts else []
    if not fine.issuperset(statuses):
        raise LedgerUnavailable
    return statuses


def _refund_of(paid: Paid, node: Locked, purse: Purse) -> Refund:
    """Build a job's refund out of what is left in the purse."""
    wanted = paid.to_escrow + paid.to_promo + paid.fee
    sources = [
        Source(purse.fees, paid.fee), Source(purse.promo, min(paid.to_promo, purse.left[purse.promo])),
        *(Source(account, purse.left[account]) for account in (purse.escrow, purse.kept)),
    ]  # fmt: skip
    legs, lacking = refund_legs(paid.pockets, sources, wanted)
    for account, amount in legs:
        if account in purse.left:
            purse.left[account] += amount
    meta = {"job": text_of("job", paid.job), "model": paid.meta.get("model"), "user": paid.meta.get("user"), "audited": node.id}
    post = Post(id=uuid.uuid5(paid.job, "refund"), kind=Kind.REFUND, legs=legs, reverses=paid.job, meta=meta | {"lacking": lacking})
    return Refund(paid.job, wanted - lacking, lacking, post if legs else None)


async def give_back(connection: Connection, node: Locked) -> int:
    """Return what a node forfeited to its escrow, and from `platform:goodwill` what its consumers were refunded; answer how much."""
    purse = await _open_purse(connection, node)
    ids = await accounts.open_accounts(connection, [accounts.GOODWILL])
    forfeited, number = purse.left[purse.kept], await _entries(connection, purse.escrow)
    cursor = await connection.execute(
        "SELECT coalesce(-sum(e.amount), 0)::bigint FROM ledger.audit_verdict v JOIN ledger.txn t ON t.reverses = v.job_id AND t.meta->>'audited' = v.node_id "
        "JOIN ledger.entry e ON e.txn_id = t.id AND e.account_id = ANY (%(own)s) WHERE v.node_id = %(node)s AND v.is_flagged "
        "AND v.at > coalesce((SELECT max(at) FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pardon'), '-infinity')",
        {"node": node.id, "own": list(purse.left)},
    )
    row = await cursor.fetchone()
    assert row is not None
    refunded = int(row[0])
    moves = ((Kind.FORFEITURE_RETURNED, purse.kept, forfeited), (Kind.ADJUSTMENT, ids[accounts.GOODWILL], refunded))
    posts = [_moved(kind, node.id, number, ((source, -amount), (purse.escrow, amount))) for kind, source, amount in moves if amount]
    await _post_surely(connection, posts, {Status.OK})
    return forfeited + refunded


def _moved(kind: Kind, node: str, number: int, legs: tuple[Leg, ...]) -> Post:
    """Build a move. `number` tells a node's moves of one kind apart: each of them makes it grow."""
    return Post(id=uuid.uuid5(uuid.NAMESPACE_OID, f"{kind.name}:{node}:{number}"), kind=kind, legs=legs, meta={"node": node})


async def _open_purse(connection: Connection, node: Locked) -> Purse:
    addresses = (accounts.FEES, accounts.promo(node.person), accounts.pending(node.person, node.id), accounts.forfeited(node.id))
    ids = await accounts.open_accounts(connection, list(addresses))
    fees, promo, escrow, kept = (ids[address] for address in addresses)
    return Purse(fees, promo, escrow, kept, {account: await _free(connection, account) for account in (promo, escrow, kept)})


async def _read_paid(connection: Connection, job: UUID, node: str, purse: Purse) -> Paid | None:
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
    if not legs:
        return None
    gains = {account: amount for account, amount, _ in legs if amount > 0}
    # Deposited credits first, where not all can be given back: promotional ones were a present.
    pockets = sorted(((is_promo, account, -amount) for account, amount, is_promo in legs if amount < 0))
    is_alone = row[0].get("node") == node and not row[0].get("shares")  # of several nodes each answers for its own escrow
    return Paid(
        job, tuple((account, amount) for _, account, amount in pockets), gains.get(purse.escrow, 0),
        gains.get(purse.promo, 0) if is_alone else 0, gains.get(purse.fees, 0) if is_alone else 0, row[0],
    )  # fmt: skip


async def _free(connection: Connection, account: int) -> int:
    return await _number(connection, "SELECT greatest(posted - held, 0) FROM ledger.account WHERE id = %s", account)


async def _entries(connection: Connection, account: int) -> int:
    return await _number(connection, "SELECT seq FROM ledger.account WHERE id = %s", account)


async def _number(connection: Connection, question: str, account: int) -> int:
    row = await (await connection.execute(question.encode(), [account])).fetchone()
    assert row is not None
    return int(row[0])
