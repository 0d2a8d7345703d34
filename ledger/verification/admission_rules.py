"""Admission: which canary a model on an edge node gets next, and what follows from their answers. Pure (security reference 6.3).

A model is admitted by its name, the node and the digest of its weights; other weights are another model. The rule follows that of strikes
(`rules.py`), one step earlier and for this model alone: a flag means as many canaries again, the second one refuses the model. It is no strike
of the node, for nobody has paid for the answer.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

State = Literal["testing", "admitted", "refused"]
Kind = Literal["plain", "beside", "long"]
Outcome = Literal["passed", "unjudged", "short", "failed", "flagged"]
WhyNot = Literal["short", "no_copy", "unscorable", "no_auditor"]

REFUSING_FLAGS = 2
REFUSING_FAILURES = 3  # in one round
MOST_TIMES = 4  # so many times as many answers as are wanted, and no end: too few of them can be judged
RETRY_AFTER = timedelta(minutes=15)  # a model that failed is tested again
LONG_FROM = 5  # canaries of a round: shorter ones have none that fills the context
BESIDE_EVERY, BESIDE_AT = 5, 2  # of five canaries the third and the fourth run at once
WHY_NOT: dict[WhyNot, str] = {
    "short": "its answers were too short",
    "no_copy": "the operator has no copy of this model",
    "unscorable": "its answers cannot be scored",
    "no_auditor": "the operator audits no answers",
}
FLAGGED_AGAIN = "Not admitted: two canaries were answered otherwise than this model answers. You may appeal."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the canaries of a model are. `open`: on their way, or answered and not judged yet; `has_long`: the long one is among those that count."""

    base: int
    passed: int = 0
    unjudged: int = 0
    short: int = 0
    failed: int = 0
    flagged: int = 0
    open: int = 0
    has_long: bool = False

    @property
    def wanted(self) -> int:
        """How many must pass."""
        return self.base * (1 + self.flagged)

    @property
    def good(self) -> int:
        """How many count."""
        return self.passed + self.unjudged

    @property
    def asked(self) -> int:
        """How many were sent."""
        return self.good + self.short + self.failed + self.flagged + self.open


@dataclass(frozen=True, slots=True)
class Decision:
    """What a model is now, and a sentence for its owner; `is_final`: a refusal that time does not end."""

    state: State
    said: str
    is_final: bool = False


def next_kinds(progress: Progress, slots: int, free: int) -> tuple[Kind, ...]:
    """Tell which canaries are sent now, at once; none: all that are needed are on their way, or too few of the node's `slots` are `free`."""
    left = progress.wanted - progress.good - progress.open
    is_long_due = progress.base >= LONG_FROM and not progress.has_long
    if left <= 0 or not free:
        return ()
    if is_long_due and left == 1:
        return ("long",)
    is_turn = (progress.good + progress.open) % BESIDE_EVERY == BESIDE_AT
    if is_turn and slots >= 2 and left - is_long_due >= 2:
        return ("beside", "beside") if free >= 2 else ()
    return ("plain",)


def decide(progress: Progress, why: str) -> Decision:
    """Tell what follows from the canaries so far; `why`: the last failure, or why an answer could not be judged."""
    if progress.flagged >= REFUSING_FLAGS:
        return Decision("refused", FLAGGED_AGAIN, is_final=True)
    if progress.failed >= REFUSING_FAILURES:
        return Decision(
            "refused", f"Not admitted for now: {progress.failed} canaries failed, the last one because {why}. It is tested again."
        )
    if progress.good >= progress.wanted and (not progress.flagged or _is_verified(progress)):
        return Decision("admitted", _admitted(progress, why))
    if progress.asked - progress.open >= MOST_TIMES * progress.wanted:
        return Decision("refused", f"Not admitted for now: too few canaries could be judged, for {why}. It is tested again.")
    return Decision("testing", _testing(progress))


def _is_verified(progress: Progress) -> bool:
    """Whether so many were judged that one can speak of it: a model may have some that nobody can judge, such as the long one."""
    return progress.passed * 2 >= progress.wanted


def _admitted(progress: Progress, why: str) -> str:
    if _is_verified(progress):
        return f"Admitted: {progress.good} canaries passed."
    return f"Admitted, not verified: {why}."


def _testing(progress: Progress) -> str:
    waiting = f", {progress.open} wait" if progress.open else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    flagged = ", one was answered otherwise than this model answers" if progress.flagged else ""
    return f"Being tested: {progress.good} of {progress.wanted} canaries passed{waiting}{failed}{flagged}."
