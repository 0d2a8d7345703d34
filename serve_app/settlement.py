"""Tells the ledger what it is owed, until it acknowledges. The rows are the outbox: what a crash leaves open is found there again."""

import asyncio
import json
import uuid
from collections.abc import Iterable
from typing import Literal, cast

import structlog

from ledger.client import Capture, HoldNotOpen, LedgerError, LedgerOperations, NotFound, OwnNode, Served, Settled, Share, Void
from serve_app.db import DatabaseUnavailable
from serve_app.metrics import ServeFigures
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.records import Owed
from serve_app.tracing.steps import Traces

log = structlog.get_logger()
LOOK_S = 3.0
LEAVE_TO_DRIVER_S = 5.0
VOID, VOID_RETRYABLE, CAPTURE, GOODWILL = "void", "void_retryable", "capture", "goodwill"
_Outcome = Literal["succeeded", "incomplete", "canceled"]


def capture_of(outcome: str) -> str:
    """Write what is owed for a job that is to be paid for."""
    return f"{CAPTURE}:{outcome}"


class Settlement:
    """Captures and voids through the batched operations."""

    def __init__(self, ledger: LedgerOperations, writer: JobWriter, store: JobStore, figures: ServeFigures, traces: Traces) -> None:
        self._ledger, self._writer, self._store, self._figures, self._traces = ledger, writer, store, figures, traces
        self._in_flight: set[uuid.UUID] = set()

    async def settle(self, owed: Owed) -> None:
        """Tell the ledger once; if it does not acknowledge, the loop tells it again."""
        if owed.id in self._in_flight:
            return
        self._in_flight.add(owed.id)
        try:
            with self._traces.step(owed.id, "settle", owed=owed.what, attempt=owed.attempt):
                settled = await self._tell(owed)
        except (OwnNode, NotFound) as unpaid:
            log.warning("nobody_to_pay", job=str(owed.id), node=owed.node, reason=str(unpaid))
            await self._give_back(owed)
        except HoldNotOpen as refused:
            # Resolved otherwise: expired, or voided by the sweeper. Nothing is left to do; the books are right by themselves.
            log.warning("settlement_refused", job=str(owed.id), owed=owed.what, reason=str(refused))
            self._writer.settled(owed.id, 0)
        except LedgerError as failed:
            log.info("settlement_postponed", job=str(owed.id), reason=type(failed).__name__)
        else:
            self._writer.settled(owed.id, settled.cost)
            self._figures.note_settled(settled.cost)
        finally:
            self._in_flight.discard(owed.id)

    async def _give_back(self, owed: Owed) -> None:
        """A job that ran on the consumer's own node, or on one that was banned meanwhile, costs nothing."""
        try:
            await self._ledger.void(Void(id=owed.id, reason="nobody to pay"))
        except HoldNotOpen:
            self._writer.settled(owed.id, 0)
        except LedgerError as failed:
            log.info("settlement_postponed", job=str(owed.id), reason=type(failed).__name__)
        else:
            self._writer.settled(owed.id, 0)

    async def _tell(self, owed: Owed) -> Settled:
        kind, _, outcome = owed.what.partition(":")
        if kind == GOODWILL:
            served = Served(
                node=owed.node, attempt=owed.attempt, prompt_tokens=owed.prompt_tokens, completion_tokens=owed.completion_tokens
            )  # fmt: skip
            return await self._ledger.void(Void(id=owed.id, reason="lost by the platform", served=served))
        if kind != CAPTURE:
            return await self._ledger.void(Void(id=owed.id, reason="not served", retryable=kind == VOID_RETRYABLE))
        operation = Capture(
            id=owed.id, outcome=cast("_Outcome", outcome), prompt_tokens=owed.prompt_tokens, completion_tokens=owed.completion_tokens,
            counted_by="platform" if owed.counted_by == "platform" else "provider", node=owed.node, attempt=owed.attempt,
            shares=tuple(Share(**one) for one in json.loads(owed.served or "[]")),
        )  # fmt: skip
        return await self._ledger.capture(operation)

    async def settle_all(self, owed: Iterable[Owed]) -> None:
        """Tell the ledger many; they share its batches."""
        await asyncio.gather(*(self.settle(one) for one in owed))

    async def run(self) -> None:
        """Look for ever for what is owed and was not acknowledged, whoever's job it was."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                owed = await self._store.owed(LEAVE_TO_DRIVER_S)
                self._figures.oldest_unsettled_s = owed[0].age_s if owed else 0.0
                await self.settle_all(owed)
            except DatabaseUnavailable:
                continue
