"""Holds and what becomes of them: place, capture, void, expire. Works on batches; each operation gets its own answer."""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger import pricing
from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.errors import (
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    LedgerError,
    LedgerUnavailable,
    NotFound,
    RateLimited,
)
from ledger.money import accounts
from ledger.money.accounts import AccountIds
from ledger.money.posting import POCKET, Hold, Kind, Overloaded, Post, Status, Writer
from ledger.money.prices import PriceBook
from ledger.pricing import PriceRow

SETTLEMENT_GRACE_S = 600
OPEN_JOBS_RETRY_S = 5
EXPIRY_BATCH = 200
_VOID_KINDS = {Kind.VOID, Kind.VOID_RETRYABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """What is to be held, for whom, and by whom."""

    id: uuid.UUID
    person: uuid.UUID
    key: str
    service: str
    model: str
    prompt_tokens: int
    max_tokens: int
    ttl_s: int
    compared_by: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A hold that stands."""

    id: uuid.UUID
    price: PriceRow
    held: int
    existed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What a job used, and who is to be paid."""

    id: uuid.UUID
    service: str
    outcome: pricing.Outcome
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    node: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRequest:
    """Why a hold is given back."""

    id: uuid.UUID
    service: str
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A hold that is resolved; `cost` in micro-credits."""

    cost: int
    existed: bool


@dataclass(frozen=True, slots=True)
class _OpenHold:
    accounts: tuple[int, ...]
    amounts: tuple[int, ...]
    meta: dict[str, Any]


class Holds:
    """The verbs of the product, over the kernel."""

    def __init__(self, database: Database, writer: Writer, ids: AccountIds, prices: PriceBook, *, fee_percent: int) -> None:
        self._database = database
        self._writer = writer
        self._ids = ids
        self._prices = prices
        self._fee_percent = fee_percent
        self._owners: dict[str, uuid.UUID] = {}

    # --- place --------------------------------------------------------------------------------------------------------------------

    async def place(self, requests: Sequence[HoldRequest]) -> list[Placed | LedgerError]:
        """Reserve the most each job can cost, over the person's pockets and one place of their open jobs."""
        addresses = [
            address
            for request in requests
            for address in (accounts.promo(request.person), accounts.paid(request.person), accounts.slots(request.person))
        ]
        ids = await self._ids.of(addresses)
        quoted = [await self._prices.price(request.model) for request in requests]
        holds = [_hold_of(request, price, ids) for request, price in zip(requests, quoted, strict=True)]
        statuses = await self._submit(holds)
        answers: list[Placed | LedgerError] = []
        for request, price, hold, status in zip(requests, quoted, holds, statuses, strict=True):
            answers.append(await self._placed(request, price, hold, status))
        return answers

    async def _placed(self, request: HoldRequest, price: PriceRow, hold: Hold, status: Status | LedgerError) -> Placed | LedgerError:
        if isinstance(status, LedgerError):
            return status
        if status in {Status.OK, Status.EXISTS}:
            return Placed(id=hold.id, price=price, held=hold.amount, existed=status is Status.EXISTS)
        if status is Status.FUNDS:
            return InsufficientFunds(await self.available(request.person), hold.amount)
        if status is Status.LIMIT:
            return RateLimited("open jobs", OPEN_JOBS_RETRY_S)
        if status is Status.CONFLICT:
            return IdempotencyConflict()
        return LedgerUnavailable()

    async def available(self, person: uuid.UUID) -> int:
        """Tell what a person can spend now, in micro-credits."""

        async def query(connection: Connection) -> int:
            cursor = await connection.execute(
                "SELECT coalesce(sum(posted - held), 0)::bigint FROM ledger.account WHERE address = ANY (%s)",
                [[accounts.promo(person), accounts.paid(person)]],
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

        return await self._database.run(query)

    # --- resolve ------------------------------------------------------------------------------------------------------------------

    async def resolve(self, requests: Sequence[CaptureRequest | VoidRequest]) -> list[Done | LedgerError]:
        """Capture and void. A hold resolves once; the same request again answers as the first time."""
        open_holds = await self._open_holds([request.id for request in requests])
        posts: dict[uuid.UUID, Post] = {}
        answers: dict[uuid.UUID, Done | LedgerError] = {}
        for request in requests:
            held = open_holds.get(request.id)
            if held is None:
                continue
            try:
                posts[request.id] = await self._capture_of(request, held) if isinstance(request, CaptureRequest) else _void_of(request)
            except LedgerError as refused:
                answers[request.id] = refused
        for post, status in zip(posts.values(), await self._submit(list(posts.values())), strict=True):
            if isinstance(status, LedgerError):
                answers[post.id] = status
            elif status in {Status.OK, Status.EXISTS}:
                answers[post.id] = Done(cost=(post.meta or {}).get("cost", 0), existed=status is Status.EXISTS)
        # What is not answered was resolved before, or while we looked.
        earlier = await self._resolved([request.id for request in requests if request.id not in answers])
        for request in requests:
            if request.id not in answers:
                answers[request.id] = _as_before(request, earlier.get(request.id))
        await self._next_generations([r for r in requests if isinstance(r, VoidRequest) and r.retryable], open_holds)
        return [answers[request.id] for request in requests]

    async def _capture_of(self, request: CaptureRequest, held: _OpenHold) -> Post:
        """Build the post of a capture: the cost from the price on the hold, laid over its pockets.

        Raises:
            NotFound: The node is not known; nobody could be paid.
            HoldNotOpen: The hold belongs to another service.
        """
        if held.meta.get("service") != request.service:
            raise HoldNotOpen("unknown")
        price = PriceRow(*held.meta["price"])
        pockets = tuple(zip(held.accounts[:2], held.amounts[:2], strict=True))
        total = sum(amount for _, amount in pockets)
        cost = pricing.cost(price, total, request.outcome, request.prompt_tokens, request.completion_tokens)
        owner = await self._owner(request.node)
        addresses = (accounts.promo(owner), accounts.pending(owner), accounts.FEES)
        ids = await self._ids.of(addresses)
        legs = pricing.capture_legs(
            pockets, cost, promo_account=held.accounts[0], provider_promo=ids[addresses[0]], provider_pending=ids[addresses[1]],
            fees=ids[addresses[2]], fee_percent=self._fee_percent,
        )  # fmt: skip
        meta = {
            "held": total, "cost": cost, "price": held.meta["price"], "user": held.meta["user"], "model": held.meta["model"], "node": request.node,
            "attempt": request.attempt, "outcome": request.outcome, "prompt_tokens": request.prompt_tokens,
            "completion_tokens": request.completion_tokens, "counted_by": request.counted_by,
        }  # fmt: skip
        return Post(id=request.id, kind=Kind.CAPTURE, legs=legs, resolves_hold=True, meta=meta)

    async def _owner(self, node: str) -> uuid.UUID:
        """Tell who earns with a node (owners never change: a node that changes hands gets a new id)."""
        if node not in self._owners:

            async def query(connection: Connection) -> uuid.UUID | None:
                cursor = await connection.execute("SELECT person_id FROM ledger.node WHERE id = %s AND state <> 'banned'", [node])
                row = await cursor.fetchone()
                return row[0] if row else None

            owner = await self._database.run(query)
            if owner is None:
                raise NotFound("Node", node)
            self._owners[node] = owner
        return self._owners[node]

    async def _open_holds(self, ids: list[uuid.UUID]) -> dict[uuid.UUID, _OpenHold]:
        async def query(connection: Connection) -> dict[uuid.UUID, _OpenHold]:
            cursor = await connection.execute("SELECT id, accounts, amounts, meta FROM ledger.hold WHERE id = ANY (%s)", [ids])
            return {row[0]: _OpenHold(tuple(row[1]), tuple(row[2]), row[3]) for row in await cursor.fetchall()}

        return await self._database.run(query) if ids else {}

    async def _resolved(self, ids: list[uuid.UUID]) -> dict[uuid.UUID, tuple[Kind, dict[str, Any]]]:
        async def query(connection: Connection) -> dict[uuid.UUID, tuple[Kind, dict[str, Any]]]:
            cursor = await connection.execute("SELECT id, kind, coalesce(meta, '{}') FROM ledger.txn WHERE id = ANY (%s)", [ids])
            return {row[0]: (Kind(row[1]), row[2]) for row in await cursor.fetchall()}

        return await self._database.run(query) if ids else {}

    # --- idempotency keys ---------------------------------------------------------------------------------------------------------

    async def ids_of_keys(self, requests: Sequence[tuple[uuid.UUID, str]]) -> dict[tuple[uuid.UUID, str], uuid.UUID]:
        """Derive the hold's id from (person, Idempotency-Key) and the key's generation."""

        async def upsert(connection: Connection) -> dict[tuple[uuid.UUID, str], int]:
            people, keys = [person for person, _ in wanted], [key for _, key in wanted]
            await connection.execute(
                "INSERT INTO ledger.idempotency (person_id, key) SELECT * FROM unnest(%s::uuid[], %s::text[]) ON CONFLICT DO NOTHING",
                [people, keys],
            )
            cursor = await connection.execute(
                "SELECT person_id, key, generation FROM ledger.idempotency WHERE (person_id, key) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))",
                [people, keys],
            )
            return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}

        wanted = sorted(set(requests))
        generations = await self._database.run(upsert) if wanted else {}
        return {(person, key): uuid.uuid5(person, f"{generation}:{key}") for (person, key), generation in generations.items()}

    async def _next_generations(self, voids: list[VoidRequest], holds: dict[uuid.UUID, _OpenHold]) -> None:
        """Free the keys of jobs that failed by our fault before their first token: the next try derives another id."""
        freed = [(holds[void.id].meta["user"], holds[void.id].meta.get("idempotency")) for void in voids if void.id in holds]
        freed = [(person, key) for person, key in freed if key]
        if not freed:
            return

        async def update(connection: Connection) -> None:
            await connection.execute(
                "UPDATE ledger.idempotency SET generation = generation + 1 WHERE (person_id, key) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))",
                [[person for person, _ in freed], [key for _, key in freed]],
            )

        await self._database.run(update)

    # --- loops --------------------------------------------------------------------------------------------------------------------

    async def find(self, service: str, older_than_s: int, limit: int) -> list[tuple[uuid.UUID, int]]:
        """List a service's own open holds older than that: id and age in seconds, oldest first."""

        async def query(connection: Connection) -> list[tuple[uuid.UUID, int]]:
            cursor = await connection.execute(
                "SELECT id, extract(epoch FROM clock_timestamp() - at)::int FROM ledger.hold "
                "WHERE at <= clock_timestamp() - make_interval(secs => %s) AND meta->>'service' = %s ORDER BY at LIMIT %s",
                [older_than_s, service, limit],
            )
            return [(row[0], row[1]) for row in await cursor.fetchall()]

        return await self._database.run(query)

    async def expire(self) -> int:
        """Release holds whose time is over, by the database's clock. Any number of processes may do it; each hold resolves once."""

        async def query(connection: Connection) -> list[uuid.UUID]:
            cursor = await connection.execute(
                "SELECT id FROM ledger.hold WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT %s", [EXPIRY_BATCH]
            )
            return [row[0] for row in await cursor.fetchall()]

        posts = [Post(id=id_, kind=Kind.EXPIRE, resolves_hold=True, meta={}) for id_ in await self._database.run(query)]
        return sum(status is Status.OK for status in await self._submit(posts))

    async def _submit(self, operations: Sequence[Hold | Post]) -> list[Status | LedgerError]:
        return list(await asyncio.gather(*(_answered(self._writer.submit(operation)) for operation in operations)))


async def _answered(submitted: Awaitable[Status]) -> Status | LedgerError:
    try:
        return await submitted
    except (DatabaseUnavailable, Overloaded):
        return LedgerUnavailable()


def _hold_of(request: HoldRequest, price: PriceRow, ids: dict[str, int]) -> Hold:
    amount = max(1, pricing.quote(price, request.prompt_tokens, request.max_tokens))
    meta: dict[str, Any] = {
        "user": str(request.person), "key": request.key, "service": request.service, "model": request.model,
        "price": [price.version, price.flat, price.prompt_per_million, price.completion_per_million],
    }  # fmt: skip
    if request.idempotency_key:
        meta["idempotency"] = request.idempotency_key
    lines = (
        (ids[accounts.promo(request.person)], POCKET),
        (ids[accounts.paid(request.person)], POCKET),
        (ids[accounts.slots(request.person)], 1),
    )
    return Hold(
        id=request.id, amount=amount, ttl_s=request.ttl_s + SETTLEMENT_GRACE_S, lines=lines, meta=meta, compared_by=request.compared_by
    )


def _void_of(request: VoidRequest) -> Post:
    kind = Kind.VOID_RETRYABLE if request.retryable else Kind.VOID
    return Post(id=request.id, kind=kind, resolves_hold=True, meta={"reason": request.reason})


def _as_before(request: CaptureRequest | VoidRequest, earlier: tuple[Kind, dict[str, Any]] | None) -> Done | LedgerError:
    """Answer a request whose hold is not open any more."""
    if earlier is None:
        return HoldNotOpen("unknown")
    kind, meta = earlier
    if isinstance(request, VoidRequest):
        return Done(cost=0, existed=True) if kind in _VOID_KINDS or kind is Kind.EXPIRE else HoldNotOpen("captured")
    if kind is Kind.CAPTURE:
        said = (request.outcome, request.prompt_tokens, request.completion_tokens, request.node, request.attempt)
        before = tuple(meta.get(name) for name in ("outcome", "prompt_tokens", "completion_tokens", "node", "attempt"))
        return Done(cost=int(meta["cost"]), existed=True) if said == before else HoldNotOpen("captured")
    return HoldNotOpen("expired" if kind is Kind.EXPIRE else "voided")
