"""What follows from audits and counts: strikes, tiers, shares of audited jobs, delays of pay-outs. Pure (security reference 6.3).

A flag is a strike as long as it is among the node's last `STRIKE_WINDOW` judged audits: one false alarm in thousands of honest jobs is
forgotten in time, while a machine that cheats on a tenth of its jobs has its third long before.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Literal

Tier = Literal["probation", "verified", "established"]

STRIKE_WINDOW = 100  # judged audits of a node
REAUDITS = 5  # more jobs that are audited after a flag, whatever the tier
QUARANTINE_STRIKES, BAN_STRIKES = 2, 3
ALARMS, ALARM_JOBS = 10, 100  # so many alarms about counts in so many jobs: quarantine
TIMINGS = 5  # so many suspicions about speed in `ALARM_JOBS` jobs: paused, which its owner may end

PROBATION_JOBS = 50
VERIFIED_JOBS, VERIFIED_AGE = 5_000, timedelta(days=30)
AUDIT_PERCENT: dict[Tier, int] = {"probation": 100, "verified": 5, "established": 2}
PAYOUT_DELAY: dict[Tier, timedelta] = {
    "probation": timedelta(days=30), "verified": timedelta(days=14), "established": timedelta(days=7),
}  # fmt: skip


class Step(StrEnum):
    """What follows for a node."""

    REAUDIT = "reaudit"
    QUARANTINE = "quarantine"
    BAN = "ban"


def strikes_of(flags: Sequence[bool]) -> int:
    """Count the strikes of a node; `flags` are its judged audits, the oldest first."""
    return sum(flags[-STRIKE_WINDOW:])


def step_after(flags: Sequence[bool]) -> Step | None:
    """Tell what follows from the newest audit; None: nothing."""
    if not flags or not flags[-1]:
        return None
    strikes = strikes_of(flags)
    if strikes >= BAN_STRIKES:
        return Step.BAN
    return Step.QUARANTINE if strikes >= QUARANTINE_STRIKES else Step.REAUDIT


def audit_percent(tier: Tier, flags: Sequence[bool]) -> int:
    """Tell how many of a hundred jobs of a node are audited: all of them for a while after a flag, and as long as one more would ban it."""
    recent = flags[-STRIKE_WINDOW:]
    if any(recent[-REAUDITS:]) or strikes_of(flags) >= BAN_STRIKES - 1:
        return 100
    return AUDIT_PERCENT[tier]


def tier_of(tier: Tier, jobs: int, age: timedelta, flags: Sequence[bool]) -> Tier:
    """Tell the tier that a node has earned; it never falls, and a node with a strike does not rise."""
    if strikes_of(flags):
        return tier
    if tier == "probation" and jobs >= PROBATION_JOBS:
        tier = "verified"
    if tier == "verified" and jobs >= VERIFIED_JOBS and age >= VERIFIED_AGE:
        tier = "established"
    return tier


def is_miscounting(alarms_at: Sequence[int]) -> bool:
    """Tell whether the newest alarm is one too many; `alarms_at`: how many jobs the node had done at each, the oldest first."""
    return recent_alarms(alarms_at) >= ALARMS


def is_too_fast(timings_at: Sequence[int]) -> bool:
    """Tell whether the newest suspicion about speed is one too many; `timings_at` as in `is_miscounting`."""
    return recent_alarms(timings_at) >= TIMINGS


def recent_alarms(alarms_at: Sequence[int]) -> int:
    """Count the alarms within the last `ALARM_JOBS` jobs before the newest one."""
    return sum(at > alarms_at[-1] - ALARM_JOBS for at in alarms_at) if alarms_at else 0
