"""One agent's connection, as the platform sees it: what each frame means, and what time does. Pure: no socket, and the clock is an argument.

A session reads frames and writes frames into its outbox; whoever owns the socket carries them. What outlasts a connection, the attempts and
what the node offers, is the node's (`cluster/edge/edge_node.py`).
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from cluster.edge import protocol
from cluster.edge.buckets import Bucket
from cluster.edge.edge_node import EdgeNode, shown
from cluster.edge.facts import AgentClaims, InvalidAgentToken
from cluster.edge.mirror import Ending, Mirror, Phase, Taken
from cluster.jobs import EndReason, Fail

log = structlog.get_logger()
FRAMES_PER_S, FRAME_BURST = 50, 100  # that are not chunks; WebSocket's pings too
FRAME_BYTES_PER_S, FRAME_BYTES_BURST = 64 * 1024, 2 * 1024 * 1024  # of the same
INVENTORIES_PER_S, INVENTORY_BURST = 1, 10  # each is news for every replica
REPLAYS_PER_S, REPLAY_BURST = 200, protocol.UNACKED_CHUNKS * protocol.MAX_RESUMED  # chunks that are here already
CANCELS_PER_S, CANCEL_BURST = 20, protocol.MAX_RESUMED  # of what a heartbeat names that is over
STRANGE_PER_MINUTE = 10  # frames of unknown types, or of other people's jobs
MAX_OUT_FRAMES = 1024  # that wait for a slow agent
MAX_OUT_BYTES = 4 * 1024 * 1024
TOKEN_LEEWAY_S = 60.0
MOST_TOLD_STALE = 256
STATUS_OF_FAIL = {
    "timed_out": 504,
    "runtime_unreachable": 502,
    "bad_output": 502,
    "model_missing": 404,
    "out_of_memory": 507,
    "bad_request": 400,
}


class Floor(Protocol):
    """What a session needs of the edge gateway that it belongs to."""

    def new_epoch(self, known: int) -> int:
        """Make a number above all that this node's connections had."""

    def verify(self, token: str) -> AgentClaims:
        """Check an agent's token."""

    def is_others(self, node: str, job: str, lease: int) -> bool:
        """Whether an attempt is another node's."""

    def note_ending(self, mirror: Mirror) -> None:
        """An attempt ended by its agent's word: count what it used."""

    def note_stale(self) -> None:
        """A frame of an attempt that is over was left alone."""

    def note_foreign(self, node: str) -> None:
        """A frame of another node's attempt was left alone."""

    def note_replay(self) -> None:
        """A chunk came again."""

    def note_frame(self, type_: str) -> None:
        """A frame came."""


class Session:
    """One connection. `closing` is the close code, once there is one; nothing is read or said after it."""

    def __init__(self, node: EdgeNode, floor: Floor, expires_at: float, now: float) -> None:
        self.node = node
        self._floor = floor
        self.expires_at = expires_at  # of the token, in this clock
        self.closing: tuple[int, str] | None = None
        self.epoch = 0
        self.opened_at = now
        self.heard_at = now
        self.is_suspect = False
        self.is_draining = False
        self.out: deque[str] = deque()
        self.out_bytes = 0
        self.wake: Callable[[], None] = lambda: None
        self._frames = Bucket(FRAMES_PER_S, FRAME_BURST)
        self._frame_bytes = Bucket(FRAME_BYTES_PER_S, FRAME_BYTES_BURST)
        self._inventories = Bucket(INVENTORIES_PER_S, INVENTORY_BURST)
        self._replays = Bucket(REPLAYS_PER_S, REPLAY_BURST)
        self._cancels = Bucket(CANCELS_PER_S, CANCEL_BURST)
        self._strange = Bucket(STRANGE_PER_MINUTE / 60, STRANGE_PER_MINUTE)
        self._beat_at = now
        self._beats = 0
        self._told_stale: set[tuple[str, int]] = set()

    @property
    def is_open(self) -> bool:
        """Whether `hello` was said and nothing closed it."""
        return self.epoch > 0 and self.closing is None

    # --- saying ------------------------------------------------------------------------------------------------------------------------

    def say(self, frame: protocol.Frame) -> None:
        """Put a frame into the outbox; an agent that does not read is let go."""
        self.send(frame.text())

    def send(self, text: str) -> None:
        """Put a frame's text into the outbox."""
        if self.closing:
            return
        self.out.append(text)
        self.out_bytes += len(text)
        if len(self.out) > MAX_OUT_FRAMES or self.out_bytes > MAX_OUT_BYTES:
            self.out.clear()
            self.out_bytes = 0
            self.close(protocol.CLOSE_OVERLOADED, "it does not read")
        self.wake()

    def next_out(self) -> str | None:
        """Take the next frame to send; None: there is none."""
        if not self.out:
            return None
        text = self.out.popleft()
        self.out_bytes -= len(text)
        return text

    def close(self, code: int, reason: str) -> None:
        """Close after what was said; the first reason counts."""
        if self.closing is None:
            self.closing = (code, reason[:100])
            self.wake()

    def _wrong(self, error: protocol.Error, code: int | None = None) -> None:
        self.say(error)
        if code is not None:
            self.close(code, error.code)

    def _strangeness(self, error: protocol.Error, now: float) -> None:
        """Answer something odd that a newer or confused agent may do now and then; not all the time."""
        self._wrong(error, None if self._strange.take(now) else protocol.CLOSE_BREACH)

    # --- hearing -----------------------------------------------------------------------------------------------------------------------

    def take(self, text: str, now: float) -> None:
        """Take a frame."""
        if self.closing:
            return
        self.heard_at = now
        if self.is_suspect:
            self.is_suspect = False
            self.node.changed()
        try:
            frame = protocol.from_agent(text)
        except protocol.BadFrame as bad:
            self._floor.note_frame(bad.error.code)
            if bad.error.code == "unknown_type":
                self._strangeness(bad.error, now)
            else:
                self._wrong(bad.error, protocol.CLOSE_BREACH)
            return
        self._floor.note_frame(frame.type)
        if (excess := self._excess(frame, len(text), now)) is not None:
            self._wrong(protocol.Error(code="too_many_frames", detail=excess, ref_type=frame.type), protocol.CLOSE_BREACH)
        elif isinstance(frame, protocol.Hello):
            self._hello(frame, now)
        elif self.epoch:
            self._take(frame, len(text), now)
        else:
            self._strangeness(protocol.Error(code="not_ready", detail="say `hello` first", ref_type=frame.type), now)

    def _excess(self, frame: protocol.FromAgent, size: int, now: float) -> str | None:
        """Tell which limit a frame that is no chunk is beyond; None: none."""
        if isinstance(frame, protocol.Chunk):
            return None
        if not self._frames.take(now):
            return f"at most {FRAMES_PER_S} frames a second that are no chunks"
        if self._frame_bytes.take_up_to(size, now) < size:
            return f"at most {FRAME_BYTES_PER_S} bytes a second of frames that are no chunks"
        if isinstance(frame, protocol.Inventory) and not self._inventories.take(now):
            return f"at most {INVENTORIES_PER_S} inventory a second"
        return None

    def ping(self, now: float) -> None:
        """WebSocket's own ping or pong came: it is no word of the agent's, and counts as a frame."""
        if not self._frames.take(now):
            self._wrong(protocol.Error(code="too_many_frames", detail="too many pings"), protocol.CLOSE_BREACH)

    def _take(self, frame: protocol.FromAgent, size: int, now: float) -> None:
        match frame:
            case protocol.Chunk():
                self._chunk(frame, size, now)
            case protocol.AgentHeartbeat():
                self._heartbeat(frame, now)
            case protocol.Inventory():
                self.node.take_inventory(frame)
            case protocol.Accept() | protocol.Reject() | protocol.End() | protocol.Fail() | protocol.Canceled():
                self._of_attempt(frame, now)
            case protocol.Auth():
                self._auth(frame, now)
            case protocol.Drain():
                if not self.is_draining:
                    self.is_draining = True
                    self.node.changed()
            case protocol.Bye():
                self.node.say_goodbye(now)
                self.close(1000, "bye")
            case protocol.Error():
                if self._strange.take(now):
                    log.info("agent_complains", node=self.node.id, code=shown(frame.code), detail=shown(frame.detail), job=frame.job)
            case _:
                raise AssertionError(frame)

    # --- hello -------------------------------------------------------------------------------------------------------------------------

    def _hello(self, hello: protocol.Hello, now: float) -> None:
        if self.epoch:
            error = protocol.Error(code="bad_message", detail="`hello` was said before", ref_type="hello")
            self._wrong(error, protocol.CLOSE_BREACH)
            return
        version = max(set(hello.versions) & set(protocol.VERSIONS), default=None)
        if version is None:
            detail = f"this platform speaks {list(protocol.VERSIONS)}; upgrade the agent: pip install --upgrade gpu-for-everyone"
            self._wrong(protocol.Error(code="no_common_version", detail=detail, ref_type="hello"), protocol.CLOSE_VERSION)
            return
        self.epoch = self._floor.new_epoch(self.node.epoch)
        resume, drop = self.node.take_over(self, hello.resume, lambda job, lease: self._floor.is_others(self.node.id, job, lease), now)
        limits = protocol.SessionLimits(slots=self.node.facts.slot_cap)
        self.say(protocol.Welcome(version=version, node=self.node.id, epoch=self.epoch, limits=limits, resume=resume, drop=drop))

    # --- attempts ----------------------------------------------------------------------------------------------------------------------

    def _mine(
        self, frame: protocol.Chunk | protocol.Accept | protocol.Reject | protocol.End | protocol.Fail | protocol.Canceled, now: float
    ) -> Mirror | None:
        """Find the attempt that a frame is of; None: it is over, or was never this node's, and the agent was told so."""
        mirror = self.node.mirrors.get((frame.job, frame.lease))
        if mirror is not None and (mirror.phase is not Phase.ENDED or mirror.ended_by_agent):
            return mirror
        if mirror is None and self._floor.is_others(self.node.id, frame.job, frame.lease):
            self._floor.note_foreign(self.node.id)
            error = protocol.Error(code="not_yours", detail="no such attempt of this node", ref_type=frame.type, job=frame.job)
            self._strangeness(error, now)
            return None
        self._floor.note_stale()
        self._tell_stale(frame)
        return None

    def _tell_stale(
        self, frame: protocol.Chunk | protocol.Accept | protocol.Reject | protocol.End | protocol.Fail | protocol.Canceled
    ) -> None:
        """Say once that an attempt is over; an end is acknowledged too, so that it is not said for ever."""
        attempt = frame.job, frame.lease
        if isinstance(frame, protocol.End | protocol.Fail):
            self.say(
                protocol.Ack(job=frame.job, lease=frame.lease, seq=frame.total if isinstance(frame, protocol.End) else frame.seq, end=True)
            )
        if attempt not in self._told_stale and not isinstance(frame, protocol.Canceled | protocol.Reject):
            if len(self._told_stale) >= MOST_TOLD_STALE:
                self._told_stale.clear()
            self._told_stale.add(attempt)
            self.say(protocol.Cancel(job=frame.job, lease=frame.lease, why="superseded"))

    def _chunk(self, chunk: protocol.Chunk, size: int, now: float) -> None:
        mirror = self._mine(chunk, now)
        if mirror is not None and mirror.phase is not Phase.RUNNING:
            self._floor.note_stale()
            mirror = None
        if mirror is None:
            if not self._frames.take(now):
                detail = "too many chunks of attempts that are over"
                self._wrong(protocol.Error(code="too_many_frames", detail=detail, ref_type="chunk", job=chunk.job), protocol.CLOSE_BREACH)
            return
        match mirror.take(chunk, size, now):
            case Taken.NEW:
                self._ack(mirror, now)
            case Taken.AGAIN:
                self._floor.note_replay()
                if not self._replays.take(now):
                    error = protocol.Error(code="too_many_frames", detail="too many chunks again", ref_type="chunk", job=chunk.job)
                    self._wrong(error, protocol.CLOSE_BREACH)
            case Taken.GAP:
                detail = f"chunk {mirror.next_chunk} was to come"
                self._wrong(protocol.Error(code="seq_gap", detail=detail, ref_type="chunk", job=chunk.job), protocol.CLOSE_BREACH)
            case Taken.BEYOND_WINDOW:
                detail = f"at most {protocol.UNACKED_CHUNKS} chunks that are not acknowledged"
                error = protocol.Error(code="too_many_frames", detail=detail, ref_type="chunk", job=chunk.job)
                self._wrong(error, protocol.CLOSE_BREACH)
            case Taken.TOO_MUCH:
                self.node.fail(mirror, Fail(seq=0, status=502, detail="the answer is longer than answers may be"), "deadline", now)

    def _ack(self, mirror: Mirror, now: float) -> None:
        if (seq := mirror.ack(now)) is not None:
            self.say(protocol.Ack(job=mirror.job, lease=mirror.lease, seq=seq))

    def _of_attempt(self, frame: protocol.Accept | protocol.Reject | protocol.End | protocol.Fail | protocol.Canceled, now: float) -> None:
        mirror = self._mine(frame, now)
        if mirror is None:
            return
        if mirror.phase is Phase.OFFERED and not isinstance(frame, protocol.Accept | protocol.Reject | protocol.Canceled):
            error = protocol.Error(code="not_ready", detail="the offer was not accepted", ref_type=frame.type, job=frame.job)
            self._strangeness(error, now)
            return
        match frame:
            case protocol.Accept():
                self.node.accepted(mirror, now)
            case protocol.Reject():
                self.node.refused(mirror, frame.reason)
            case protocol.End():
                self._end(mirror, frame, frame.total)
            case protocol.Fail():
                self._fail(mirror, frame, now)
            case protocol.Canceled():
                self._canceled(mirror, now)

    def _is_whole(self, mirror: Mirror, frame: protocol.End | protocol.Fail, said: int) -> bool:
        """Whether all chunks before an end came."""
        if mirror.phase is not Phase.RUNNING or said == mirror.next_chunk:
            return True
        detail = f"{mirror.next_chunk} chunks came, not {said}"
        self._wrong(protocol.Error(code="seq_gap", detail=detail, ref_type=frame.type, job=frame.job), protocol.CLOSE_BREACH)
        return False

    def _end(self, mirror: Mirror, end: protocol.End, total: int) -> None:
        if not self._is_whole(mirror, end, total):
            return
        if mirror.end(Ending(EndReason(end.reason), end.usage, end.receipt)):
            self.node.changed()
            self._floor.note_ending(mirror)
        else:
            mirror.is_end_acked = False  # it is said again: so its ack was lost

    def _fail(self, mirror: Mirror, fail: protocol.Fail, now: float) -> None:
        if not self._is_whole(mirror, fail, fail.seq):
            return
        if mirror.phase is not Phase.RUNNING:
            mirror.is_end_acked = False
            return
        status = fail.status if 400 <= fail.status < 600 else STATUS_OF_FAIL.get(fail.code, 500)
        end = Fail(seq=0, status=status, detail=shown(fail.detail) or fail.code, is_request_fault=fail.code == "bad_request")
        mirror.finish(end, now, by_agent=True)
        self.node.changed()

    def _canceled(self, mirror: Mirror, now: float) -> None:
        if mirror.phase is Phase.OFFERED:
            self.node.refused(mirror, "canceled")
        elif mirror.cancel_at is None and mirror.phase is Phase.RUNNING:
            mirror.finish(Fail(seq=0, status=503, detail="the agent stopped it"), now, by_agent=True)
            self.node.changed()
        elif mirror.end(Ending(EndReason.CANCELED)):
            self.node.changed()
            self._floor.note_ending(mirror)

    # --- life --------------------------------------------------------------------------------------------------------------------------

    def _heartbeat(self, beat: protocol.AgentHeartbeat, now: float) -> None:
        self.node.take_load(beat, now)
        for one in beat.jobs:
            mirror = self.node.mirrors.get((one.job, one.lease))
            if mirror is None or (mirror.phase is Phase.ENDED and not mirror.ended_by_agent):
                if not self._cancels.take(now):
                    return  # the next heartbeat names it again
                self.say(protocol.Cancel(job=one.job, lease=one.lease, why="superseded"))

    def _auth(self, auth: protocol.Auth, now: float) -> None:
        try:
            claims = self._floor.verify(auth.token)
        except InvalidAgentToken:
            claims = None
        if claims is None or claims.node != self.node.id or claims.key != self.node.facts.key:
            self.close(protocol.CLOSE_UNAUTHORIZED, "the token is not valid")
            return
        self.expires_at = now + claims.left_s
        self.say(protocol.AuthOk(expires_in_s=claims.left_s))

    def look(self, now: float) -> None:
        """See to what time does: no `hello`, silence, an expired token, the next heartbeat."""
        if self.closing:
            return
        if not self.epoch:
            if now - self.opened_at > protocol.HELLO_LIMIT_S:
                self.close(protocol.CLOSE_NO_HELLO, "no hello")
            return
        silent_s = now - self.heard_at
        if silent_s > protocol.OFFLINE_S:
            self.close(1001, "silent")
        elif now > self.expires_at + TOKEN_LEEWAY_S:
            self.close(protocol.CLOSE_UNAUTHORIZED, "the token expired")
        elif silent_s > protocol.SUSPECT_S and not self.is_suspect:
            self.is_suspect = True
            self.node.changed()
        if now - self._beat_at >= protocol.HEARTBEAT_S:
            self._beat_at, self._beats = now, self._beats + 1
            self.say(protocol.PlatformHeartbeat(n=self._beats))
