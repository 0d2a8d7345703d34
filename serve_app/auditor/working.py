"""The auditor's loop: takes samples from the ledger, has each examined, reports. What it cannot finish comes back when its lease ends."""

import asyncio
import time
from typing import Protocol

import structlog

from cluster.errors import RuntimeFailed
from ledger.client import AuditReported, AuditTask, AuditVerdict, LedgerError, LedgerUnavailable
from serve_app.auditor.examining import Examiner
from serve_app.auditor.metrics import AuditorMetrics

log = structlog.get_logger()
TASKS = 2  # taken at once: their lease of ten minutes must be long enough for each
TRIES = 3
PAUSE_S = 5.0  # between tries
EXAMINE_LIMIT_S = 240.0


class AuditWork(Protocol):
    """Where samples come from and verdicts go: the ledger's client."""

    async def take_audits(self, limit: int = 1) -> tuple[AuditTask, ...]:
        """Take the most urgent samples."""

    async def report_audit(self, verdict: AuditVerdict) -> AuditReported:
        """Report what an audit found."""


class Auditor:
    """Works while there is work."""

    def __init__(self, ledger: AuditWork, examiner: Examiner, metrics: AuditorMetrics, look_s: float) -> None:
        self._ledger, self._examiner, self._metrics, self._look_s = ledger, examiner, metrics, look_s

    async def run(self) -> None:
        """Work for ever."""
        while True:
            if not await self.work():
                await asyncio.sleep(self._look_s)

    async def work(self) -> int:
        """Do what waits now; answer how many samples that were."""
        try:
            tasks = await self._ledger.take_audits(TASKS)
        except LedgerError as silent:
            self._failed("ledger", silent)
            return 0
        self._metrics.looked_at.set_to_current_time()
        for task in tasks:
            verdict = await self._examined(task)
            if verdict is None or not await self._reported(verdict):
                self._metrics.given_up.inc()
        return len(tasks)

    async def _examined(self, task: AuditTask) -> AuditVerdict | None:
        """Examine a sample; None: the reference does not answer."""
        for _ in range(TRIES):
            began = time.monotonic()
            try:
                async with asyncio.timeout(EXAMINE_LIMIT_S):
                    verdict = await self._examiner.examine(task)
            except (RuntimeFailed, TimeoutError) as silent:
                self._failed("reference", silent)
                await asyncio.sleep(PAUSE_S)
                continue
            self._metrics.seconds.observe(time.monotonic() - began)
            return verdict
        return None

    async def _reported(self, verdict: AuditVerdict) -> bool:
        """Report a verdict; False: nobody has it."""
        for _ in range(TRIES):
            try:
                said = await self._ledger.report_audit(verdict)
            except LedgerUnavailable as silent:
                self._failed("ledger", silent)
                await asyncio.sleep(PAUSE_S)
                continue
            except LedgerError as refused:  # it was too old
                log.warning("verdict_refused", job=str(verdict.id), reason=str(refused))
                return False
            self._metrics.note(verdict)
            log.info(
                "audited", job=str(verdict.id), node=said.node, rule=verdict.rule, is_flagged=verdict.is_flagged, score=round(verdict.score, 3),
                tokens=verdict.tokens, strikes=said.strikes, state=said.state, detail=verdict.detail,
            )  # fmt: skip
            return True
        return False

    def _failed(self, who: str, failed: Exception) -> None:
        self._metrics.failures.labels(who).inc()
        log.warning("auditor_waits", who=who, reason=str(failed) or type(failed).__name__)
