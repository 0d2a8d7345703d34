"""One attempt on a node while it runs: its log, how text gets into it, how readers wait for more."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cluster.attempt_log import MAX_EVENT_BYTES, MAX_EXTRA_BYTES, AttemptLog, Coalescer, bytes_of, clipped, embedding_events
from cluster.continuation import said_in
from cluster.jobs import Admitted, Attempt, Beat, End, Event, Fail, Text
from cluster.limits import Limits
from cluster.runtime.ollama import RuntimeText
from cluster.speed import Ran

CANCELED = "canceled"
ABANDONED = "abandoned"
SUPERSEDED = "superseded"


class Running:
    """An attempt, admitted by `node`. Its owner runs `task` and calls `end` once."""

    def __init__(self, attempt: Attempt, node: str) -> None:
        """Begin the log.

        Raises:
            ValueError: What was delivered before is not the beginning of a job.
        """
        now = time.monotonic()
        self.attempt = attempt
        self.log = AttemptLog(attempt.delivered, now)
        self.task: asyncio.Task[None] | None = None
        self.cancel_reason: str | None = None
        self.has_slot = True
        self.pieces = 0
        self.said = said_in(attempt.delivered)  # by earlier attempts: this one goes on from there
        self.said_tokens = sum(event.tokens for event in attempt.delivered if isinstance(event, Text))
        self.tokens_before = 0  # of the answer, in the prompt that the runtime was given
        self._texts: list[str] = [self.said] if self.said else []
        self._coalescer = Coalescer()
        self._timer: asyncio.TimerHandle | None = None
        self._grew = asyncio.Event()
        self._may_go_on: asyncio.Event | None = None  # None: it may
        self._started_at = now
        self._first_said_at: float | None = None
        self._said_at: float | None = None
        self.append(Admitted(seq=self.log.next_seq, node=node))

    @property
    def text(self) -> str:
        """All that the model said, in earlier attempts too: thinking, content and tool calls, as they came."""
        return "".join(self._texts)

    # --- writing -------------------------------------------------------------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Append an event and wake the readers."""
        self.log.append(event, time.monotonic())
        self._wake()

    def _wake(self) -> None:
        self._grew.set()
        self._grew = asyncio.Event()

    def heard(self) -> None:
        """The runtime says again what was said before: that is progress, though it is not told."""
        self._said_at = time.monotonic()

    @property
    def is_held_back(self) -> bool:
        """Whether nothing more is read from the runtime for now."""
        return self._may_go_on is not None

    def hold_back(self, *, holds: bool) -> None:
        """Stop reading from the runtime, as whoever takes the answer does not keep up; or go on."""
        if holds and self._may_go_on is None:
            self._may_go_on = asyncio.Event()
        elif not holds and self._may_go_on is not None:
            self._may_go_on.set()
            self._may_go_on = None

    async def go_on(self) -> None:
        """Wait while it is held back."""
        while self._may_go_on is not None:
            await self._may_go_on.wait()

    def add(self, piece: RuntimeText) -> bool:
        """Take what the model said; False when the log is full: then this attempt is over.

        Raises:
            ValueError: It does not fit on a line.
        """
        now = time.monotonic()
        self._said_at = now
        self._first_said_at = self._first_said_at or now
        self.pieces += 1
        if piece.embeddings:
            for event in embedding_events(self.log.next_seq, piece.embeddings):
                self.append(event)
        if piece.tool_calls and not self._add_tool_calls(piece):
            return False
        if piece.content or piece.thinking:
            return self._add_text(piece.content, piece.thinking, piece.logprobs, now)
        return True

    def _add_text(self, content: str, thinking: str, logprobs: Sequence[Mapping[str, Any]], now: float) -> bool:
        room = self.log.room_bytes
        if logprobs and (extra := len(json.dumps(logprobs))) < min(room, MAX_EXTRA_BYTES):
            room -= extra
            self.log.text_bytes += extra
        else:
            extra, logprobs = 0, ()
        size = bytes_of(content) + bytes_of(thinking)
        if is_full := size > room:
            thinking = clipped(thinking, room)
            content = clipped(content, room - bytes_of(thinking))
            size = bytes_of(content) + bytes_of(thinking)
        self.log.text_bytes += size
        self._texts.append(thinking + content)
        self._coalescer.add(content, thinking, 1, size + extra, logprobs)
        wait = self._coalescer.due_in(now)
        if wait <= 0:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self.flush)
        return not is_full

    def _add_tool_calls(self, piece: RuntimeText) -> bool:
        said = json.dumps(piece.tool_calls)
        if len(said) > min(self.log.room_bytes, MAX_EVENT_BYTES):
            return False
        self.log.text_bytes += len(said)
        self._texts.append(said)
        self.flush()
        self.append(Text(seq=self.log.next_seq, tool_calls=piece.tool_calls, tokens=1))
        return True

    def flush(self) -> None:
        """Put the kept text into the log."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.log.has_ended:
            return
        for event in self._coalescer.take(self.log.next_seq, time.monotonic()):
            self.append(event)

    def end(self, end: End | Fail) -> None:
        """Write the end, once. Nothing follows."""
        if self.log.has_ended:
            return
        self.flush()
        self.append(replace(end, seq=self.log.next_seq))
        self._texts.clear()
        self.attempt = replace(self.attempt, request={}, delivered=())  # the log is kept for a while, the prompt is not

    def cancel(self, reason: str) -> None:
        """Stop it; the first reason counts."""
        if not self.log.has_ended and self.cancel_reason is None and self.task:
            self.cancel_reason = reason
            self.task.cancel()

    def ran(self, now: float, *, was_loaded: bool) -> Ran | None:
        """Tell how fast it was; None when it said nothing."""
        if self._first_said_at is None or self._said_at is None:
            return None
        return Ran(
            first_token_s=self._first_said_at - self._started_at, writing_s=self._said_at - self._first_said_at, tokens=self.pieces,
            job_s=now - self._started_at, was_loaded=was_loaded,
        )  # fmt: skip

    # --- time ----------------------------------------------------------------------------------------------------------------------

    def look(self, now: float, limits: Limits) -> None:
        """Cancel it when a deadline passed or nobody reads; beat when it has been silent."""
        if reason := self._overdue(now):
            self.cancel(reason)
        elif not self.log.has_ended and now - self.log.spoke_at >= limits.beat_s:
            self.append(Beat(seq=self.log.next_seq))

    def _overdue(self, now: float) -> str | None:
        deadlines = self.attempt.deadlines
        if self.log.is_abandoned(now):
            return ABANDONED
        if now - self._started_at > deadlines.total_s:
            return f"the job took longer than {deadlines.total_s:g} s"
        if self._may_go_on is not None:
            self._said_at = now  # the silence is ours
        if self._said_at is None:
            late = now - self._started_at > deadlines.first_token_s
            return f"no first token within {deadlines.first_token_s:g} s" if late else None
        return f"no token for {deadlines.idle_s:g} s" if now - self._said_at > deadlines.idle_s else None

    # --- reading -------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Count as a reader: an attempt that nobody reads is canceled after a while."""
        self.log.opened()
        try:
            yield
        finally:
            self.log.closed(time.monotonic())

    async def lines_from(self, seq: int) -> tuple[bytes, int, bool]:
        """Wait for lines at a position; answer them, the next position, and whether these are the last ones."""
        log = self.log
        while seq >= log.next_seq and not log.has_ended:
            await self._grew.wait()
        return log.since(seq), max(seq, log.next_seq), log.has_ended
