"""Places holds, lists them, and tells what a repeat of a hold is. Works on batches; each request gets its own answer."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger import pricing
from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.errors import (
    BooksUnderReview,
    BudgetExceeded,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    LedgerError,
    LedgerUnavailable,
    RateLimited,
)
from ledger.money import accounts
from ledger.money.accounts import AccountIds
from ledger.money.budgets import Budget, Budgets
from ledger.money.idempotency import IdempotencyKeys, Use
from ledger.money.posting import POCKET, Hold, Kind, Status, Writer
from ledger.money.prices import PriceBook
from ledger.money.requests import HoldRequest, OpenHold, Placed
from ledger.money.submitting import submit_all
from ledger.pricing import PriceRow

SETTLEMENT_GRACE_S = 600
OPEN_JOBS_RETRY_S = 5
MAX_AMOUNT = 10**15  # the kernel's own limit, in micro-credits
TRIES = 3  # of a key whose earlier jobs failed by our fault
STATES = {Kind.CAPTURE: "captured", Kind.EXPIRE: "expired", Kind.VOID: "voided", Kind.VOID_RETRYABLE: "voided"}

Answered = Placed | LedgerError


@dataclass(frozen=True, slots=True)
class _Freed:
    """The idempotency key's job failed by our fault: the key is free for a new try."""

    use: Use


class Holds:
    """Reserves the most that jobs can cost."""

    def __init__(self, database: Database, writer: Writer, ids: AccountIds, prices: PriceBook) -> None:
        self._database = database
        self._writer = writer
        self._ids = ids
        self._prices = prices
        self._keys = IdempotencyKeys(database)
        self._budgets = Budgets(database)
        self._under_review: frozenset[str] = frozenset()

    def review(self, addresses: Iterable[str]) -> None:
        """Hold nothing new on these accounts, and again on those that are not named any more."""
        self._under_review = frozenset(addresses)

    async def place(self, requests: Sequence[HoldRequest]) -> list[Answered]:
        """Reserve the most each job can cost, over the person's pockets, the budgets of the key and one place of the open jobs.

        Raises:
            DatabaseUnavailable: Nothing was sent, or its outcome is unknown.
        """
        answers: list[Answered] = [self._refusal_before(one) for one in requests]
        waiting = [n for n, answer in enumerate(answers) if not isinstance(answer, BooksUnderReview)]
        for _ in range(TRIES if waiting else 0):
            freed: dict[int, Use] = {}
            for n, answer in zip(waiting, await self._try([requests[n] for n in waiting]), strict=True):
                if isinstance(answer, _Freed):
                    freed[n] = answer.use
                else:
                    answers[n] = answer
            if not freed:
                break
            await self._keys.free(freed.values())
            waiting = list(freed)
        return answers

    def _refusal_before(self, request: HoldRequest) -> LedgerUnavailable:
        return LedgerUnavailable() if self._under_review.isdisjoint(_addresses(request)) else BooksUnderReview()

    async def _try(self, requests: Sequence[HoldRequest]) -> list[Answered | _Freed]:
        uses = await self._keys.uses_of([(one.person, one.idempotency_key) for one in requests if one.idempotency_key])
        await self._budgets.fill(budget for one in requests for budget in one.budgets)
        ids = await self._ids.of(address for one in requests for address in _addresses(one))
        listed = await self._prices.prices([one.model for one in requests])
        prices = [pricing.discounted(price, one.discount_percent) for one, price in zip(requests, listed, strict=True)]
        holds = [
            _hold_of(one, price, ids, uses.get((one.person, one.idempotency_key)))
            for one, price in zip(requests, prices, strict=True)
        ]  # fmt: skip
        statuses = iter(await submit_all(self._writer, [hold for hold in holds if hold.amount <= MAX_AMOUNT]))
        told = [next(statuses) if hold.amount <= MAX_AMOUNT else Status.FUNDS for hold in holds]
        poor = [one.person for one, status in zip(requests, told, strict=True) if status is Status.FUNDS]
        available = await self.available(poor)
        left = await self._left([one for one, status in zip(requests, told, strict=True) if status is Status.LIMIT])
        repeated = [hold.id for hold, status in zip(holds, told, strict=True) if status is Status.EXISTS]
        earlier = await self._earlier(repeated)
        answers: list[Answered | _Freed] = []
        for request, hold, price, status in zip(requests, holds, prices, told, strict=True):
            if status is Status.OK:
                answers.append(Placed(id=hold.id, price=price, held=hold.amount, existed=False))
            elif status is Status.EXISTS:
                use = uses.get((request.person, request.idempotency_key))
                answers.append(_as_before(request, hold.id, earlier.get(hold.id), use))
            elif status is Status.FUNDS:
                answers.append(InsufficientFunds(available.get(request.person, 0), hold.amount))
            elif status is Status.LIMIT:
                answers.append(_limit_of(request.budgets, hold.amount, left))
            else:
                answers.append(_refusal_of(status))
        return answers

    async def available(self, people: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, int]:
        """Tell what people can spend now, in micro-credits; empty when the database does not say."""
        owners = {address: person for person in people for address in (accounts.promo(person), accounts.paid(person))}

        async def query(connection: Connection) -> dict[uuid.UUID, int]:
            cursor = await connection.execute("SELECT address, posted - held FROM ledger.account WHERE address = ANY (%s)", [list(owners)])
            sums = dict.fromkeys(people, 0)
            for address, free in await cursor.fetchall():
                sums[owners[address]] += free
            return sums

        try:
            return await self._database.run(query) if owners else {}
        except DatabaseUnavailable:  # the others of the batch have their answers: they must not be lost for this figure
            return {}

    async def _left(self, requests: Sequence[HoldRequest]) -> Mapping[str, int]:
        """Tell what is left of the budgets that bind requests; empty when the database does not say."""
        try:
            return await self._budgets.left([budget for one in requests for budget in one.budgets])
        except DatabaseUnavailable:
            return {}

    async def _earlier(self, ids: list[uuid.UUID]) -> dict[uuid.UUID, OpenHold | tuple[Kind, dict[str, Any]]]:
        """Find what became of holds that were placed before."""

        async def query(connection: Connection) -> dict[uuid.UUID, OpenHold | tuple[Kind, dict[str, Any]]]:
            still_open = await find_open(connection, ids)  # first: what is resolved meanwhile is found below
            return still_open | await find_resolved(connection, [id_ for id_ in ids if id_ not in still_open])

        return await self._database.run(query) if ids else {}

    async def find(self, service: str, older_than_s: int, limit: int) -> list[tuple[uuid.UUID, int]]:
        """List a service's own open holds older than that: id and age in seconds, oldest first.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> list[tuple[uuid.UUID, int]]:
            cursor = await connection.execute(
                "SELECT id, floor(extract(epoch FROM clock_timestamp() - at))::int FROM ledger.hold "
                "WHERE at <= clock_timestamp() - make_interval(secs => %s) AND meta->>'service' = %s ORDER BY at LIMIT %s",
                [older_than_s, service, limit],
            )
            return [(row[0], row[1]) for row in await cursor.fetchall()]

        return await self._database.run(query)


async def find_open(connection: Connection, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, OpenHold]:
    """Read open holds by id."""
    cursor = await connection.execute("SELECT id, accounts, amounts, meta FROM ledger.hold WHERE id = ANY (%s)", [list(ids)], binary=True)
    return {row[0]: OpenHold(row[1], row[2], row[3]) for row in await cursor.fetchall()}


async def find_resolved(connection: Connection, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[Kind, dict[str, Any]]]:
    """Read by what kind of transaction holds were resolved, and what it keeps of them."""
    cursor = await connection.execute("SELECT id, kind, coalesce(meta, '{}') FROM ledger.txn WHERE id = ANY (%s)", [list(ids)], binary=True)
    return {row[0]: (Kind(row[1]), row[2]) for row in await cursor.fetchall()}


def _addresses(request: HoldRequest) -> tuple[str, ...]:
    """List the accounts of a hold, in the order of its lines: pockets, budgets, open jobs."""
    budgets = (budget.address for budget in request.budgets)
    return accounts.promo(request.person), accounts.paid(request.person), *budgets, accounts.slots(request.person)


def _hold_of(request: HoldRequest, price: PriceRow, ids: Mapping[str, int], use: Use | None) -> Hold:
    amount = pricing.to_hold(price, request.prompt_tokens, request.max_tokens)
    meta: dict[str, Any] = {
        "user": str(request.person), "key": request.key, "service": request.service, "model": request.model,
        "price": [price.version, price.flat, price.prompt_per_million, price.completion_per_million],
    }  # fmt: skip
    if request.discount_percent:
        meta["discount_percent"] = request.discount_percent  # is in the price already; here it says why
    promo, paid, *budgets, slots = (ids[address] for address in _addresses(request))
    lines = ((promo, POCKET), (paid, POCKET), *((budget, amount) for budget in budgets), (slots, 1))
    ttl_s = request.ttl_s + SETTLEMENT_GRACE_S
    if use is None:
        return Hold(id=request.id, amount=amount, ttl_s=ttl_s, lines=lines, meta=meta)
    # A repeat is known by the request's digest, whatever the price is meanwhile; by the try's own id it is known for the same try.
    meta |= {"idempotency": use.key, "try": str(request.id)}
    return Hold(id=use.id, amount=amount, ttl_s=ttl_s, lines=lines, meta=meta, compared_by=f"{request.person}:{request.digest}")


def _as_before(
    request: HoldRequest, id_: uuid.UUID, earlier: OpenHold | tuple[Kind, dict[str, Any]] | None, use: Use | None
) -> Answered | _Freed:
    """Answer a hold that was placed before: by the same try, whose answer was lost, or by another with the same idempotency key."""
    if earlier is None:
        return LedgerUnavailable()  # not in the books after all: the caller asks again
    if isinstance(earlier, OpenHold):
        is_same_try = use is None or earlier.meta.get("try") == str(request.id)
        return Placed(id=id_, price=earlier.price, held=earlier.held, existed=not is_same_try)
    kind, meta = earlier
    if use is None:
        return HoldNotOpen(STATES.get(kind, "unknown"))
    if kind is Kind.VOID_RETRYABLE:
        return _Freed(use)
    return Placed(id=id_, price=PriceRow(*meta["price"]), held=meta["held"], existed=True)


def _limit_of(budgets: Sequence[Budget], amount: int, left: Mapping[str, int]) -> LedgerError:
    """Tell which limit a hold met: the first budget that does not cover it, or else the open jobs."""
    for budget in budgets:
        if left.get(budget.address, amount) < amount:
            return BudgetExceeded(budget.period, max(0, left[budget.address]), amount)
    return RateLimited("open jobs", OPEN_JOBS_RETRY_S)


def _refusal_of(status: Status | LedgerError) -> LedgerError:
    if isinstance(status, LedgerError):
        return status
    return IdempotencyConflict() if status is Status.CONFLICT else LedgerUnavailable()
