"""The queue of jobs that found no free slot: per model, weighted fair by consumer, bounded. Pure: the clock is an argument.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each consumer has a virtual time per model, in estimated tokens; the job with the
smallest start goes first. A consumer with 500 jobs does not delay another's single one by more than one job.
"""

from bisect import insort
from dataclasses import dataclass, field

from cluster.placement import PlacementRequest

PATIENT_WAIT_S = 30.0
ASYNC_WAIT_S = 600.0
JOB_S = 5.0  # how long a job takes a slot, until we have seen some go
SEEN_WEIGHT = 0.2  # of the newest gap between two grants in the moving average


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A job that waits for a slot. `weight`: its consumer's share, 1 is everybody's."""

    job: str
    consumer: str
    request: PlacementRequest
    is_async: bool = False
    weight: float = 1.0

    @property
    def model(self) -> str:
        """The model whose line it stands in."""
        return self.request.model


@dataclass(frozen=True, slots=True)
class Refused:
    """The queue does not take the job; come back later."""

    reason: str
    retry_after_s: int


@dataclass(order=True, slots=True)
class _Place:
    """A place in a line. Returned tickets come first, in the order of their return."""

    is_new: bool
    start: float
    number: int
    wait: Wait = field(compare=False)


@dataclass(slots=True)
class _Line:
    """The queue of one model.

    `gap_s` is the time between two grants while somebody waits, None until one was seen; `has_waited`: somebody waits since the last one.
    """

    places: list[_Place] = field(default_factory=list)
    virtual_now: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)
    gap_s: float | None = None
    moved_at: float = 0.0
    has_waited: bool = False


class FairQueue:
    """Who waits, who is next."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._model_of: dict[str, str] = {}
        self._count = 0

    def waiting(self) -> dict[str, int]:
        """Count the waiting jobs per model."""
        return {model: len(line.places) for model, line in self._lines.items() if line.places}

    def estimated_wait_s(self, model: str, slots: int, now: float) -> float:
        """Estimate how long a job that comes now would wait: as many gaps between grants as jobs are before it."""
        line = self._lines.get(model) or _Line(moved_at=now)
        gap = JOB_S / max(1, slots) if line.gap_s is None else line.gap_s
        stalled = now - line.moved_at if line.places else 0.0
        return (len(line.places) + 1) * max(gap, stalled / 2)

    def add(self, wait: Wait, slots: int, now: float) -> Refused | None:
        """Take a job in, unless too many wait: more than 2 x slots, or longer than it may. A job that waits already stays where it is."""
        if wait.job in self._model_of:
            return None
        line = self._lines.setdefault(wait.model, _Line())
        waiting, estimate = len(line.places), self.estimated_wait_s(wait.model, slots, now)
        limit_s = ASYNC_WAIT_S if wait.is_async else PATIENT_WAIT_S
        if (not wait.is_async and waiting >= 2 * max(1, slots)) or (waiting and estimate > limit_s):
            return Refused(f"{waiting} jobs wait for {wait.model} already", min(int(ASYNC_WAIT_S), max(1, round(estimate))))
        if not line.places:
            line.moved_at = now
        start = max(line.virtual_now, line.finish.get(wait.consumer, 0.0))
        line.finish[wait.consumer] = start + _cost(wait)
        self._insert(line, wait, start, is_new=True)
        return None

    def put_back(self, wait: Wait, now: float) -> None:
        """Put a job whose ticket met a busy node to the front."""
        if wait.job in self._model_of:
            return
        line = self._lines.setdefault(wait.model, _Line())
        if not line.places:
            line.moved_at = now
        self._insert(line, wait, 0.0, is_new=False)

    def _insert(self, line: _Line, wait: Wait, start: float, *, is_new: bool) -> None:
        self._count += 1
        insort(line.places, _Place(is_new, start, self._count, wait))
        self._model_of[wait.job] = wait.model

    def remove(self, job: str) -> None:
        """Forget a job that is not needed any more; what it would have used is given back to its consumer."""
        place = self._pop(job)
        if place and place.is_new:
            line = self._lines[place.wait.model]
            if place.wait.consumer in line.finish:
                line.finish[place.wait.consumer] -= _cost(place.wait)

    def in_order(self, model: str) -> list[Wait]:
        """List a model's waiting jobs, next one first."""
        line = self._lines.get(model)
        return [place.wait for place in line.places] if line else []

    def take(self, job: str, now: float) -> None:
        """A job got its slot: virtual time moves on to its start."""
        place = self._pop(job)
        if place is None:
            return
        line = self._lines[place.wait.model]
        if line.has_waited:
            gap = max(0.0, now - line.moved_at)
            line.gap_s = gap if line.gap_s is None else line.gap_s + SEEN_WEIGHT * (gap - line.gap_s)
        line.has_waited = bool(line.places)
        line.moved_at = now
        if place.is_new and line.places:
            line.virtual_now = max(line.virtual_now, place.start)

    def _pop(self, job: str) -> _Place | None:
        model = self._model_of.pop(job, None)
        if model is None:
            return None
        line = self._lines[model]
        at = next(at for at, place in enumerate(line.places) if place.wait.job == job)
        place = line.places.pop(at)
        if not line.places:
            line.virtual_now, line.has_waited = 0.0, False
            line.finish.clear()
        return place


def _cost(wait: Wait) -> float:
    return max(1, wait.request.tokens) / wait.weight
