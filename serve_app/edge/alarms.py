"""Tells the ledger of agents whose own counts are off, or that are faster than they can be: off the answer's path, from a short queue that drops what is too much."""

import asyncio
from typing import Protocol

import structlog

from cluster.edge.counting import Mismatch
from ledger.client import CountAlarm, CountAlarmTaken, LedgerError, LedgerUnavailable, uuid_of_job

log = structlog.get_logger()
MAX_WAITING = 256
TRIES = 5
PAUSE_S = 2.0  # between tries


class TakesAlarms(Protocol):
    """Where alarms go: the ledger's client."""

    async def alarm_count(self, alarm: CountAlarm) -> CountAlarmTaken:
        """Tell that a node's own counts of a job were off."""


class CountAlarms:
    """Alarms on their way."""

    def __init__(self, ledger: TakesAlarms) -> None:
        self._ledger = ledger
        self._waiting: asyncio.Queue[Mismatch] = asyncio.Queue(MAX_WAITING)

    def note(self, found: Mismatch) -> None:
        """Take an alarm; never waits."""
        try:
            self._waiting.put_nowait(found)
        except asyncio.QueueFull:
            log.warning("count_alarm_dropped", node=found.node, job=found.job)

    async def run(self) -> None:
        """Tell what was taken, for ever."""
        while True:
            await self._tell(await self._waiting.get())

    async def _tell(self, found: Mismatch) -> None:
        alarm = CountAlarm(job=uuid_of_job(found.job), node=found.node, claimed=found.claimed, counted=found.counted, kind=found.kind)
        for _ in range(TRIES):
            try:
                await self._ledger.alarm_count(alarm)
            except LedgerUnavailable:
                await asyncio.sleep(PAUSE_S)
                continue
            except LedgerError as refused:
                log.warning("count_alarm_refused", node=found.node, job=found.job, reason=str(refused))
            return
        log.warning("count_alarm_lost", node=found.node, job=found.job)
