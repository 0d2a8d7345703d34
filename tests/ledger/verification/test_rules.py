"""The rules by themselves: what follows from a record of audits, whatever it is."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.verification import rules
from ledger.verification.forfeiture import Source, refund_legs
from ledger.verification.rules import Step, audit_percent, is_miscounting, recent_alarms, step_after, strikes_of, tier_of

TIERS = ("probation", "verified", "established")
flags = st.lists(st.booleans(), max_size=150)


@pytest.mark.parametrize(
    ("record", "step"),
    [
        ([], None), ([False], None), ([True], Step.REAUDIT), ([True, False], None), ([True, True], Step.QUARANTINE),
        ([True, *[False] * 50, True], Step.QUARANTINE), ([True] * 3, Step.BAN), ([True] * 5, Step.BAN), ([True, True, False], None),
        ([True, *[False] * 99, True], Step.REAUDIT), ([True, *[False] * 98, True], Step.QUARANTINE),
        ([True, True, *[False] * 98, True], Step.QUARANTINE),
    ],
)  # fmt: skip
def test_what_follows_from_the_newest_audit(record, step):
    assert step_after(record) == step


@given(flags)
def test_only_a_flag_has_a_consequence_and_each_is_as_hard_as_its_strikes(record):
    step = step_after(record)
    assert (step is None) == (not record or not record[-1])
    if step:
        assert step == {1: Step.REAUDIT, 2: Step.QUARANTINE}.get(strikes_of(record), Step.BAN)


@given(flags)
def test_clean_audits_in_the_end_forget_every_flag(record):
    assert strikes_of([*record, *[False] * rules.STRIKE_WINDOW]) == 0
    assert audit_percent("established", [*record, *[False] * rules.STRIKE_WINDOW]) == 2


@pytest.mark.parametrize(
    ("tier", "record", "percent"),
    [
        ("probation", [], 100), ("verified", [], 5), ("established", [], 2), ("established", [True], 100),
        ("established", [True, *[False] * 4], 100), ("established", [True, *[False] * 5], 2), ("verified", [True, *[False] * 5], 5),
        ("verified", [True, True, *[False] * 50], 100),
    ],
)  # fmt: skip
def test_how_many_jobs_are_audited(tier, record, percent):
    assert audit_percent(tier, record) == percent


@pytest.mark.parametrize(
    ("tier", "jobs", "days", "record", "then"),
    [
        ("probation", 49, 90, [], "probation"), ("probation", 50, 0, [], "verified"), ("probation", 5_000, 30, [], "established"),
        ("verified", 4_999, 90, [], "verified"), ("verified", 5_000, 29, [], "verified"), ("verified", 5_000, 30, [], "established"),
        ("probation", 9_999, 90, [True], "probation"), ("verified", 9_999, 90, [True, *[False] * 99], "verified"),
        ("verified", 9_999, 90, [True, *[False] * 100], "established"), ("established", 0, 0, [True], "established"),
    ],
)  # fmt: skip
def test_tiers_are_earned_and_do_not_rise_over_a_strike(tier, jobs, days, record, then):
    assert tier_of(tier, jobs, timedelta(days=days), record) == then


@given(st.sampled_from(TIERS), st.integers(0, 10_000), st.integers(0, 100), flags)
def test_a_tier_never_falls_and_never_rises_twice_for_the_same(tier, jobs, days, record):
    then = tier_of(tier, jobs, timedelta(days=days), record)
    assert TIERS.index(then) >= TIERS.index(tier)
    assert tier_of(then, jobs, timedelta(days=days), record) == then


@pytest.mark.parametrize(
    ("alarms_at", "alarms", "is_one_too_many"),
    [
        ([], 0, False), ([7], 1, False), (list(range(9)), 9, False), (list(range(10)), 10, True), (list(range(0, 110, 11)), 10, True),
        (list(range(0, 120, 12)), 9, False), ([0] * 9 + [100], 1, False), ([1] * 9 + [100], 10, True),
    ],
)  # fmt: skip
def test_ten_alarms_in_a_hundred_jobs_are_one_too_many(alarms_at, alarms, is_one_too_many):
    assert (recent_alarms(alarms_at), is_miscounting(alarms_at)) == (alarms, is_one_too_many)


amounts = st.integers(0, 50)


@given(st.lists(amounts, max_size=4), st.lists(amounts, min_size=1, max_size=4), st.integers(1, 120))
def test_a_refund_is_balanced_and_never_more_than_wanted_paid_or_there(there, paid, wanted):
    wanted = min(wanted, sum(paid))
    sources = [Source(n, amount) for n, amount in enumerate(there)]
    pockets = [(100 + n, amount) for n, amount in enumerate(paid)]
    legs, lacking = refund_legs(pockets, sources, wanted)
    taken = {account: -amount for account, amount in legs if amount < 0}
    given_back = {account: amount for account, amount in legs if amount > 0}
    assert sum(amount for _, amount in legs) == 0
    assert lacking == wanted - sum(taken.values()) == max(0, wanted - sum(there))
    assert all(amount <= there[account] for account, amount in taken.items())
    assert all(amount <= dict(pockets)[account] for account, amount in given_back.items())
