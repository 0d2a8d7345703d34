"""The queue of jobs that found no free slot: per model, weighted fair by consumer, bounded. Pure.

Fairness is start-time fair queueing: each consumer has a virtual time per model, in estimated tokens; the job with the smallest start goes
first. A consumer with 500 jobs does not delay another's single one by more than one job.
"""

from dataclasses import dataclass, field

PATIENT_WAIT_S = 30.0
ASYNC_WAIT_S = 600.0
JOB_S = 5.0  # how long a job takes, until we have seen some
SEEN_WEIGHT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A job that waits for a slot."""

    job: str
    consumer: str
    model: str
    tokens: int
    is_async: bool = False
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Refused:
    """The queue does not take the job; come back later."""

    reason: str
    retry_after_s: int


@dataclass(slots=True)
class _Line:
    """The queue of one model."""

    waits: list[tuple[float, int, Wait]] = field(default_factory=list)
    virtual_now: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)
    job_s: float = JOB_S


class FairQueue:
    """Who waits, who is next."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._count = 0

    def waiting(self) -> dict[str, int]:
        """Count the waiting jobs per model."""
        return {model: len(line.waits) for model, line in self._lines.items() if line.waits}

    def estimated_wait_s(self, model: str, slots: int) -> float:
        """Estimate how long a job that comes now would wait."""
        line = self._lines.get(model)
        if line is None:
            return 0.0
        return (len(line.waits) + 1) * line.job_s / max(1, slots)

    def add(self, wait: Wait, slots: int) -> Refused | None:
        """Take a job in, unless too many wait: more than 2 x slots, or longer than a person would."""
        line = self._lines.setdefault(wait.model, _Line())
        if any(one.job == wait.job for _, _, one in line.waits):
            return None
        estimate = self.estimated_wait_s(wait.model, slots)
        limit_s = ASYNC_WAIT_S if wait.is_async else PATIENT_WAIT_S
        if not wait.is_async and (len(line.waits) >= 2 * max(1, slots) or estimate > limit_s):
            return Refused(f"{len(line.waits)} jobs wait for {wait.model} already", max(1, round(estimate)))
        start = max(line.virtual_now, line.finish.get(wait.consumer, 0.0))
        line.finish[wait.consumer] = start + max(1, wait.tokens)
        self._count += 1
        line.waits.append((start, self._count, wait))
        return None

    def put_back(self, wait: Wait) -> None:
        """Put a job whose ticket met a busy node to the front."""
        self._count += 1
        line = self._lines.setdefault(wait.model, _Line())
        line.waits.append((line.virtual_now - 1, -self._count, wait))

    def remove(self, job: str) -> None:
        """Forget a job."""
        for line in self._lines.values():
            line.waits = [one for one in line.waits if one[2].job != job]

    def in_order(self, model: str) -> list[Wait]:
        """List a model's waiting jobs, next one first."""
        line = self._lines.get(model)
        return [wait for _, _, wait in sorted(line.waits, key=lambda one: one[:2])] if line else []

    def take(self, job: str, model: str) -> None:
        """A job got its slot: virtual time moves on to its start."""
        line = self._lines[model]
        for start, _, wait in line.waits:
            if wait.job == job:
                line.virtual_now = max(line.virtual_now, start)
        self.remove(job)
        if not line.waits:
            line.finish.clear()

    def saw(self, model: str, seconds: float) -> None:
        """Learn how long a job of this model takes."""
        line = self._lines.setdefault(model, _Line())
        line.job_s += SEEN_WEIGHT * (seconds - line.job_s)
