"""Going on in the middle of an answer, on another node with the same weights. Pure.

A chat whose last message is the assistant's partial text is not continued by Ollama: the template closes the turn. What works is raw generation
from the rendered prompt plus the text (measured, Ollama reference 8). The text is cut before a blank, so that the model reads the tokens that it
would have written: then the answer is the unbroken one at temperature 0. The cut word is written again and compared; if it comes out otherwise,
which it may above temperature 0, generation begins anew after the exact text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.jobs import Event, Text

MOST_AGAIN = 2000  # characters that are written again at most
_WORD_START = re.compile(r"(?<=\S) (?=\S)")  # one blank between two words: tokens begin with it


class Diverged(Exception):
    """The cut word came out otherwise."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an attempt's text comes from, other than from the request itself. `again` is expected first, and not said twice."""

    request: Mapping[str, Any]
    max_tokens: int
    again: str = ""


def said_in(delivered: Sequence[Event]) -> str:
    """Join what earlier attempts delivered."""
    return "".join(event.content for event in delivered if isinstance(event, Text))


def cut(said: str) -> tuple[str, str]:
    """Cut a text before its last word: what is kept, and what is written again. A text without such a place in reach is kept whole."""
    reach = max(0, len(said) - MOST_AGAIN)
    starts = [found.start() for found in _WORD_START.finditer(said, reach)]
    at = starts[-1] if starts else len(said) if reach else 0
    return said[:at], said[at:]


def raw_request(request: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """Write the request that generates on from a prompt, with the same sampling."""
    return {"raw": True, "prompt": prompt, "options": dict(request.get("options") or {})}


class Seam:
    """Swallows the words that are written again."""

    def __init__(self, again: str) -> None:
        self._again = again

    @property
    def is_closed(self) -> bool:
        """Whether all of it came."""
        return not self._again

    def take(self, text: str) -> str:
        """Take the next piece; answer what is new of it.

        Raises:
            Diverged: It is not what was said.
        """
        common = min(len(text), len(self._again))
        if text[:common] != self._again[:common]:
            raise Diverged
        self._again = self._again[common:]
        return text[common:]
