"""What is asked of holds and what is answered: values between the API and the books."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.ids import text_of
from ledger.money.budgets import Budget
from ledger.pricing import Outcome, PriceRow

POCKETS = 2  # the first lines of a hold: promotional credits, then deposited ones


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """What is to be held, for whom, and by whom. `id` is the try's own, and the hold's unless an idempotency key derives another."""

    id: uuid.UUID
    person: uuid.UUID
    key: str
    service: str
    model: str
    prompt_tokens: int
    max_tokens: int
    ttl_s: int
    idempotency_key: str | None = None
    digest: str | None = None
    discount_percent: int = 0
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A hold that stands. `existed`: an earlier try placed it."""

    id: uuid.UUID
    price: PriceRow
    held: int
    existed: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What one node served of a job's answer, in tokens."""

    node: str
    attempt: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    """What one node served of a job for which its consumer pays nothing."""

    node: str
    attempt: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What a job used, and who is to be paid: the owner of `node`, and with it those of `shares` for their part of the answer."""

    id: uuid.UUID
    service: str
    outcome: Outcome
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    node: str
    attempt: int
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRequest:
    """Why a hold is given back, and whom the platform pays for what was served in vain."""

    id: uuid.UUID
    service: str
    reason: str
    retryable: bool
    served: Served | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A hold that is resolved; `cost` in micro-credits."""

    cost: int
    existed: bool


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold as stored: immutable, there until it is resolved."""

    accounts: Sequence[int]
    amounts: Sequence[int]
    meta: dict[str, Any]

    @property
    def pockets(self) -> tuple[tuple[int, int], ...]:
        """What is held in which pocket, in the order of spending."""
        return tuple(zip(self.accounts[:POCKETS], self.amounts[:POCKETS], strict=True))

    @property
    def budgets(self) -> Sequence[int]:
        """The accounts of the budgets that it reserves of: what stands between the pockets and the open jobs."""
        return self.accounts[POCKETS:-1]

    @property
    def held(self) -> int:
        """How many micro-credits are held."""
        return int(sum(self.amounts[:POCKETS]))

    @property
    def price(self) -> PriceRow:
        """The price that was agreed on."""
        return PriceRow(*self.meta["price"])


def job_of(id_: uuid.UUID) -> str:
    """Write the id of a hold's job."""
    return text_of("job", id_)
