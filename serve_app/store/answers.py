"""How a job's answer is kept: its text once, and marks that tell how it was told, event by event. Pure.

A mark per event, in the order of their numbers: so many characters of content, `{"t": n}` for so many of thinking, `{"c": …}` for tool calls,
`{"e": …}` for embeddings, `{"l": …}` for logprobs; 0 for an event that says nothing (admitted, beats). So a reader finds its place in an answer that ended long ago.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.jobs import Event, Text


def text_of(events: Sequence[Event]) -> str:
    """Join what was said: thinking and content, as they came."""
    return "".join(event.thinking + event.content for event in events if isinstance(event, Text))


def marks_of(events: Sequence[Event]) -> str:
    """Write the marks of what was told."""
    return json.dumps([_mark(event) for event in events], separators=(",", ":"))


def _mark(event: Event) -> int | dict[str, Any]:
    if not isinstance(event, Text):
        return 0
    if not (event.thinking or event.tool_calls or event.embeddings or event.logprobs):
        return len(event.content)
    mark: dict[str, Any] = {"n": len(event.content)} if event.content else {}
    if event.thinking:
        mark["t"] = len(event.thinking)
    if event.tool_calls:
        mark["c"] = event.tool_calls
    if event.embeddings:
        mark["e"] = event.embeddings
    if event.logprobs:
        mark["l"] = event.logprobs
    return mark


def told_of(result: str | None, marks: str | None) -> list[Text]:
    """Read an answer back as it was told; one text where nobody kept the marks. What said nothing is an empty text."""
    text = result or ""
    if marks is None:
        return [Text(seq=0, content=text)] if text else []
    return list(_read(text, json.loads(marks)))


def _read(text: str, marks: Sequence[Any]) -> Iterator[Text]:
    at = 0
    for seq, mark in enumerate(marks):
        said = mark if isinstance(mark, dict) else {"n": mark}
        thinking, content = int(said.get("t", 0)), int(said.get("n", 0))
        yield Text(
            seq=seq, thinking=text[at : at + thinking], content=text[at + thinking : at + thinking + content],
            tool_calls=tuple(said.get("c", ())), embeddings=tuple(map(tuple, said.get("e", ()))),
            logprobs=tuple(said.get("l", ())),
        )  # fmt: skip
        at += thinking + content
