"""Sends canaries: to models of edge nodes that are not admitted yet, and now and then to those that are (docs/concepts/verification.md).

What is to be sent is the ledger's word, leased, so that replicas do not send the same; a canary goes to a free slot, and only while nobody
waits for what its node serves. Nobody pays for one.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from random import Random
from secrets import SystemRandom
from typing import Any, Protocol

import structlog

from cluster.errors import ClusterError, NodeBusy
from cluster.nodes import Node, NodeKind, OfferedModel
from ledger.client import (
    MAX_NODES,
    MAX_OFFERS,
    AuditSample,
    CanaryOffer,
    CanaryReport,
    CanaryReported,
    CanaryTask,
    LedgerError,
    LedgerUnavailable,
    new_hold_id,
)
from serve_app.canaries.asking import Asked, ask, canary_job, written_for
from serve_app.canaries.due import to_test
from serve_app.context import ServeContext
from serve_app.job import OpenJob

log = structlog.get_logger()
LOOK_S = 2.0  # and at once when a canary is over: a node gets one after another
MOST_AT_ONCE = 8  # canaries that this replica has on their way
MOST_LATER = 16  # that wait for a free slot; more are dropped
LATER_TRIES, LATER_PAUSE_S = 30, 10.0
REPORT_TRIES, REPORT_PAUSE_S = 5, 2.0
FAULT_LETTERS = 250


class CanaryWork(Protocol):
    """Where canaries come from and their answers go: the ledger's client."""

    async def take_canaries(self, offers: Iterable[CanaryOffer], nodes: int) -> tuple[CanaryTask, ...]:
        """Take the canaries that are to be sent now."""

    async def report_canary(self, report: CanaryReport) -> CanaryReported:
        """Report what came of one."""


class CanaryDesk:
    """Sends canaries of one replica. `counts`: what became of them."""

    def __init__(self, context: ServeContext, ledger: CanaryWork, chance: Random | None = None) -> None:
        self._context, self._ledger = context, ledger
        self._chance = chance or SystemRandom()
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._is_over = asyncio.Event()
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Send for ever; what is on its way ends with this."""
        try:
            while True:
                await self._context.feed.admission_on.wait()
                self._is_over.clear()
                await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._is_over.wait()
        finally:
            tasks = [*self._tasks, *self._later]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> int:
        """Send what is to be sent now; answer how many that were."""
        nodes = min(MAX_NODES, MOST_AT_ONCE - len(self._tasks))
        if nodes <= 0:
            return 0
        try:
            offers = to_test(self._context.view.snapshot, self._context.feed, self._context.view.taken)
            if len(offers) > MAX_OFFERS:
                offers = self._chance.sample(offers, MAX_OFFERS)
            tasks = await self._ledger.take_canaries(offers, nodes) if offers else ()
        except (LedgerError, ClusterError) as silent:
            log.info("canaries_wait", reason=str(silent) or type(silent).__name__)
            return 0
        for task in tasks:
            _begin(self._tasks, self._test(task))
        return len(tasks)

    def note(self, job: OpenJob) -> None:
        """Take a job that has just ended well: now and then another canary follows it, of the same model on the same node. Never waits."""
        node = job.node
        if node is None or node.kind is not NodeKind.EDGE or self._context.audits is None:
            return
        if self._chance.random() * 100 >= self._context.settings.canary_percent:
            return
        if len(self._later) >= MOST_LATER:
            self.counts["dropped"] += 1
        else:
            _begin(self._later, self._check(node.id, job.asked.model))

    # --- one canary ----------------------------------------------------------------------------------------------------------------------

    async def _test(self, task: CanaryTask) -> None:
        """Send a canary that the ledger wants, and report."""
        try:
            await self._report(await self._answered(task))
        finally:
            self._is_over.set()

    async def _answered(self, task: CanaryTask) -> CanaryReport:
        found = self._find(task.node, task.model)
        if found is None or found[1].digest != task.digest:
            return CanaryReport(id=task.id, was_sent=False)
        try:
            asked = await self._ask(task.id, *found, is_long=task.kind == "long")
        except NodeBusy:
            await asyncio.sleep(LOOK_S)
            return CanaryReport(id=task.id, was_sent=False)
        return await self._report_of(asked)

    async def _ask(self, id_: uuid.UUID, node: Node, model: OfferedModel, *, is_long: bool) -> Asked:
        chance = Random(self._chance.getrandbits(64))
        written = await written_for(self._context, node, model, chance, is_long=is_long)
        return await ask(self._context, canary_job(id_, node, model.name, written))

    async def _report_of(self, asked: Asked) -> CanaryReport:
        if asked.fault:
            return CanaryReport(id=asked.job.id, failure=asked.fault.replace("\0", "")[:FAULT_LETTERS])
        audits = self._context.audits
        sample: AuditSample | None = await audits.sample_of(asked.job) if audits else None
        usage = asked.usage
        return CanaryReport(
            id=asked.job.id, prompt_tokens=usage.prompt_tokens if usage else 0, completion_tokens=usage.completion_tokens if usage else 0,
            first_token_s=asked.first_token_s, tokens_per_s=asked.tokens_per_s, sample=sample,
            why_not="unscorable" if audits else "no_auditor",
        )  # fmt: skip

    async def _report(self, report: CanaryReport) -> None:
        """Report; when nobody hears it, the lease ends and the canary is sent again."""
        self.counts["failed" if report.failure else "answered" if report.was_sent else "not_sent"] += 1
        if report.failure:
            log.info("canary_failed", canary=str(report.id), reason=report.failure)
        for n in range(REPORT_TRIES):
            try:
                await self._ledger.report_canary(report)
            except LedgerUnavailable:
                await asyncio.sleep(REPORT_PAUSE_S if n + 1 < REPORT_TRIES else 0)
                continue
            except LedgerError as refused:
                log.warning("canary_report_refused", canary=str(report.id), reason=str(refused))
            return
        self.counts["ledger_silent"] += 1

    async def _check(self, node: str, model: str) -> None:
        """Send a canary to an admitted model as soon as it has a free slot, and have it audited as a job is."""
        for _ in range(LATER_TRIES):
            found = self._find(node, model)
            if found and found[0].has_room and not self._context.view.snapshot.waiting.get(model):
                try:
                    asked = await self._ask(new_hold_id(), *found, is_long=False)
                except NodeBusy:
                    pass
                else:
                    self.counts["later_failed" if asked.fault else "later"] += 1
                    if not asked.fault and self._context.audits:
                        self._context.audits.take(asked.job)
                    return
            await asyncio.sleep(LATER_PAUSE_S)
        self.counts["dropped"] += 1

    def _find(self, node: str, model: str) -> tuple[Node, OfferedModel] | None:
        """Look up a model where it is offered now."""
        try:
            found = self._context.view.snapshot.nodes.get(node)
        except ClusterError:
            return None
        offer = next((one for one in found.models if one.name == model), None) if found else None
        return (found, offer) if found and offer else None


def _begin(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(_logged(work))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """Do something that nobody waits for; a defect of ours is written down."""
    try:
        await work
    except Exception:
        log.exception("canary_defect")
