"""Offers ended jobs of edge nodes to be audited: prompt and answer, sealed to the auditor, off the request's path.

What is chosen waits in a short queue; when it is full, a sample is dropped, never a request delayed. The ledger keeps a sample for three days
at most and cannot read it. A job that its consumer marked `trusted` ran on the operator's machines and is not kept.
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol

import structlog

from cluster.audit.choosing import Choosing
from cluster.audit.sample import Sample
from cluster.audit.sampling import NotScorable, sampling_of
from cluster.jobs import JobKind, Text
from cluster.nodes import NodeKind
from ledger.client import MAX_SEALED, AuditOffered, AuditSample, LedgerError, LedgerUnavailable
from serve_app.feed import LedgerFeed
from serve_app.job import OpenJob

log = structlog.get_logger()
SEALING_KEY = "auditor_sealing.pub"  # the auditor's public key, 32 bytes in hexadecimal digits
SCORABLE = "scorable"
MAX_WAITING = 64  # samples
TRIES = 3
PAUSE_S = 2.0  # between tries


class AuditOffers(Protocol):
    """Where samples go: the ledger's client."""

    async def offer_audit(self, sample: AuditSample) -> AuditOffered:
        """Offer an ended job to be audited."""


class AuditDesk:
    """Chooses jobs and offers them.

    `counts`: what became of jobs that were chosen. `ended`: every job of an edge node that ended well, by `scorable`, or why it is not.
    """

    def __init__(
        self,
        ledger: AuditOffers,
        feed: LedgerFeed,
        seal_to: bytes,
        choosing: Choosing | None = None,
    ) -> None:
        self._ledger, self._feed, self._seal_to = ledger, feed, seal_to
        self._choosing = choosing or Choosing()
        self._waiting: asyncio.Queue[OpenJob] = asyncio.Queue(MAX_WAITING)
        self.counts: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    def note(self, job: OpenJob, cost: int) -> None:
        """Take a job that has just ended well, if it is to be audited; `cost` in micro-credits. Never waits."""
        node = job.node
        if node is None or node.kind is not NodeKind.EDGE:
            return
        why_not = _why_not_scorable(job)
        self.ended[why_not or SCORABLE] += 1
        if why_not:
            return
        fact = self._feed.nodes.get(node.id)
        percent = 100 if fact is None else fact.audit_percent  # a node so new that the feed has not told of it is on probation
        if not self._choosing.wants(node.id, job.asked.model, percent, datetime.now(UTC).date(), cost):
            return
        self.take(job)

    def take(self, job: OpenJob) -> None:
        """Take an answer to be offered; never waits."""
        if _why_not_scorable(job):
            return
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            self._dropped("queue_full")

    async def sample_of(self, job: OpenJob) -> AuditSample | None:
        """Make a sample of an answer; None: no rule can judge it."""
        if _why_not_scorable(job):
            return None
        try:
            return await asyncio.to_thread(_sample_of, job, self._seal_to)
        except _NotOffered:
            return None

    async def run(self) -> None:
        """Offer what was taken, for ever."""
        while True:
            await self._offer(await self._waiting.get())
            self._waiting.task_done()

    async def drained(self) -> None:
        """Wait until all that was taken has been offered."""
        await self._waiting.join()

    async def _offer(self, job: OpenJob) -> None:
        try:
            sample = await asyncio.to_thread(_sample_of, job, self._seal_to)
        except _NotOffered as unable:
            self._dropped(str(unable))
            return
        for n in range(TRIES):
            try:
                self.counts[(await self._ledger.offer_audit(sample)).status] += 1
            except LedgerUnavailable:
                await asyncio.sleep(PAUSE_S if n + 1 < TRIES else 0)
                continue
            except LedgerError as refused:
                log.warning("audit_sample_refused", job=job.name, reason=str(refused))
                self._dropped("refused")
            return
        self._dropped("ledger_silent")

    def _dropped(self, why: str) -> None:
        self.counts[why] += 1
        log.warning("audit_sample_dropped", why=why, so_far=self.counts[why])


class _NotOffered(Exception):
    """A sample that the ledger would not take; says why, in a word."""


def _why_not_scorable(job: OpenJob) -> str:
    """Tell why no rule can judge the answer, in a word of a list that is short; empty: text of one node alone, that may be kept."""
    if job.placed.caller.privacy == "trusted":
        return "trusted"
    if job.asked.kind is JobKind.EMBED:
        return "embedding"
    if job.shares:
        return "several_nodes"
    texts = [event for event in job.events if isinstance(event, Text)]
    for name, is_there in (
        ("thinking", any(text.thinking for text in texts)),
        ("tool_calls", any(text.tool_calls for text in texts)),
        ("no_text", not any(text.content for text in texts)),
    ):
        if is_there:
            return name
    try:
        sampling_of(job.asked.request)
    except NotScorable as unable:
        return unable.why
    return ""


def _sample_of(job: OpenJob, seal_to: bytes) -> AuditSample:
    """Seal a job's prompt and answer.

    Raises:
        _NotOffered: They are longer than what is kept, or the node claims no digest of its model.
    """
    assert job.node is not None
    weights = next((model.digest for model in job.node.models if model.name == job.asked.model), job.weights)
    sealed = Sample(job.asked.request, job.text).sealed(seal_to, job.name)
    if len(sealed) > MAX_SEALED:
        raise _NotOffered("too_large")
    try:
        return AuditSample(
            job=job.id, node=job.node.id, model=job.asked.model, model_digest=weights, weights_sha256=weights,
            rule_inputs={"runtime": job.node.runtime}, sealed=sealed,
        )  # fmt: skip
    except ValueError as wrong:
        raise _NotOffered("no_digest") from wrong
