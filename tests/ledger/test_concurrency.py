"""Races with real commits, through three ledgers over one database (D3)."""

import asyncio
from collections import Counter

from ledger.client import Capture, InsufficientFunds, LedgerError, RateLimited, Void
from tests.ledger.people import somebody


async def three(ledger_with, **settings):
    first = await ledger_with(**settings)
    return [first, *[await ledger_with(beside=first, **settings) for _ in range(2)]]


async def tried(ledger, key, capture=True):
    try:
        placed = await ledger.client.place_hold(ledger.hold(key=key))
    except LedgerError as refused:
        return type(refused)
    if capture:
        await ledger.client.capture(
            Capture(
                id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
            )
        )
    return "served"


async def test_ten_credits_forty_posts(ledger_with):
    ledgers = await three(ledger_with, welcome_credits="10.00")
    ada = await somebody(ledgers[0])
    answers = await asyncio.gather(*(tried(ledgers[n % 3], ada.tokens["access"]) for n in range(40)), return_exceptions=True)
    foreign = [answer for answer in answers if isinstance(answer, Exception)]
    assert foreign == []
    assert Counter(answers)["served"] + Counter(answers)[InsufficientFunds] == 40
    wallet = (await ada.get("/api/payments/wallet/")).json()
    assert (Counter(answers)["served"], wallet["balance"], wallet["held"]) == (10, "0.00", "0.00")


async def test_open_jobs_are_counted_over_all_processes(ledger_with):
    ledgers = await three(ledger_with, welcome_credits="100.00", open_jobs=7)
    ada = await somebody(ledgers[0])
    answers = Counter(await asyncio.gather(*(tried(ledgers[n % 3], ada.tokens["access"], capture=False) for n in range(40))))
    assert answers == {"served": 7, RateLimited: 33}


async def test_a_hold_that_is_captured_voided_and_expired_at_once_ends_in_one_way(ledger_with):
    ledgers = await three(ledger_with, welcome_credits="100.00")
    ada = await somebody(ledgers[0])
    for _ in range(5):
        placed = await ledgers[0].client.place_hold(ledgers[0].hold(key=ada.tokens["access"]))
        capture = Capture(
            id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
        )
        asked = [ledger.client.capture(capture) for ledger in ledgers] + [
            ledger.client.void(Void(id=placed.id, reason="race")) for ledger in ledgers
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        captured = [answer for answer in answers[:3] if not isinstance(answer, Exception)]
        voided = [answer for answer in answers[3:] if not isinstance(answer, Exception)]
        assert (len(captured), len(voided)) in {(3, 0), (0, 3)}
    wallet = (await ada.get("/api/payments/wallet/")).json()
    assert wallet["held"] == "0.00"
