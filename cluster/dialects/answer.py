"""What an answer is written from: the job's name and model, its texts, and how it ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cluster.jobs import EndReason, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known before the first text. `model` is the name as the client sent it; `now` tells the time (UTC)."""

    job: str
    model: str
    created: int  # seconds since 1970
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended well. `cost`: credits as text; None where nobody pays. Times are nanoseconds from the request's arrival."""

    reason: EndReason
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    cost: str | None = None
    first_ns: int = 0  # until the first text
    total_ns: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as the outside sees it. `kind` is OpenAI's type of it; `more` are fields of its own."""

    status: int
    code: str
    kind: str
    detail: str
    param: str | None
    more: dict[str, Any]


class Writer(Protocol):
    """Writes one answer: as a stream, piece by piece, or whole."""

    media_type: str

    def begin(self) -> bytes:
        """What a stream begins with."""

    def text(self, event: Text) -> bytes:
        """A piece of the answer."""

    def beat(self) -> bytes:
        """A sign of life without news."""

    def end(self, ending: Ending) -> bytes:
        """The end of a stream."""

    def fail(self, refusal: Refusal) -> bytes:
        """The end of a stream that broke off."""

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """The answer as one object."""


class WholeWriter:
    """What writers of answers have in common that are never streamed."""

    media_type = "application/json"

    def begin(self) -> bytes:
        """Never called."""
        raise AssertionError("this answer is not streamed")

    def text(self, event: Text) -> bytes:
        """Never called."""
        raise AssertionError(event)

    def beat(self) -> bytes:
        """Never called."""
        raise AssertionError("this answer is not streamed")

    def end(self, ending: Ending) -> bytes:
        """Never called."""
        raise AssertionError(ending)

    def fail(self, refusal: Refusal) -> bytes:
        """Never called."""
        raise AssertionError(refusal)


def content_of(texts: Sequence[Text]) -> str:
    """Join what was said."""
    return "".join(text.content for text in texts)


def thinking_of(texts: Sequence[Text]) -> str:
    """Join what was thought."""
    return "".join(text.thinking for text in texts)
