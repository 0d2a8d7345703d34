"""The append-only log of one attempt, read from any position (design section 3). Pure: the clock is an argument.

Events are numbered from 0 over the whole job; a later attempt begins with what earlier ones delivered, so every log starts at 0. On the
wire an event is one line of JSON, encoded once when it is appended and then sent to every reader as it is.
"""

import json
from collections.abc import Sequence
from typing import Any

from cluster.jobs import Admitted, Beat, End, EndReason, Event, Fail, Text, Usage

MAX_TEXT_BYTES = 1024 * 1024
COALESCE_S = 0.05
COALESCE_BYTES = 1024
KEPT_AFTER_END_S = 60.0
UNREAD_LIMIT_S = 15.0


def encode(event: Event) -> bytes:
    """Write an event as its line on the wire."""
    match event:
        case Text():
            said: dict[str, Any] = {"seq": event.seq, "event": "text", "tokens": event.tokens}
            for name in ("content", "thinking", "tool_calls", "embeddings"):
                if value := getattr(event, name):
                    said[name] = value
        case Admitted():
            said = {"seq": event.seq, "event": "admitted", "node": event.node}
        case Beat():
            said = {"seq": event.seq, "event": "beat"}
        case End():
            usage = event.usage
            said = {
                "seq": event.seq, "event": "end", "reason": event.reason, "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens, "counted_by": usage.counted_by,
            }  # fmt: skip
        case _:
            said = {
                "seq": event.seq,
                "event": "fail",
                "status": event.status,
                "detail": event.detail,
                "is_request_fault": event.is_request_fault,
            }
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Event:
    """Read an event's line.

    Raises:
        ValueError: It is not one.
    """
    said = json.loads(line)
    try:
        seq: int = said["seq"]
        match said["event"]:
            case "text":
                return Text(
                    seq=seq, content=said.get("content", ""), thinking=said.get("thinking", ""), tool_calls=tuple(said.get("tool_calls", ())),
                    embeddings=tuple(tuple(vector) for vector in said.get("embeddings", ())), tokens=said["tokens"],
                )  # fmt: skip
            case "admitted":
                return Admitted(seq=seq, node=said["node"])
            case "beat":
                return Beat(seq=seq)
            case "end":
                usage = Usage(
                    prompt_tokens=said["prompt_tokens"], completion_tokens=said["completion_tokens"], counted_by=said["counted_by"]
                )
                return End(seq=seq, reason=EndReason(said["reason"]), usage=usage)
            case "fail":
                return Fail(seq=seq, status=said["status"], detail=said["detail"], is_request_fault=said["is_request_fault"])
            case other:
                raise ValueError(f"unknown event {other!r}")
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"an event lacks {wrong}") from wrong


class AttemptLog:
    """What one attempt said so far. Readers keep their own positions; the log only knows how many there are."""

    def __init__(self, delivered: Sequence[Event], now: float) -> None:
        self.lines: list[bytes] = [encode(event) for event in delivered]
        self.text_bytes = 0
        self.tokens = 0
        self.readers = 0
        self.unread_since = now
        self.spoke_at = now
        self.ended_at: float | None = None

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return len(self.lines)

    def append(self, event: Event, now: float) -> None:
        """Append an event whose number is `next_seq`; nothing follows an end."""
        assert event.seq == len(self.lines)
        assert self.ended_at is None
        self.lines.append(encode(event))
        self.spoke_at = now
        if isinstance(event, End | Fail):
            self.ended_at = now

    def opened(self) -> None:
        """A reader came."""
        self.readers += 1

    def closed(self, now: float) -> None:
        """A reader went."""
        self.readers -= 1
        self.unread_since = now

    def is_abandoned(self, now: float) -> bool:
        """Whether nobody has read a running attempt for too long."""
        return self.ended_at is None and not self.readers and now - self.unread_since > UNREAD_LIMIT_S

    def is_forgettable(self, now: float) -> bool:
        """Whether the log of an ended attempt has been kept long enough."""
        return self.ended_at is not None and now - self.ended_at > KEPT_AFTER_END_S


class Coalescer:
    """Gathers small pieces of text: the first goes at once, then every `COALESCE_S` or `COALESCE_BYTES`."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.thinking: list[str] = []
        self.tokens = 0
        self.bytes = 0
        self._flushed_at = float("-inf")

    def add(self, content: str, thinking: str, tokens: int) -> None:
        """Keep a piece."""
        if content:
            self.content.append(content)
        if thinking:
            self.thinking.append(thinking)
        self.tokens += tokens
        self.bytes += len(content) + len(thinking)

    def due_in(self, now: float) -> float:
        """Tell in how many seconds the kept text is to go; 0: now."""
        if self.bytes >= COALESCE_BYTES:
            return 0.0
        return max(0.0, self._flushed_at + COALESCE_S - now)

    def take(self, seq: int, now: float) -> Text | None:
        """Take what is kept as one event; None when there is nothing."""
        if not self.tokens and not self.bytes:
            return None
        event = Text(seq=seq, content="".join(self.content), thinking="".join(self.thinking), tokens=self.tokens)
        self.content.clear()
        self.thinking.clear()
        self.tokens = self.bytes = 0
        self._flushed_at = now
        return event
