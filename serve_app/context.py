"""What the Serve application's handlers work with: made in the replica's lifespan, put together otherwise in tests."""

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.breaker import Breakers
from cluster.limits import LIMITS, Limits
from cluster.node_client import ModelFacts, Nodes
from cluster.poison import PoisonList
from cluster.retry_budget import RetryBudget
from cluster.view import View
from ledger.client import LedgerOperations
from serve_app.auditing import AuditDesk
from serve_app.auth import Callers
from serve_app.feed import LedgerFeed
from serve_app.job import OpenJob
from serve_app.kept import KeptAnswers
from serve_app.metrics import ServeFigures
from serve_app.settings import ServeSettings
from serve_app.settlement import Settlement
from serve_app.store.batches import BatchStore
from serve_app.store.cancels import Cancels
from serve_app.store.counts import Counts
from serve_app.store.files import FileStore
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.pages import JobPages
from serve_app.tracing.steps import NoTraces, Traces
from serve_app.webhooks.desk import WebhookDesk

if TYPE_CHECKING:
    from serve_app.canaries.desk import CanaryDesk

T = TypeVar("T")


@dataclass(slots=True)
class ServeContext:
    """Ledger, cluster and job rows, as one replica has them."""

    settings: ServeSettings
    ledger: LedgerOperations
    callers: Callers
    view: View
    nodes: Nodes
    facts: ModelFacts
    writer: JobWriter
    store: JobStore
    settlement: Settlement
    feed: LedgerFeed
    cancels: Cancels
    pages: JobPages
    counts: Counts
    webhooks: WebhookDesk
    files: FileStore
    batches: BatchStore
    limits: Limits = LIMITS
    rng: Random = field(default_factory=Random)
    breakers: Breakers = field(default_factory=Breakers)
    poison: PoisonList = field(default_factory=PoisonList)
    retries: RetryBudget = field(default_factory=RetryBudget)
    described: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)  # what models are: when it was asked, and the answer
    driven: dict[uuid.UUID, OpenJob] = field(default_factory=dict)  # jobs that this replica drives now
    audits: AuditDesk | None = None  # None: nobody audits here
    canaries: "CanaryDesk | None" = None  # None: nobody sends any here
    figures: ServeFigures = field(default_factory=ServeFigures)
    traces: Traces = field(default_factory=NoTraces)
    kept: KeptAnswers = field(default_factory=KeptAnswers)
    _background: set["asyncio.Task[Any]"] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Do something that must not depend on whether a client stays."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def drained(self, limit_s: float) -> None:
        """Wait for what was spawned, at most so long."""
        if self._background:
            await asyncio.wait(self._background, timeout=limit_s)
