"""What a job may cost and what it did cost. Pure.

cost = flat + ceil((prompt tokens · P + completion tokens · C) / 1,000,000), once per job, never above the hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOKENS_PER_PRICE = 1_000_000
Outcome = Literal["succeeded", "incomplete", "canceled"]


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One immutable price; micro-credits, per job and per million tokens."""

    version: int
    flat: int
    prompt_per_million: int
    completion_per_million: int


def discounted(price: PriceRow, percent: int) -> PriceRow:
    """Take a discount off each rate, rounded up to a whole micro-credit; the version still names the row it comes from."""
    return PriceRow(
        price.version, *(-(-rate * (100 - percent) // 100) for rate in (price.flat, price.prompt_per_million, price.completion_per_million))
    )


def tokens_cost(price: PriceRow, prompt_tokens: int, completion_tokens: int) -> int:
    """Price tokens, rounded up to a whole micro-credit once."""
    exact = prompt_tokens * price.prompt_per_million + completion_tokens * price.completion_per_million
    return -(-exact // TOKENS_PER_PRICE)


def quote(price: PriceRow, prompt_tokens: int, max_tokens: int) -> int:
    """Tell the most a job can cost."""
    return price.flat + tokens_cost(price, prompt_tokens, max_tokens)


def to_hold(price: PriceRow, prompt_tokens: int, max_tokens: int) -> int:
    """Tell what is held for a job: the most it can cost; at least a micro-credit, since the books refuse an empty hold."""
    return max(1, quote(price, prompt_tokens, max_tokens))


def cost(price: PriceRow, held: int, outcome: Outcome, prompt_tokens: int, completion_tokens: int) -> int:
    """Tell what a job did cost. An `incomplete` one was ended by the platform or the provider: tokens only, no flat tariff."""
    flat = 0 if outcome == "incomplete" else price.flat
    return min(held, flat + tokens_cost(price, prompt_tokens, completion_tokens))


def split_fee(amount: int, fee_percent: int) -> tuple[int, int]:
    """Split a cost into the provider's share and the platform's fee; the remainder goes to the fee, so that share + fee = amount."""
    share = amount * (100 - fee_percent) // 100
    return share, amount - share


@dataclass(frozen=True, slots=True)
class Earner:
    """Who earns with a job: its two accounts, and its part, in tokens."""

    promo: int
    pending: int
    tokens: int


def parts_of(amount: int, earners: Sequence[Earner]) -> tuple[int, ...]:
    """Split an amount by tokens; what is left over goes to the last, who finished the job."""
    tokens = sum(earner.tokens for earner in earners)
    parts = [amount * earner.tokens // tokens if tokens else 0 for earner in earners[:-1]]
    return (*parts, amount - sum(parts))


def capture_legs(
    taken_from: tuple[tuple[int, int], ...], amount: int, *, promo_account: int, earners: Sequence[Earner], fees: int, fee_percent: int
) -> tuple[tuple[int, int], ...]:
    """Lay a charge of `amount` over the held pockets, in their order, and pay providers and platform.

    `taken_from` is (account, held) per pocket. What promotional credits pay goes to the providers' own promotional pockets: it can be spent
    but not withdrawn (seed S31). Several earners share by tokens; an account that earns twice has one leg.
    """
    legs: dict[int, int] = {}
    left, from_promo = amount, 0
    for account, held in taken_from:
        part = min(left, held)
        if part:
            legs[account] = legs.get(account, 0) - part
            left -= part
            if account == promo_account:
                from_promo += part
    promo_share, promo_fee = split_fee(from_promo, fee_percent)
    paid_share, paid_fee = split_fee(amount - left - from_promo, fee_percent)
    gains = [(earner.promo, part) for earner, part in zip(earners, parts_of(promo_share, earners), strict=True)]
    gains += [(earner.pending, part) for earner, part in zip(earners, parts_of(paid_share, earners), strict=True)]
    for account, part in (*gains, (fees, promo_fee + paid_fee)):
        if part:
            legs[account] = legs.get(account, 0) + part
    # Who pays and earns the same (an operator's own node) moves nothing, and the books refuse an empty leg.
    return tuple((account, part) for account, part in legs.items() if part)
