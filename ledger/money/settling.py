"""Resolves holds: capture, void, expire. Works on batches; each request gets its own answer."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from ledger import pricing
from ledger.db import Connection, Database
from ledger.errors import HoldNotOpen, LedgerError
from ledger.money import accounts
from ledger.money.accounts import AccountIds
from ledger.money.holds import STATES, find_open, find_resolved
from ledger.money.posting import Kind, Post, Status, Writer
from ledger.money.requests import CaptureRequest, Done, OpenHold, Served, VoidRequest
from ledger.money.submitting import submit_all
from ledger.pricing import Earner

log = structlog.get_logger()
EXPIRY_BATCH = 200
RESOLVED = {Status.OK, Status.EXISTS}
SAID = ("outcome", "prompt_tokens", "completion_tokens", "node", "attempt")  # what makes two captures the same, with their shares

Request = CaptureRequest | VoidRequest
Answered = Done | LedgerError


class Settling:
    """Turns holds into payments, or gives them back. `owner_of` tells who earns with a consumer's job on a node, or raises.

    `key_of` tells the public key of a node: the books keep it, so that what the node signed can be checked when it has another one.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        ids: AccountIds,
        owner_of: Callable[[str, uuid.UUID], Awaitable[uuid.UUID]],
        key_of: Callable[[str], Awaitable[str | None]],
        *,
        fee_percent: int,
        goodwill_per_day: int | None = None,
        worked: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`goodwill_per_day`: the most that is paid from it in 24 hours, in micro-credits; None: any amount. `worked` hears of each paid job's node."""
        self._database = database
        self._writer = writer
        self._ids = ids
        self._owner_of = owner_of
        self._key_of = key_of
        self._fee_percent = fee_percent
        self._goodwill_per_day = goodwill_per_day
        self._worked = worked
        self._paying_goodwill = asyncio.Lock()

    async def open_holds(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, OpenHold]:
        """Read the holds that are to be resolved.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> dict[uuid.UUID, OpenHold]:
            return await find_open(connection, ids)

        return await self._database.run(query) if ids else {}

    async def resolve(self, requests: Sequence[Request], known: Mapping[uuid.UUID, OpenHold] | None = None) -> list[Answered]:
        """Capture and void. A hold resolves once; the same request again answers as the first time.

        `known` are their holds where they were read already: then everything that goes to the writer goes before the first wait.

        Raises:
            DatabaseUnavailable: The outcome is unknown; the same requests may be sent again.
        """
        answers: dict[int, Answered] = {}
        waiting = list(range(len(requests)))
        while waiting:  # requests for the same hold go one after the other, in their order
            firsts = {requests[n].id: n for n in reversed(waiting)}
            chosen = list(firsts.values())
            chosen_requests = [requests[n] for n in chosen]
            if known is None:
                known = await self.open_holds(list(firsts))
            answers |= dict(zip(chosen, await self._resolve(chosen_requests, known), strict=True))
            known = None
            waiting = [n for n in waiting if n not in answers]
        return [answers[n] for n in range(len(requests))]

    async def _resolve(self, requests: Sequence[Request], open_holds: Mapping[uuid.UUID, OpenHold]) -> list[Answered]:
        """Resolve holds, no id twice."""
        answers: dict[uuid.UUID, Answered] = {}
        posts: list[Post] = []
        await self._pay_goodwill(requests, open_holds)
        for request in requests:
            held = open_holds.get(request.id)
            if held is None:
                continue
            try:
                posts.append(await self._post_of(request, held))
            except LedgerError as refused:
                answers[request.id] = refused
        for post, status in zip(posts, await submit_all(self._writer, posts), strict=True):
            if isinstance(status, LedgerError):
                answers[post.id] = status
            elif status in RESOLVED:
                answers[post.id] = Done(cost=(post.meta or {}).get("cost", 0), existed=status is Status.EXISTS)
                if post.kind is Kind.CAPTURE and status is Status.OK:
                    self._worked((post.meta or {})["node"])
        # What is not answered was resolved before, or while we looked.
        earlier = await self._resolved([request.id for request in requests if request.id not in answers])
        return [answers[one.id] if one.id in answers else _as_before(one, earlier.get(one.id)) for one in requests]

    async def _post_of(self, request: Request, held: OpenHold) -> Post:
        """Build what resolves a hold.

        Raises:
            HoldNotOpen: The hold belongs to another service.
            NotFound: The node is not known; nobody could be paid.
            OwnNode: The consumer would be paid.
        """
        if held.meta.get("service") != request.service:
            raise HoldNotOpen("unknown")
        if isinstance(request, VoidRequest):
            kind = Kind.VOID_RETRYABLE if request.retryable else Kind.VOID
            return Post(id=request.id, kind=kind, resolves_hold=True, meta=_kept(held) | {"reason": request.reason})
        cost = pricing.cost(held.price, held.held, request.outcome, request.prompt_tokens, request.completion_tokens)
        ids = await self._ids.of((accounts.FEES, accounts.ALLOWANCES))
        earners, key = await self._earners(request, held), await self._key_of(request.node)
        legs = pricing.capture_legs(
            held.pockets, cost, promo_account=held.accounts[0], earners=earners, fees=ids[accounts.FEES],
            fee_percent=self._fee_percent,
        )  # fmt: skip
        if cost and held.budgets:
            legs = (*legs, *((budget, -cost) for budget in held.budgets), (ids[accounts.ALLOWANCES], cost * len(held.budgets)))
        meta = _kept(held) | {
            "cost": cost, "node": request.node, "attempt": request.attempt, "outcome": request.outcome, "counted_by": request.counted_by,
            "prompt_tokens": request.prompt_tokens, "completion_tokens": request.completion_tokens,
        } | _said_shares(request) | ({"node_key": key} if key else {})  # fmt: skip
        return Post(id=request.id, kind=Kind.CAPTURE, legs=legs, resolves_hold=True, meta=meta)

    async def _earners(self, request: CaptureRequest, held: OpenHold) -> list[Earner]:
        """Tell who earns: the owners of the nodes that served it, the one that finished it last.

        Raises:
            NotFound: A node is not known.
            OwnNode: The consumer would be paid.
        """
        consumer = uuid.UUID(held.meta["user"])
        before = sum(share.tokens for share in request.shares)
        parts = [(share.node, share.tokens) for share in request.shares] + [(request.node, max(0, request.completion_tokens - before))]
        earners = []
        for node, tokens in parts:
            owner = await self._owner_of(node, consumer)
            promo, pending = accounts.promo(owner), accounts.pending(owner, node)
            ids = await self._ids.of((promo, pending))
            earners.append(Earner(ids[promo], ids[pending], tokens))
        return earners

    async def _pay_goodwill(self, requests: Sequence[Request], open_holds: Mapping[uuid.UUID, OpenHold]) -> None:
        """Pay from the platform's goodwill who served what is given back; before the hold goes, so that a repeat finds both to do.

        Nobody but the calling service says what was served, and no consumer pays it: hence the bound per day (docs/threat-model.md).
        """
        posts = [
            post
            for request in requests
            if isinstance(request, VoidRequest) and request.served and (held := open_holds.get(request.id))
            if (post := await self._goodwill_of(request, request.served, held)) is not None
        ]
        if not posts:
            return
        async with self._paying_goodwill:
            paid = await self._within_bound(posts)
            for post in posts:
                if post not in paid:
                    log.error("goodwill_not_paid", post=str(post.id), status="over the bound per day (GFE_GOODWILL_PER_DAY)")
            for post, status in zip(paid, await submit_all(self._writer, paid), strict=True):
                if status not in RESOLVED:
                    log.warning("goodwill_not_paid", post=str(post.id), status=str(status))

    async def _within_bound(self, posts: Sequence[Post]) -> list[Post]:
        """Choose the payments that fit into what is left of the day's bound."""
        if self._goodwill_per_day is None:
            return list(posts)
        left = self._goodwill_per_day - await self._goodwill_of_day()
        chosen = []
        for post in posts:
            _, amount = post.legs[1]
            if amount <= left:
                chosen.append(post)
                left -= amount
        return chosen

    async def _goodwill_of_day(self) -> int:
        """Sum what the last 24 hours' broken jobs cost, by the database's clock."""
        ids = await self._ids.of((accounts.GOODWILL,))

        async def query(connection: Connection) -> int:
            cursor = await connection.execute(
                "SELECT coalesce(-sum(e.amount), 0)::bigint FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id "
                "WHERE e.account_id = %s AND t.kind = %s AND t.at > clock_timestamp() - interval '24 hours'",
                [ids[accounts.GOODWILL], Kind.GOODWILL],
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

        return await self._database.run(query)

    async def _goodwill_of(self, request: VoidRequest, served: Served, held: OpenHold) -> Post | None:
        """Build the payment: what the provider would have got for these tokens; None where that is nothing, or nobody could be paid."""
        if held.meta.get("service") != request.service:
            return None
        try:
            owner = await self._owner_of(served.node, uuid.UUID(held.meta["user"]))
        except LedgerError:
            return None
        cost = pricing.cost(held.price, held.held, "incomplete", served.prompt_tokens, served.completion_tokens)
        share, _ = pricing.split_fee(cost, self._fee_percent)
        if not share:
            return None
        ids = await self._ids.of((accounts.GOODWILL, pending := accounts.pending(owner, served.node)))
        meta = _kept(held) | {"node": served.node, "attempt": served.attempt, "completion_tokens": served.completion_tokens}
        id_ = uuid.uuid5(request.id, "goodwill")
        return Post(id=id_, kind=Kind.GOODWILL, legs=((ids[accounts.GOODWILL], -share), (ids[pending], share)), meta=meta)

    async def _resolved(self, ids: list[uuid.UUID]) -> dict[uuid.UUID, tuple[Kind, dict[str, Any]]]:
        async def query(connection: Connection) -> dict[uuid.UUID, tuple[Kind, dict[str, Any]]]:
            return await find_resolved(connection, ids)

        return await self._database.run(query) if ids else {}

    async def expire(self) -> int:
        """Release holds whose time is over, by the database's clock. Any number of processes may do it; each hold resolves once.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> dict[uuid.UUID, OpenHold]:
            cursor = await connection.execute(
                "SELECT id, accounts, amounts, meta FROM ledger.hold WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT %s",
                [EXPIRY_BATCH],
            )
            return {row[0]: OpenHold(row[1], row[2], row[3]) for row in await cursor.fetchall()}

        over = await self._database.run(query)
        posts = [Post(id=id_, kind=Kind.EXPIRE, resolves_hold=True, meta=_kept(held)) for id_, held in over.items()]
        return sum(status is Status.OK for status in await submit_all(self._writer, posts))


def _kept(held: OpenHold) -> dict[str, Any]:
    """What the transaction keeps of its hold."""
    return {"held": held.held, "price": held.meta["price"], "user": held.meta["user"], "model": held.meta["model"]}


def _as_before(request: Request, earlier: tuple[Kind, dict[str, Any]] | None) -> Answered:
    """Answer a request whose hold is not open any more."""
    if earlier is None:
        return HoldNotOpen("unknown")
    kind, meta = earlier
    if kind not in STATES:
        return HoldNotOpen("unknown")  # the id of something that never was a hold
    if isinstance(request, VoidRequest):
        return HoldNotOpen("captured") if kind is Kind.CAPTURE else Done(cost=0, existed=True)
    is_same = all(meta.get(name) == getattr(request, name) for name in SAID) and meta.get("shares") == _said_shares(request).get("shares")
    if kind is Kind.CAPTURE and is_same:
        return Done(cost=int(meta["cost"]), existed=True)
    return HoldNotOpen(STATES[kind])


def _said_shares(request: CaptureRequest) -> dict[str, Any]:
    """What is kept of what other nodes served."""
    return {"shares": [[share.node, share.attempt, share.tokens] for share in request.shares]} if request.shares else {}
