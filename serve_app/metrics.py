"""What a replica counts of jobs, answers and settlements, and tells Prometheus through Ray (`cluster/metrics.py`)."""

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.metrics import TELL_S, Figures, RayMetric, Teller
from serve_app.store.records import Finish, JobState

log = structlog.get_logger()
BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 600.0)
NOT_COUNTED = frozenset({"/healthz", "/readyz"})  # asked by machines, all the time
STATUSES = (200, 500, 502, 503, 504)  # told from the beginning: rules look at how they grow
SYNC = ("yes", "no")
SUCCEEDED, CANCELED, INCOMPLETE, FAILED, REFUSED = "succeeded", "canceled", "incomplete", "failed", "refused"
OUTCOMES = (SUCCEEDED, CANCELED, INCOMPLETE, FAILED, REFUSED)
BROKEN = ("NodeLost", "RuntimeFailed", "RuntimeRefused", "JobTimedOut")

ANSWERS = RayMetric("gfe_answers", "Requests to the job APIs that were answered, by HTTP status.", ("status",), is_total=True)
JOBS = RayMetric("gfe_jobs_ended", "Jobs that ended, by outcome, and by whether somebody read along.", ("outcome", "sync"), is_total=True)
TOKENS = RayMetric("gfe_tokens", "Tokens of jobs that ended.", ("kind",), is_total=True)
FIRST_TOKENS = RayMetric(
    "gfe_first_tokens", "Jobs by the time until their first token: buckets of a histogram, `le` in seconds.", ("sync", "le"), is_total=True
)
WAITS = RayMetric(
    "gfe_waits",
    "Ended jobs by the time that they waited for a slot: buckets of a histogram, `le` in seconds.",
    ("sync", "le"),
    is_total=True,
)
BROKEN_ATTEMPTS = RayMetric("gfe_broken_attempts", "Attempts that broke on a node, by how.", ("by",), is_total=True)
SETTLED = RayMetric("gfe_settled", "Captures and voids that the ledger acknowledged.", is_total=True)
SETTLED_MICROS = RayMetric("gfe_settled_micros", "Micro-credits that jobs cost, as the ledger acknowledged.", is_total=True)
OLDEST_UNSETTLED = RayMetric("gfe_oldest_unsettled_seconds", "How long the oldest ended job has waited for the ledger's acknowledgement.")
AUDIT_SAMPLES = RayMetric("gfe_audit_samples", "Jobs that were chosen to be audited, by what became of them.", ("became",), is_total=True)
EDGE_JOBS = RayMetric(
    "gfe_audit_edge_jobs", "Jobs of edge nodes that ended well, by whether an audit can score them.", ("scoring",), is_total=True
)
CANARIES = RayMetric("gfe_canaries", "Test jobs of edge nodes, by what became of them.", ("became",), is_total=True)
SERVE_TOLD = RayMetric("gfe_serve_told_timestamp_seconds", "When a replica last told its figures.")
SERVE_METRICS = (
    ANSWERS, JOBS, TOKENS, FIRST_TOKENS, WAITS, BROKEN_ATTEMPTS, SETTLED, SETTLED_MICROS, OLDEST_UNSETTLED, AUDIT_SAMPLES, EDGE_JOBS, CANARIES,
    SERVE_TOLD,
)  # fmt: skip


class Spread:
    """How many fell between the bounds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)

    def note(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Tell how many were at most each bound."""
        return zip((*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"), accumulate(self._counts), strict=True)


@dataclass(slots=True)
class ServeFigures:
    """What a replica has counted since it began. `audit_samples` and `canaries` are the desks' own counts."""

    answers: Counter[int] = field(default_factory=Counter)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    first_tokens: dict[str, Spread] = field(default_factory=lambda: {sync: Spread() for sync in SYNC})
    waits: dict[str, Spread] = field(default_factory=lambda: {sync: Spread() for sync in SYNC})
    broken_attempts: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    settled_micros: int = 0
    oldest_unsettled_s: float = 0.0
    audit_samples: Counter[str] = field(default_factory=Counter)
    edge_jobs: Counter[str] = field(default_factory=Counter)
    canaries: Counter[str] = field(default_factory=Counter)

    def note_end(self, finish: Finish, *, is_sync: bool, is_refused: bool, waited_s: float, first_token_s: float | None) -> None:
        """Count a job whose end is recorded. `first_token_s`: None where there was none, or where nobody knows."""
        sync = SYNC[0] if is_sync else SYNC[1]
        self.jobs[_outcome(finish, is_refused=is_refused), sync] += 1
        self.tokens["prompt"] += finish.prompt_tokens or 0
        self.tokens["completion"] += finish.completion_tokens or 0
        self.waits[sync].note(waited_s)
        if first_token_s is not None:
            self.first_tokens[sync].note(first_token_s)

    def note_settled(self, micros: int) -> None:
        """Count a job that the ledger has settled."""
        self.settled += 1
        self.settled_micros += micros

    def told(self) -> Figures:
        """Write all for a `Teller`; what has not happened yet is told too where its labels are known."""
        return {
            **{(ANSWERS, (str(status),)): self.answers[status] for status in {*STATUSES, *self.answers}},
            **{(JOBS, (outcome, sync)): self.jobs[outcome, sync] for outcome in OUTCOMES for sync in SYNC},
            **{(TOKENS, (kind,)): self.tokens[kind] for kind in ("prompt", "completion")},
            **{(FIRST_TOKENS, (sync, le)): count for sync in SYNC for le, count in self.first_tokens[sync].buckets()},
            **{(WAITS, (sync, le)): count for sync in SYNC for le, count in self.waits[sync].buckets()},
            **{(BROKEN_ATTEMPTS, (by,)): self.broken_attempts[by] for by in {*BROKEN, *self.broken_attempts}},
            (SETTLED, ()): self.settled,
            (SETTLED_MICROS, ()): self.settled_micros,
            (OLDEST_UNSETTLED, ()): self.oldest_unsettled_s,
            **{(AUDIT_SAMPLES, (became,)): self.audit_samples[became] for became in {"queue_full", *self.audit_samples}},
            **{(EDGE_JOBS, (scoring,)): self.edge_jobs[scoring] for scoring in {"scorable", *self.edge_jobs}},
            **{(CANARIES, (became,)): self.canaries[became] for became in {"answered", "failed", *self.canaries}},
            (SERVE_TOLD, ()): time.time(),
        }


def _outcome(finish: Finish, *, is_refused: bool) -> str:
    if finish.state is JobState.SUCCEEDED:
        return SUCCEEDED
    if finish.state is JobState.CANCELED:
        return CANCELED
    if finish.is_incomplete:
        return INCOMPLETE
    return REFUSED if is_refused else FAILED


class Counted:
    """An ASGI application around another, that counts its answers by status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self._app(scope, receive, send)
            return
        answers: Counter[int] = scope["app"].state.context.figures.answers

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                answers[message["status"]] += 1
            await send(message)

        await self._app(scope, receive, send_counted)


async def tell_for_ever(figures: ServeFigures, meter_of: Callable[[RayMetric], Callable[[float, dict[str, str]], None]]) -> None:
    """Tell Prometheus what was counted."""
    teller = Teller(meter_of)
    while True:
        teller.tell(figures.told())
        await asyncio.sleep(TELL_S)
