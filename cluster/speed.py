"""How fast a node's models are, learned from the jobs that it ran. Pure: the clock is an argument.

What is told changes in steps, so that the cluster does not hear of every job's noise.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from cluster.nodes import OfferedModel

KEPT_JOBS = 128  # per model
KEPT_S = 600.0  # then a node that looked slow is tried again
LEAST_JOBS = 3  # fewer tell nothing yet
STEADY_SHARE = 0.2  # a figure that moved by less is told as before
DIGITS = 2  # that count


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A job that ended well, as its worker saw it. `writing_s`: from the first token to the last; `was_loaded`: the model, when it came."""

    first_token_s: float
    writing_s: float
    tokens: int
    job_s: float
    was_loaded: bool


@dataclass(slots=True)
class _Learned:
    """One model's last jobs, and what was told of them."""

    jobs: deque[tuple[float, Ran]] = field(default_factory=lambda: deque(maxlen=KEPT_JOBS))
    told: dict[str, Any] = field(default_factory=dict)


class Speeds:
    """What one node learned."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Learned] = {}

    def ended(self, model: OfferedModel, ran: Ran, now: float) -> None:
        """Take a job in."""
        self._models.setdefault((model.name, model.digest), _Learned()).jobs.append((now, ran))

    def told(self, models: Sequence[OfferedModel], now: float) -> tuple[OfferedModel, ...]:
        """Put what was learned to the models that a node has; what was learned of others, or too long ago, is forgotten.

        A node that looked slow gets few jobs, and could not show that it is better now: so its figures end, and it counts as unknown again.
        """
        there = {(model.name, model.digest) for model in models}
        for gone in self._models.keys() - there:
            del self._models[gone]
        for learned in self._models.values():
            while learned.jobs and now - learned.jobs[0][0] > KEPT_S:
                learned.jobs.popleft()
            if len(learned.jobs) < LEAST_JOBS:
                learned.told.clear()
        return tuple(self._with_speed(model) for model in models)

    def _with_speed(self, model: OfferedModel) -> OfferedModel:
        learned = self._models.get((model.name, model.digest))
        if learned is None or len(learned.jobs) < LEAST_JOBS:
            return model
        for name, figure in _figures([ran for _, ran in learned.jobs]).items():
            learned.told[name] = _steady(learned.told.get(name), figure)
        told: dict[str, Any] = learned.told
        return replace(model, **told)


def _figures(jobs: Sequence[Ran]) -> dict[str, float | None]:
    """Work out what `OfferedModel` tells. Where a job had to load the model first, its waiting says nothing of later ones."""
    warm = [ran for ran in jobs if ran.was_loaded]
    firsts = sorted(ran.first_token_s for ran in warm)
    gaps, writing_s = sum(max(0, ran.tokens - 1) for ran in jobs), sum(ran.writing_s for ran in jobs)
    return {
        "tokens_per_s": gaps / writing_s if gaps and writing_s > 0 else None,
        "first_token_s": quantile(firsts, 0.5),
        "first_token_p99_s": quantile(firsts, 0.99),
        "job_s": sum(ran.job_s for ran in warm) / len(warm) if warm else None,
    }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Take the smallest value that this share of all does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(1, ceil(share * len(ordered))) - 1]


def _steady(told: float | None, figure: float | None) -> float | None:
    """Tell what was told before, unless the figure moved away from it; a new one is rounded."""
    if figure is None or (told is not None and abs(figure - told) <= STEADY_SHARE * told):
        return told
    return float(f"{figure:.{DIGITS}g}")
