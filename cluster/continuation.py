"""Going on in the middle of an answer, on another node with the same weights. Pure.

Three ways, the first that holds (docs/decisions/0010-going-on-in-the-middle.md):

1. Where sampling repeats itself (temperature 0, or a seed), the whole answer is generated again, and what was said is compared and swallowed. The
   only way that is exact to the last bit: a model that *reads* a text computes it in other batches than one that wrote it, and then one greedy
   choice in some hundred falls otherwise (measured).
2. Raw generation from the rendered prompt plus the text, cut before the blank of its last word, so that the model reads the tokens that it would
   have written; the cut word is written again and compared. A chat whose last message is the assistant's partial text is not continued by Ollama:
   the template closes the turn (Ollama reference 8).
3. The same after the exact text, where the cut word comes out otherwise.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.jobs import Event, JobKind, Text

AGAIN_S = 10.0  # of saying again what was said; then another way is taken
MOST_AGAIN = 2000  # characters that are written again at most
_WORD_START = re.compile(r"(?<=\S) (?=\S)")  # one blank between two words: tokens begin with it


class Diverged(Exception):
    """What was said comes out otherwise, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the runtime is asked for an attempt.

    `again` is expected first, within `again_s` seconds, and not said twice; `tokens_before` of the answer stand in the prompt. After
    `most_new` new pieces the answer is at its limit, where nobody can count the tokens of a part of it.
    """

    kind: JobKind
    request: Mapping[str, Any]
    max_tokens: int
    again: str = ""
    again_s: float = AGAIN_S
    tokens_before: int = 0
    most_new: int | None = None


def repeats(request: Mapping[str, Any]) -> bool:
    """Tell whether the same request is answered with the same text."""
    options = request.get("options") or {}
    seed = options.get("seed")
    return options.get("temperature") == 0 or (seed is not None and seed >= 0)


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
    """Swallows the words that are written again, until `late_at` (in the caller's clock)."""

    def __init__(self, again: str, late_at: float = math.inf) -> None:
        self._again = again
        self._late_at = late_at

    @property
    def is_closed(self) -> bool:
        """Whether all of it came."""
        return not self._again

    def take(self, text: str, now: float = 0.0) -> str:
        """Take the next piece; answer what is new of it.

        Raises:
            Diverged: It is not what was said, or it takes too long.
        """
        if self._again and now > self._late_at:
            raise Diverged
        common = min(len(text), len(self._again))
        if text[:common] != self._again[:common]:
            raise Diverged
        self._again = self._again[common:]
        return text[common:]
