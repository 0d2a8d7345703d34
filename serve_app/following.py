"""Reads a job along from any position: from the node that runs it, whoever drives it, or from what is kept of it (design section 3).

Numbers are those of the attempt log, the same for every reader. So a client that lost its stream, or whose replica was killed, goes on where
it was; and a job that ended long ago is told as it was told then.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from cluster.errors import AttemptSuperseded, ClusterError, NodeLost
from cluster.jobs import Admitted, Beat, End, Fail, Text
from cluster.nodes import Node
from ledger.client import job_id
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import DeliveryBroken, UnknownJob
from serve_app.store.answers import told_of
from serve_app.store.records import JobRecord, JobState

LOOK_S = 0.1
SLOW_LOOK_S = 1.0
SEEN_S = 5.0
TELL_S = 2.0  # a reader hears something at least so often

Followed = Text | Beat | JobRecord | None


class Place:
    """A reader's place in an answer, kept over attempts. Pure.

    A reader that heard a lost node itself may be ahead of the driver by an event: what it told already must neither be told again nor, if the
    answer went another way, be passed over in silence. So a log is always read from where this reader began, and what it told is skipped.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self._next = begin
        self._told: list[str] = []
        self._owed = ""
        self._kept = ""

    def again(self) -> int:
        """Read another log of the same answer: tells from which number."""
        self._owed, self._kept = "".join(self._told), ""
        return self.begin

    def take(self, event: Text | Beat | Admitted) -> Text | Beat | None:
        """Take the next event of a log; answer what is new of it.

        Raises:
            ValueError: The answer goes another way than what was told.
        """
        text = event.content if isinstance(event, Text) else ""
        common = min(len(text), len(self._owed))
        if text[:common] != self._owed[:common]:
            raise ValueError("another attempt answered otherwise")
        self._owed, text = self._owed[common:], self._kept + text[common:]
        if event.seq < self._next:
            self._kept = text
            return None
        self._next, self._kept = event.seq + 1, ""
        self._told.append(text)
        if isinstance(event, Text):
            return replace(event, content=text)
        return Text(seq=event.seq, content=text) if text else Beat(seq=event.seq)

    def rest(self) -> Text | None:
        """Tell what is left when the log has ended."""
        return Text(seq=self._next, content=self._kept) if self._kept else None


async def follow(context: ServeContext, record: JobRecord, from_seq: int) -> AsyncGenerator[Followed, None]:
    """Yield a job's events from a position on, None when there is nothing to tell for a while, and at last its record when it has ended.

    Raises:
        UnknownJob: It is gone.
        DeliveryBroken: It goes on otherwise than it was told so far.
    """
    place, start = Place(from_seq), from_seq
    heard_at = time.monotonic()
    try:
        async with _seen(context, record):
            while not record.has_ended:
                if (node := _node_of(context, record)) is not None:
                    async for said in _read(context, record, node, place, start):
                        heard_at = time.monotonic()
                        yield said
                if time.monotonic() - heard_at > TELL_S:
                    heard_at = time.monotonic()
                    yield None
                record = await _look_again(context, record)
                start = place.again()
        place.again()
        for text in told_of(record.result, record.marks)[from_seq:]:
            if (new := place.take(_as_told(text))) is not None:
                yield new
        if (rest := place.rest()) is not None:
            yield rest
    except ValueError as diverged:
        raise DeliveryBroken(job_id(record.id), f"{diverged}; read it again from 0") from diverged
    yield record


def _as_told(text: Text) -> Text | Beat:
    return text if text.content or text.thinking or text.tool_calls or text.embeddings else Beat(seq=text.seq)


def _node_of(context: ServeContext, record: JobRecord) -> Node | None:
    try:
        return context.view.snapshot.nodes.get(record.node or "")
    except ClusterError:
        return None


async def _read(context: ServeContext, record: JobRecord, node: Node, place: Place, start: int) -> AsyncIterator[Text | Beat]:
    """Read the log of the running attempt to its end, or as far as it goes."""
    with suppress(NodeLost, AttemptSuperseded):
        async for event in context.nodes.attach(node.url, job_id(record.id), record.attempt, start, node=node.id):
            if isinstance(event, End | Fail):
                return  # what it means is in the job's row, once its driver has written it
            if (said := place.take(event)) is not None:
                yield said


async def _look_again(context: ServeContext, record: JobRecord) -> JobRecord:
    """Read the job's row again, soon."""
    await asyncio.sleep(LOOK_S if record.state is JobState.RUNNING else SLOW_LOOK_S / 2)
    try:
        found = await context.store.find(record.id)
    except DatabaseUnavailable:
        await asyncio.sleep(SLOW_LOOK_S)
        return record
    if found is None:
        raise UnknownJob
    return found


@asynccontextmanager
async def _seen(context: ServeContext, record: JobRecord) -> AsyncIterator[None]:
    """Let the job's driver know, as long as this reader is here, that somebody reads."""

    async def note() -> None:
        while True:
            with suppress(DatabaseUnavailable):
                await context.store.note_seen(record.id)
            await asyncio.sleep(SEEN_S)

    noting = None if record.has_ended else asyncio.create_task(note())
    try:
        yield
    finally:
        if noting:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)
