"""The append-only log of one attempt, read from any position (design section 3). Pure: the clock is an argument.

Events are numbered from 0 over the whole job; a later attempt begins with what earlier ones delivered, so every log starts at 0. On the
wire an event is one line of JSON, encoded once when it is appended and then sent to every reader as it is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from cluster.jobs import Admitted, AgentReceipt, Beat, End, EndReason, Event, Fail, Text, Usage

MAX_TEXT_BYTES = 1024 * 1024
MAX_PIECE_CHARACTERS = 16 * 1024  # of one event; JSON makes at most twelve bytes of a character
MAX_EXTRA_BYTES = 96 * 1024  # of the logprobs that one piece brings, as JSON
MAX_LINE_BYTES = 512 * 1024  # that readers take
MAX_EVENT_BYTES = 224 * 1024  # of an event as JSON, so that an agent's frame of 256 KiB holds it
COALESCE_S = 0.05
COALESCE_BYTES = 1024
KEPT_AFTER_END_S = 60.0
UNREAD_LIMIT_S = 15.0


def encode(event: Event) -> bytes:
    """Write an event as its line on the wire. By hand, because it is done for every event of every job."""
    head = f'{{"seq":{event.seq},"event":'
    match event:
        case Text():
            line = f'{head}"text","tokens":{event.tokens}{_said(event)}}}\n'
        case Admitted():
            line = f'{head}"admitted","node":{quoted(event.node)}}}\n'
        case Beat():
            line = f'{head}"beat"}}\n'
        case End(usage=usage):
            receipt = f',"receipt":{json.dumps(asdict(event.receipt))}' if event.receipt else ""
            line = (
                f'{head}"end","reason":"{event.reason}","prompt_tokens":{usage.prompt_tokens},'
                f'"completion_tokens":{usage.completion_tokens},"counted_by":"{usage.counted_by}"{receipt}}}\n'
            )
        case _:
            fault = "true" if event.is_request_fault else "false"
            line = f'{head}"fail","status":{event.status},"detail":{quoted(event.detail)},"is_request_fault":{fault}}}\n'
    return line.encode()


def _said(event: Text) -> str:
    said = f',"content":{quoted(event.content)}' if event.content else ""
    if event.thinking:
        said += f',"thinking":{quoted(event.thinking)}'
    if event.tool_calls:
        said += f',"tool_calls":{json.dumps(event.tool_calls)}'
    if event.embeddings:
        said += f',"embeddings":{json.dumps(event.embeddings)}'
    if event.logprobs:
        said += f',"logprobs":{json.dumps(event.logprobs)}'
    return said


def decode(line: bytes) -> Event:
    """Read an event's line.

    Raises:
        ValueError: It is not one.
    """
    said = json.loads(line)
    try:
        seq = _whole(said["seq"])
        match said["event"]:
            case "text":
                return _text_of(seq, said)
            case "admitted":
                return Admitted(seq=seq, node=str(said["node"]))
            case "beat":
                return Beat(seq=seq)
            case "end":
                counts = _whole(said["prompt_tokens"]), _whole(said["completion_tokens"])
                usage = Usage(prompt_tokens=counts[0], completion_tokens=counts[1], counted_by=said["counted_by"])
                receipt = AgentReceipt(**said["receipt"]) if "receipt" in said else None
                return End(seq=seq, reason=EndReason(said["reason"]), usage=usage, receipt=receipt)
            case "fail":
                is_fault = bool(said["is_request_fault"])
                return Fail(seq=seq, status=_whole(said["status"]), detail=str(said["detail"]), is_request_fault=is_fault)
            case other:
                raise ValueError(f"unknown event {other!r}")
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ValueError(f"not an event: {wrong}") from wrong


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text_of(seq: int, said: dict[str, Any]) -> Text:
    content, thinking = said.get("content", ""), said.get("thinking", "")
    if not isinstance(content, str) or not isinstance(thinking, str):
        raise TypeError("its text is none")
    vectors, logprobs = said.get("embeddings"), tuple(said.get("logprobs", ()))
    if not all(isinstance(one, dict) for one in logprobs):
        raise TypeError("its logprobs are none")
    return Text(
        seq=seq,
        content=content,
        thinking=thinking,
        tool_calls=tuple(said.get("tool_calls", ())),
        embeddings=tuple(tuple(vector) for vector in vectors) if vectors else (),
        logprobs=logprobs,
        tokens=_whole(said["tokens"]),
    )


def bytes_of(text: str) -> int:
    """Count the bytes of a text in UTF-8. JSON may carry half a surrogate pair; it counts as three bytes."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def clipped(text: str, limit_bytes: int) -> str:
    """Cut a text to so many bytes, never inside a character."""
    if bytes_of(text) <= limit_bytes:
        return text
    return text.encode(errors="surrogatepass")[: max(0, limit_bytes)].decode(errors="ignore")


class AttemptLog:
    """What one attempt said so far. Readers keep their own positions; the log only knows how many there are."""

    def __init__(self, delivered: Sequence[Event], now: float) -> None:
        """Begin with what earlier attempts delivered.

        Raises:
            ValueError: These are not the first events of a job.
        """
        if any(event.seq != seq or isinstance(event, End | Fail) for seq, event in enumerate(delivered)):
            raise ValueError("delivered events are numbered from 0 and have no end")
        self.lines: list[bytes] = [encode(event) for event in delivered]
        self.text_bytes = sum(bytes_of(event.content) + bytes_of(event.thinking) for event in delivered if isinstance(event, Text))
        self.size_bytes = sum(map(len, self.lines))
        self.readers = 0
        self.unread_since = now
        self.spoke_at = now
        self.ended_at: float | None = None

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return len(self.lines)

    @property
    def room_bytes(self) -> int:
        """How much more text it takes."""
        return MAX_TEXT_BYTES - self.text_bytes

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows any more."""
        return self.ended_at is not None

    def append(self, event: Event, now: float) -> None:
        """Append an event whose number is `next_seq`; nothing follows an end."""
        assert event.seq == len(self.lines)
        assert self.ended_at is None
        line = encode(event)
        self.lines.append(line)
        self.size_bytes += len(line)
        self.spoke_at = now
        if isinstance(event, End | Fail):
            self.ended_at = now

    def since(self, seq: int) -> bytes:
        """Join the lines from a position on; empty when there are none yet."""
        new = self.lines[seq:]
        return new[0] if len(new) == 1 else b"".join(new)

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
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._tokens = 0
        self._bytes = 0
        self._flushed_at = float("-inf")

    def add(self, content: str, thinking: str, tokens: int, size_bytes: int, logprobs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep a piece; `size_bytes` is that of all of it."""
        self._logprobs += logprobs
        if content:
            self._content.append(content)
        if thinking:
            self._thinking.append(thinking)
        self._tokens += tokens
        self._bytes += size_bytes

    def due_in(self, now: float) -> float:
        """Tell in how many seconds the kept text is to go; 0: now."""
        if self._bytes >= COALESCE_BYTES:
            return 0.0
        return max(0.0, self._flushed_at + COALESCE_S - now)

    def take(self, seq: int, now: float) -> Iterator[Text]:
        """Take what is kept as events numbered from `seq`: one, or more when a single piece was very long."""
        if not self._tokens and not self._bytes:
            return
        content, thinking, tokens, logprobs = "".join(self._content), "".join(self._thinking), self._tokens, tuple(self._logprobs)
        self._content.clear()
        self._thinking.clear()
        self._logprobs.clear()
        self._tokens = self._bytes = 0
        self._flushed_at = now
        if len(content) + len(thinking) <= MAX_PIECE_CHARACTERS:
            yield Text(seq=seq, content=content, thinking=thinking, logprobs=logprobs, tokens=tokens)
            return
        pieces = [("", part) for part in _parts(thinking)] + [(part, "") for part in _parts(content)]
        for number, (said, thought) in enumerate(pieces):
            yield Text(
                seq=seq + number, content=said, thinking=thought, logprobs=() if number else logprobs, tokens=0 if number else tokens
            )


def _parts(text: str) -> list[str]:
    return [text[at : at + MAX_PIECE_CHARACTERS] for at in range(0, len(text), MAX_PIECE_CHARACTERS)]


def embedding_events(seq: int, embeddings: Sequence[tuple[float, ...]]) -> Iterator[Text]:
    """Spread vectors over events of at most `MAX_EVENT_BYTES`.

    Raises:
        ValueError: A single vector does not.
    """
    batch: list[tuple[float, ...]] = []
    size = 0
    for vector in embeddings:
        vector_bytes = len(json.dumps(vector))
        if vector_bytes > MAX_EVENT_BYTES:
            raise ValueError("a vector is too long")
        if batch and size + vector_bytes > MAX_EVENT_BYTES:
            yield Text(seq=seq, embeddings=tuple(batch))
            seq, batch, size = seq + 1, [], 0
        batch.append(vector)
        size += vector_bytes
    if batch:
        yield Text(seq=seq, embeddings=tuple(batch))
