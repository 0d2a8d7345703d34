"""The two rules by which an answer is judged on a trusted reference, token by token (security reference 6.2). Pure.

A gap is how far the claimed token lies below the reference's own best, in nats. Comparing texts does not work: honest machines with another
kernel write another text. Rule A, temperature 0: the gaps themselves. Rule B, sampled: the gaps against what sampling should give.

Two things make honest answers look bad, and are forgiven: tokens at the edge of a cut (`sampling.with_edges`), and one place of a window where
the text, cut into tokens again, is cut otherwise than it was written. One thing makes bad answers look good: a text that repeats itself is
what every model goes on with, so what repeats is not scored (`places`).
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from cluster.audit.sampling import Candidate, Order, Sampling, shaped, with_edges

Rule = Literal["A", "B"]
WINDOW: dict[Rule, int] = {"A": 32, "B": 64}  # tokens
CAP = 5.0  # nats, of one token
BORDER = 2  # tokens beside each other that are forgiven: a border that re-tokenizing moved
REPEAT = 4  # tokens that stood in this order before
MEAN_GAP = 0.05  # nats; rule A
Z = 4.0  # rule B
OUTSIDE = 2  # tokens outside the set that may be drawn; rule B
NOISE = 0.05  # nats: what another kernel moves a gap by; keeps z finite where sampling leaves no choice


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer, and what the reference would have said in its place, best first."""

    claimed: int
    candidates: tuple[Candidate, ...]

    @property
    def gap(self) -> float:
        """How far the claimed token lies below the best, in nats, capped."""
        best = self.candidates[0].logprob
        return next((min(CAP, best - one.logprob) for one in self.candidates if one.token == self.claimed), CAP)


@dataclass(frozen=True, slots=True)
class Measure:
    """A token's gap, what of it sampling explains, and whether it could not have been drawn."""

    gap: float
    expected: float = 0.0
    variance: float = 0.0
    is_outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """What a rule says of a window. `score`: rule A's mean gap in nats, rule B's z."""

    rule: Rule
    is_flagged: bool
    score: float
    tokens: int
    outside: int = 0


def rule_of(sampling: Sampling) -> Rule:
    """Tell which rule applies."""
    return "A" if sampling.is_greedy else "B"


def measured(step: Step, sampling: Sampling, order: Order) -> Measure:
    """Measure one token."""
    if sampling.is_greedy:
        return Measure(step.gap)
    may = shaped(step.candidates, sampling, order)
    best = step.candidates[0].logprob
    logprobs = {one.token: one.logprob for one in step.candidates}
    drawn = [(probability, min(CAP, best - logprobs[token])) for token, probability in may.drawn.items()]
    drawn.append((may.rest, CAP))
    expected = math.fsum(probability * gap for probability, gap in drawn)
    variance = math.fsum(probability * (gap - expected) ** 2 for probability, gap in drawn)
    could = shaped(step.candidates, with_edges(sampling), order)
    is_told = step.claimed in logprobs
    return Measure(step.gap, expected, variance, is_outside=step.claimed not in could.drawn and (is_told or not could.rest))


def judge(rule: Rule, measures: Sequence[Measure]) -> Judgment:
    """Apply a rule to a window of more than `BORDER` tokens."""
    counted = _without_border(measures)
    if rule == "A":
        mean = math.fsum(one.gap for one in counted) / len(counted)
        return Judgment(rule="A", is_flagged=mean > MEAN_GAP, score=mean, tokens=len(measures))
    surplus = math.fsum(one.gap - one.expected for one in counted)
    z = surplus / math.sqrt(math.fsum(one.variance + NOISE**2 for one in counted))
    outside = sum(one.is_outside for one in counted)
    return Judgment(rule="B", is_flagged=z > Z or outside >= OUTSIDE, score=z, tokens=len(measures), outside=outside)


def _without_border(measures: Sequence[Measure]) -> Sequence[Measure]:
    """Leave out the two tokens beside each other that look worst."""
    surpluses = [one.gap - one.expected for one in measures]
    pairs = [one + other for one, other in pairwise(surpluses)]
    worst = pairs.index(max(pairs))
    return [*measures[:worst], *measures[worst + BORDER :]]


def mildest(judgments: Sequence[Judgment]) -> Judgment:
    """Of judgments under several orders of cutting, the one in the node's favor: nobody can say in which its engine cuts."""
    return min(judgments, key=lambda one: (one.is_flagged, one.score))


def places(prompt: Sequence[int], answer: Sequence[int], window: int, chance: float, among: Container[int] | None = None) -> list[int]:
    """Choose which tokens of an answer are scored: at most `window` that follow one another, `chance` in [0, 1) says from where.

    Anywhere, or else the beginning alone would be honest; and of the tokens that do not end a run of `REPEAT` that stood there before, and of
    those `among` them where it is given.
    """
    said = [*prompt, *answer]
    before: set[tuple[int, ...]] = set()
    new: list[int] = []
    for n in range(len(said)):
        run = tuple(said[max(0, n + 1 - REPEAT) : n + 1])
        place = n - len(prompt)
        if place >= 0 and run not in before and (among is None or place in among):
            new.append(place)
        before.add(run)
    start = int(chance * (max(0, len(new) - window) + 1))
    return new[start : start + window]
