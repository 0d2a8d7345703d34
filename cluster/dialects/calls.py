"""The calls in an answer: those that the runtime tells apart, or the one that was forced and came as text (`cluster/dialects/forced.py`). Pure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.dialects.tools import calls_of
from cluster.jobs import Text

MOST_HEAD = 4096  # characters in which a model has named its choice
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)')
_OBJECT = TypeAdapter(dict[str, Any])


@dataclass(frozen=True, slots=True)
class CallPiece:
    """Some of a call: more of its arguments, which are the text of a JSON object. `begins`: nothing was told of it before."""

    index: int  # of the call in the answer
    id: str
    name: str
    arguments: str
    begins: bool = True


class Calls:
    """Tells an answer's text from its calls, event by event: the calls are those that the runtime made."""

    def __init__(self) -> None:
        self.begun = 0

    def take(self, event: Text) -> tuple[str, list[CallPiece]]:
        """Take the next event; answer what is text of it, and what belongs to calls."""
        calls = calls_of(event, self.begun)
        self.begun += len(calls)
        return event.content, [CallPiece(call["index"], call["id"], call["name"], json.dumps(call["arguments"])) for call in calls]

    def rest(self) -> str:
        """Answer what came in the place of a call and is none; asked for at the end."""
        return ""

    def whole(self, texts: Sequence[Text]) -> tuple[str, list[CallPiece]]:
        """Read all of an answer: its text, and each call in one piece."""
        contents: list[str] = []
        calls: list[CallPiece] = []
        for text in texts:
            content, pieces = self.take(text)
            contents.append(content)
            for piece in pieces:
                if piece.begins:
                    calls.append(piece)
                else:
                    calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + piece.arguments)
        return "".join(contents) + self.rest(), calls


class _Forced(Calls):
    """A call of a function that is known: the text is its arguments."""

    def __init__(self, name: str, job: str) -> None:
        super().__init__()
        self._name = name
        self._id = f"call_{job}"

    def take(self, event: Text) -> tuple[str, list[CallPiece]]:
        return "", self._pieces(event.content)

    def _pieces(self, arguments: str) -> list[CallPiece]:
        if not arguments:
            return []
        begins, self.begun = not self.begun, 1
        return [CallPiece(0, self._id, self._name, arguments, begins)]


class _Chosen(_Forced):
    """A call of a function that the model names first. A text that does not do so is one: its runtime did not hold it to the schema."""

    def __init__(self, names: Sequence[str], job: str) -> None:
        super().__init__("", job)
        self._names = names
        self._head = ""
        self._is_call: bool | None = None  # None: that is not known yet
        self._arguments = _Object()

    def take(self, event: Text) -> tuple[str, list[CallPiece]]:
        text = event.content
        if self._is_call is None:
            self._head += text
            if (begun := self._begun(self._head)) is None:
                return (self.rest() if len(self._head) > MOST_HEAD else ""), []
            self._is_call = True
            self._name, text = begun
        return ("", self._pieces(self._arguments.take(text))) if self._is_call else (text, [])

    def rest(self) -> str:
        if self._is_call is not None:
            return ""
        self._is_call = False
        return self._head

    def _begun(self, head: str) -> tuple[str, str] | None:
        """Read which function a call is of, and what follows; None: that is not said, or not yet."""
        if (found := _HEAD.match(head)) is None:
            return None
        try:
            name = json.loads(found[1], strict=False)
        except ValueError:
            return None
        return (name, head[found.end() :]) if name in self._names else None


def calls_in(forced: Sequence[str], job: str) -> Calls:
    """Begin to read an answer. `forced`: the names of the functions of which one is called, none where none has to be."""
    if not forced:
        return Calls()
    return _Forced(forced[0], job) if len(forced) == 1 else _Chosen(forced, job)


class _Object:
    """Finds where a JSON object that comes in pieces ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_text = self._is_escaped = self._is_over = False

    def take(self, text: str) -> str:
        """Take the next piece; answer what of it belongs to the object."""
        if self._is_over:
            return ""
        for n, letter in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_text:
                self._is_escaped, self._is_text = letter == "\\", letter != '"'
            elif letter == '"':
                self._is_text = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self._is_over = True
                    return text[: n + 1]
        return text


def object_of(arguments: str) -> dict[str, Any]:
    """Read arguments as an object; of those that were cut, the members that came whole."""
    try:
        return _OBJECT.validate_json(arguments, experimental_allow_partial=True)
    except ValidationError:
        return {}
