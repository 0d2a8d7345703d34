"""The platform's copy of an agent's log of one attempt: the same events under the same numbers (design section 3).

So a driver reads an edge node as it reads a trusted one, from any position; and a copy that a new edge gateway makes from the agent's chunks
goes on where the lost one was. The clock is an argument; only waiting readers use the loop.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

from cluster.attempt_log import MAX_TEXT_BYTES, AttemptLog, bytes_of
from cluster.audit.timing import Timed
from cluster.edge import protocol
from cluster.edge.buckets import Bucket
from cluster.jobs import Admitted, Attempt, Beat, End, EndReason, Event, Fail, Text

CHUNKS_PER_S = 200
CHUNK_BURST = 400
MAX_LOG_BYTES = 16 * 1024 * 1024  # logprobs and vectors included
MAX_HEARD_BYTES = 2 * MAX_LOG_BYTES  # of frames, with all that is in them and is not kept
MAX_CHUNKS = 50_000  # twice what the longest job has at twenty a second
MAX_CLAIM_BYTES = 64 * 1024  # of an attempt that nobody asked for yet: more is not acknowledged
GRACE_S = 2.0  # beyond a deadline, for the agent's own word of it
QUIET_S = 2.0  # a reader hears something at least so often
STILL_THERE = b"\n"  # an empty line: there is no news


class Phase(Enum):
    """Where an attempt stands."""

    OFFERED = auto()
    RUNNING = auto()
    ENDING = auto()  # the agent said how it ended; the tokens are being counted
    ENDED = auto()


class Taken(Enum):
    """What became of a chunk."""

    NEW = auto()
    AGAIN = auto()
    GAP = auto()
    BEYOND_WINDOW = auto()
    TOO_MUCH = auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended by the agent's word. `claimed` is what its runtime counted."""

    reason: EndReason
    claimed: protocol.RuntimeUsage | None = None
    receipt: protocol.SignedReceipt | None = None


class Mirror:
    """The copy of one attempt on one node.

    `attempt` is None while only its agent has told of it; what was asked is known once a driver comes (`learn`). `delivered` events of
    earlier attempts stand before it.
    """

    def __init__(self, job: str, lease: int, node: str, now: float, *, attempt: Attempt | None = None, delivered: int = 0) -> None:
        self.job, self.lease, self.node = job, lease, node
        self.attempt = attempt
        self.delivered = len(attempt.delivered) if attempt else delivered
        self.log = AttemptLog(attempt.delivered if attempt else (), now)
        if attempt is None:
            self.log.lines = [b""] * delivered
        self.phase = Phase.OFFERED
        self.ending: Ending | None = None
        self.refusal: str | None = None  # why the agent did not take it
        self.answered = asyncio.Event()  # the offer was accepted, refused, or is void
        self.offered_at = now
        self.acked = 0
        self.ack_since: float | None = None  # since when a chunk waits for its ack
        self.cancel_at: float | None = None  # when the agent was told to stop
        self.is_told = False  # a reader has the end
        self.is_end_acked = False
        self.ended_by_agent = False
        self.is_replay = False  # it has ended on the agent, and is being said again
        self.contents: list[str] = []
        self.thinkings: list[str] = []
        self.said: list[str] = []  # all of it in order: thoughts, content, tool calls
        self.pieces = 0
        self.heard_bytes = 0
        self.said_at: float | None = None
        self.began_at: float | None = None  # its first text came
        self.was_offered_here = attempt is not None
        self._sizes: deque[int] = deque()  # of the chunks that are not acknowledged
        self._unacked_bytes = 0
        self._pace = Bucket(CHUNKS_PER_S, CHUNK_BURST)
        self._tokens_left = attempt.max_tokens if attempt else 0
        self._grew = asyncio.Event()
        self._hear_delivered(attempt.delivered if attempt else ())

    def _hear_delivered(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, Text):
                self._note_text(event)

    def _note_text(self, event: Text) -> None:
        self.contents.append(event.content)
        self.thinkings.append(event.thinking)
        self.said += [event.thinking, event.content, *([json.dumps(event.tool_calls)] if event.tool_calls else [])]

    @property
    def next_chunk(self) -> int:
        """The number of the next chunk; the end is none, so that an agent which comes back with it says it again until it is acknowledged."""
        return max(0, self.log.next_seq - self.log.has_ended - protocol.first_seq(self.delivered))

    @property
    def is_claim(self) -> bool:
        """Whether its agent alone has told of it."""
        return self.attempt is None

    @property
    def has_slot(self) -> bool:
        """Whether it takes a slot of its node."""
        return self.phase in {Phase.OFFERED, Phase.RUNNING} and not self.is_replay

    @property
    def has_text(self) -> bool:
        """Whether the agent said anything."""
        return self.pieces > 0

    def overdue(self, now: float) -> str | None:
        """Tell which deadline passed; the agent keeps the same ones, but nobody has to believe that."""
        if self.attempt is None:
            return None
        deadlines = self.attempt.deadlines
        if now - self.offered_at > deadlines.total_s + GRACE_S:
            return f"the job took longer than {deadlines.total_s:g} s"
        if self.said_at is None:
            late = now - self.offered_at > deadlines.first_token_s + GRACE_S
            return f"no first token within {deadlines.first_token_s:g} s" if late else None
        return f"no token for {deadlines.idle_s:g} s" if now - self.said_at > deadlines.idle_s + GRACE_S else None

    def timed(self, tokens: int) -> Timed | None:
        """Tell how long an answer of so many tokens took; None: nobody here saw all of it."""
        if not self.was_offered_here or self.delivered or self.said_at is None or self.began_at is None:
            return None
        return Timed(tokens, self.said_at - self.offered_at, self.said_at - self.began_at)

    def learn(self, attempt: Attempt) -> None:
        """Take what was asked, told by a driver that found the attempt running."""
        if self.attempt is not None:
            return
        self.attempt = attempt
        self._tokens_left = attempt.max_tokens
        if len(attempt.delivered) == self.delivered:
            own = self.contents, self.thinkings, self.said
            self.contents, self.thinkings, self.said = [], [], []
            self._hear_delivered(attempt.delivered)
            for mine, theirs in zip((self.contents, self.thinkings, self.said), own, strict=True):
                mine.extend(theirs)

    # --- what the agent says -----------------------------------------------------------------------------------------------------------

    def accept(self, now: float) -> None:
        """Begin: the agent took it."""
        if self.phase is Phase.OFFERED:
            self.phase = Phase.RUNNING
            self.log.append(Admitted(seq=self.log.next_seq, node=self.node), now)
            self._wake()
            self.answered.set()

    def refuse(self, reason: str) -> None:
        """End before the beginning: the agent did not take it, and nothing was started."""
        self.phase, self.refusal = Phase.ENDED, reason
        self.answered.set()

    def resume(self, held: protocol.Held) -> None:
        """Go on after a new connection: the agent takes all that is here as acknowledged, and says again what is not."""
        self.is_replay = held.ended
        self.acked, self.ack_since = self.next_chunk, None
        self._sizes.clear()
        self._unacked_bytes = 0
        self._pace = Bucket(CHUNKS_PER_S, CHUNK_BURST)
        self._pace.add(max(0, min(held.next_seq - self.acked, MAX_CHUNKS)))

    def take(self, chunk: protocol.Chunk, size_bytes: int, now: float) -> Taken:
        """Take a chunk of a running attempt; `size_bytes` is its frame's."""
        if chunk.seq != self.next_chunk:
            self.ack_since = self.ack_since if self.ack_since is not None else now
            return Taken.AGAIN if chunk.seq < self.next_chunk else Taken.GAP
        if chunk.seq - self.acked >= protocol.UNACKED_CHUNKS or self._unacked_bytes > 2 * protocol.UNACKED_BYTES:
            return Taken.BEYOND_WINDOW
        event = protocol.event_of(chunk, self.delivered)
        self.heard_bytes += size_bytes
        if isinstance(event, Text):
            event = self._bounded(event)
            self.log.text_bytes += bytes_of(event.content) + bytes_of(event.thinking)
        if self._is_too_much(chunk.seq):
            return Taken.TOO_MUCH
        if isinstance(event, Text):
            self._note_text(event)
            self.pieces += 1
            self.said_at = now
            self.began_at = now if self.began_at is None else self.began_at
        self._append(event, now)
        self._sizes.append(size_bytes)
        self._unacked_bytes += size_bytes
        self.ack_since = self.ack_since if self.ack_since is not None else now
        return Taken.NEW

    def _is_too_much(self, seq: int) -> bool:
        log = self.log
        return log.text_bytes > MAX_TEXT_BYTES or log.size_bytes > MAX_LOG_BYTES or self.heard_bytes > MAX_HEARD_BYTES or seq >= MAX_CHUNKS

    def _bounded(self, event: Text | Beat) -> Text:
        """Believe of the agent's token count what the text can have at most: one per byte, and no more than were asked for."""
        assert isinstance(event, Text)
        most = bytes_of(event.content) + bytes_of(event.thinking) + len(event.tool_calls)
        tokens = min(event.tokens, most, self._tokens_left) if self.attempt else min(event.tokens, most)
        self._tokens_left -= tokens
        return replace(event, tokens=tokens)

    def end(self, ending: Ending) -> bool:
        """Note how it ended by the agent's word; False: that is known already."""
        if self.phase is not Phase.RUNNING:
            return False
        self.phase, self.ending, self.ended_by_agent = Phase.ENDING, ending, True
        return True

    # --- how it ends -------------------------------------------------------------------------------------------------------------------

    def finish(self, end: End | Fail, now: float, *, by_agent: bool = False) -> None:
        """Write the end, once. Nothing follows."""
        if self.phase is Phase.ENDED:
            return
        if self.phase is Phase.OFFERED:
            self.refuse("void")
            return
        self.phase = Phase.ENDED
        self.ended_by_agent = self.ended_by_agent or by_agent
        self._append(replace(end, seq=self.log.next_seq), now)
        self.contents.clear()
        self.thinkings.clear()
        self.said.clear()
        if self.attempt:
            self.attempt = replace(self.attempt, request={}, delivered=())  # the log is kept for a while, the prompt is not

    def _append(self, event: Event, now: float) -> None:
        self.log.append(event, now)
        self._wake()

    def _wake(self) -> None:
        self._grew.set()
        self._grew = asyncio.Event()

    # --- acks --------------------------------------------------------------------------------------------------------------------------

    def ack(self, now: float) -> int | None:
        """Tell what to acknowledge now; None: nothing yet. Chunks above the pace wait: the agent's window makes it slow down.

        Of a claim little is acknowledged until somebody asks for the attempt.
        """
        if self.ack_since is None or (self.is_claim and self.log.size_bytes > MAX_CLAIM_BYTES):
            return None
        waiting = self.next_chunk - self.acked
        if waiting < protocol.ACK_EVERY_CHUNKS and now - self.ack_since < protocol.ACK_EVERY_S:
            return None
        taken = self._pace.take_up_to(waiting, now)
        if waiting and not taken:
            return None
        self.acked += taken
        for _ in range(min(taken, len(self._sizes))):
            self._unacked_bytes -= self._sizes.popleft()
        self.ack_since = None if self.acked == self.next_chunk else now
        return self.acked

    # --- reading -----------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Count as a reader. One that leaves after the end without an error has it."""
        self.log.opened()
        try:
            yield
            self.is_told = self.log.has_ended
        finally:
            self.log.closed(time.monotonic())

    async def lines_from(self, seq: int) -> tuple[bytes, int, bool]:
        """Wait for lines at a position; answer them, the next position, and whether these are the last ones. An empty line: no news."""
        log = self.log
        while seq >= log.next_seq and not log.has_ended:
            grew = self._grew
            try:
                async with asyncio.timeout(QUIET_S):
                    await grew.wait()
            except TimeoutError:
                return STILL_THERE, seq, False
        return log.since(seq), max(seq, log.next_seq), log.has_ended
