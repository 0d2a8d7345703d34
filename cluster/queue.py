"""The queue of jobs that found no free slot: per model, weighted fair by consumer, bounded. Pure: the clock is an argument.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each consumer has a virtual time per model, in estimated tokens; the job with the
smallest start goes first. A consumer with 500 jobs does not delay another's single one by more than one job. The line's own time, where
newcomers begin, moves on with the work done, shared by those who wait: so newcomers without end do not starve anybody's second job.
"""

from bisect import bisect_left, insort
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import islice

from cluster.placement import PlacementRequest

PATIENT_WAIT_S = 30.0
ASYNC_WAIT_S = 600.0
MOST_WAITING = 10_000  # per model
JOB_S = 5.0  # how long a job takes a slot, where no node has learned it
ROUNDS = 4  # of all slots, that an estimate looks back
LEAST_GAPS, MOST_GAPS = 16, 256  # between grants, that it looks at
AT_ONCE_S = 0.05  # who is granted so soon got an idle slot, which tells nothing of how fast busy ones come free
KEPT_CONSUMERS = 64  # whose time is over and kept all the same, before a line is tidied


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


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting job stands: how many go before it, and how long it is likely to wait from now."""

    ahead: int
    estimated_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs that wait for a model: how many, and how long the first of them has waited."""

    jobs: int
    oldest_s: float


@dataclass(order=True, slots=True)
class _Place:
    """A place in a line. Returned tickets come first, in the order of their return."""

    is_new: bool
    start: float
    number: int
    wait: Wait = field(compare=False)
    came_at: float = field(compare=False)


@dataclass(slots=True)
class _Line:
    """The queue of one model. `gaps`: times between two grants while somebody waited; `has_waited`: somebody waits since the last one."""

    places: list[_Place] = field(default_factory=list)
    virtual_now: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)
    consumers: Counter[str] = field(default_factory=Counter)  # of the places
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_GAPS))
    moved_at: float = 0.0
    has_waited: bool = False

    def estimate_s(self, ahead: int, slots: int, job_s: float, now: float) -> float:
        """Estimate how long a job waits that has so many before it: as many gaps between grants, and its own.

        The gaps are those of late, and expected ones while few were seen. The one that lasts now counts when it is a long one; a line
        that stands for longer than a job takes will stand for as long again.
        """
        most = min(MOST_GAPS, max(LEAST_GAPS, ROUNDS * slots))
        seen = list(islice(reversed(self.gaps), most))
        missing = max(0, LEAST_GAPS - len(seen))
        total, count = sum(seen) + missing * job_s / max(1, slots), len(seen) + missing
        stands_s = now - self.moved_at if self.places else 0.0
        gap_s = max(total / count, (total + stands_s) / (count + 1))
        return max((ahead + 1) * gap_s, stands_s - job_s)

    def move_on(self, place: _Place) -> None:
        """Move virtual time on after a job got its slot: to its start, and by its share of one round of all who wait and a newcomer."""
        if place.is_new:
            shared = self.virtual_now + _cost(place.wait) / (len(self.consumers) + 1)
            self.virtual_now = max(place.start, shared)

    def tidy(self) -> None:
        """Forget consumers whose time is over: they would begin at the line's own time as well."""
        if len(self.finish) > len(self.places) + KEPT_CONSUMERS:
            self.finish = {who: finish for who, finish in self.finish.items() if finish > self.virtual_now}


class FairQueue:
    """Who waits, who is next. Times of jobs (`job_s`) are what a job takes a slot, in seconds."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._place_of: dict[str, _Place] = {}
        self._count = 0

    def waiting(self) -> dict[str, int]:
        """Count the waiting jobs per model."""
        return {model: len(line.places) for model, line in self._lines.items() if line.places}

    def lines(self, now: float) -> dict[str, Waiting]:
        """Tell of each model's line in which anybody waits."""
        return {
            model: Waiting(len(line.places), now - min(place.came_at for place in line.places))
            for model, line in self._lines.items()
            if line.places
        }

    def oldest_s(self, now: float) -> float:
        """Tell how long the job that waits longest has waited."""
        return max((line.oldest_s for line in self.lines(now).values()), default=0.0)

    def model_of(self, job: str) -> str | None:
        """Tell which model's line a job stands in; None: it does not wait here."""
        place = self._place_of.get(job)
        return place.wait.model if place else None

    def estimated_wait_s(self, model: str, slots: int, now: float, *, job_s: float = JOB_S) -> float:
        """Estimate how long a job would wait that came to the end of the line now."""
        line = self._lines.get(model) or _Line()
        return line.estimate_s(len(line.places), slots, job_s, now)

    def standing(self, job: str, slots: int, now: float, *, job_s: float = JOB_S) -> Standing | None:
        """Tell where a job stands; None: it does not wait here."""
        place = self._place_of.get(job)
        if place is None:
            return None
        line = self._lines[place.wait.model]
        ahead = bisect_left(line.places, place)
        return Standing(ahead, line.estimate_s(ahead, slots, job_s, now))

    def add(self, wait: Wait, slots: int, now: float, *, job_s: float = JOB_S) -> Refused | None:
        """Take a job in, unless somebody waits for it and too many would go before it: more than 2 x slots, or for longer than they wait.

        Those that come after it do not count: another consumer's many jobs close the queue to nobody else. A job that runs by itself was
        taken already, and waits as long as it may, whatever an estimate says. A job that waits already stays where it is; what suits it is
        what was said last.
        """
        if known := self._place_of.get(wait.job):
            known.wait = replace(known.wait, request=wait.request)
            return None
        line = self._lines.setdefault(wait.model, _Line())
        start = max(line.virtual_now, line.finish.get(wait.consumer, 0.0))
        place = _Place(True, start, self._count + 1, wait, now)
        ahead = bisect_left(line.places, place)
        estimate = line.estimate_s(ahead, slots, job_s, now)
        is_crowded = not wait.is_async and (ahead >= 2 * max(1, slots) or (ahead and estimate > PATIENT_WAIT_S))
        if is_crowded or len(line.places) >= MOST_WAITING:
            return Refused(f"{ahead} jobs wait for {wait.model} already", min(int(ASYNC_WAIT_S), max(1, round(estimate))))
        line.finish[wait.consumer] = start + _cost(wait)
        line.tidy()
        self._insert(line, place, now)
        return None

    def put_back(self, wait: Wait, now: float) -> None:
        """Put a job whose ticket met a busy node to the front."""
        if wait.job not in self._place_of:
            self._insert(self._lines.setdefault(wait.model, _Line()), _Place(False, 0.0, self._count + 1, wait, now), now)

    def _insert(self, line: _Line, place: _Place, now: float) -> None:
        if not line.places:
            line.moved_at = now
        self._count = place.number
        insort(line.places, place)
        line.consumers[place.wait.consumer] += 1
        self._place_of[place.wait.job] = place

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

    def forgive(self, now: float) -> None:
        """Let jobs that wait for long go to nodes that something spoke against when they came."""
        for place in self._place_of.values():
            request = place.wait.request.after(now - place.came_at)
            if request is not place.wait.request:
                place.wait = replace(place.wait, request=request)

    def take(self, job: str, now: float) -> None:
        """A job got its slot: virtual time moves on to its start."""
        place = self._pop(job)
        if place is None:
            return
        line = self._lines[place.wait.model]
        if line.has_waited and now - place.came_at > AT_ONCE_S:
            line.gaps.append(max(0.0, now - line.moved_at))
        line.has_waited = bool(line.places)
        line.moved_at = now
        if line.places:
            line.move_on(place)

    def _pop(self, job: str) -> _Place | None:
        place = self._place_of.pop(job, None)
        if place is None:
            return None
        line = self._lines[place.wait.model]
        del line.places[bisect_left(line.places, place)]
        line.consumers[place.wait.consumer] -= 1
        if not line.consumers[place.wait.consumer]:
            del line.consumers[place.wait.consumer]
        if not line.places:
            line.virtual_now, line.has_waited = 0.0, False
            line.finish.clear()
        return place


def _cost(wait: Wait) -> float:
    return max(1, wait.request.tokens) / wait.weight
