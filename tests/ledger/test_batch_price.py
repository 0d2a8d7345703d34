"""A line of a batch costs less: the price of its hold is what is discounted, and everything after follows from it."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.client import Capture, IdempotencyConflict
from ledger.pricing import PriceRow, cost, discounted, quote
from ledger.settings import LedgerSettings

RATES = st.integers(0, 10**9)


def capture(placed, completion_tokens=50):
    return Capture(
        id=placed.id,
        outcome="succeeded",
        prompt_tokens=10,
        completion_tokens=completion_tokens,
        counted_by="platform",
        node="node_local",
        attempt=1,
    )


@given(flat=RATES, prompt=RATES, completion=RATES, percent=st.integers(0, 100), tokens=st.integers(0, 100_000))
def test_a_discount_is_whole_rounded_up_and_never_more_than_the_price(flat, prompt, completion, percent, tokens):
    listed = PriceRow(1, flat, prompt, completion)
    less = discounted(listed, percent)
    assert 0 <= less.flat * 100 - flat * (100 - percent) < 100
    assert quote(less, tokens, tokens) <= quote(listed, tokens, tokens)
    assert cost(less, quote(less, tokens, tokens), "succeeded", tokens, tokens) == quote(less, tokens, tokens)


async def test_half_is_the_usual_discount():
    assert LedgerSettings.model_fields["batch_discount_percent"].default == 50


async def test_the_hold_and_the_charge_of_a_line_are_discounted_and_the_books_balance(ledger_with, database):
    ledger = await ledger_with(
        welcome_credits="5.00", job_price="0.333333", prompt_price="0.10", completion_price="1000.000001", batch_discount_percent=25,
        platform_fee_percent=10,
    )  # fmt: skip
    placed = await ledger.client.place_hold(ledger.hold(batch=True))
    assert (placed.price.flat, placed.price.prompt_per_million, placed.price.completion_per_million) == (250_000, 75_000, 750_000_001)
    assert placed.held == 250_000 + -(-(10 * 75_000 + 100 * 750_000_001) // 1_000_000)
    charged = (await ledger.client.capture(capture(placed))).cost
    assert charged == 250_000 + -(-(10 * 75_000 + 50 * 750_000_001) // 1_000_000)
    by_itself = await ledger.client.place_hold(ledger.hold())
    assert by_itself.price.flat == 333_333
    with psycopg.connect(database.admin_url) as admin:
        (fee,) = admin.execute("SELECT posted FROM ledger.account WHERE address = 'platform:fees'").fetchone()
        (meta,) = admin.execute("SELECT meta FROM ledger.hold").fetchone()
    assert fee == charged - charged * 90 // 100
    assert "discount_percent" not in meta


async def test_a_repeat_of_a_line_is_the_same_line_at_the_same_price(ledger):
    asked = {"idempotency_key": "batch:1", "request_digest": "a", "batch": True}
    placed = await ledger.client.place_hold(ledger.hold(**asked))
    again = await ledger.client.place_hold(ledger.hold(**asked))
    assert (placed.status, again.status, again.id, again.price, again.held) == ("ok", "exists", placed.id, placed.price, 500_000)
    with pytest.raises(IdempotencyConflict):
        await ledger.client.place_hold(ledger.hold(**(asked | {"request_digest": "b"})))
    assert (await ledger.client.capture(capture(placed))).cost == 500_000


@pytest.mark.parametrize(("percent", "held"), [(0, 1_000_000), (100, 1)])
async def test_the_discount_is_a_setting(ledger_with, percent, held):
    ledger = await ledger_with(welcome_credits="5.00", batch_discount_percent=percent)
    placed = await ledger.client.place_hold(ledger.hold(batch=True))
    assert placed.held == held
    assert (await ledger.client.capture(capture(placed))).cost == (held if percent == 0 else 0)
