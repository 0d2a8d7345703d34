"""Runs a chat or a generation on its model: pieces, then its end, whatever dialect they are answered in."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from cluster.runtime import dialect
from cluster.runtime.dialect import Json
from cluster.runtime.front import history
from cluster.runtime.front.asking import Asked
from cluster.runtime.front.memory import Loaded, Memory
from cluster.runtime.front.runner import NO_THOUGHTS, refusal


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the answer."""

    text: str = ""
    logprobs: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class End:
    """Why it ended, and Ollama's counters."""

    reason: str | None = None
    counters: Json = field(default_factory=dict)


async def run(memory: Memory, asked: Asked, started_ns: int) -> AsyncGenerator[Piece | End, None]:
    """Wait for a slot and yield the answer; the last one is its end. Closing the iterator ends it at the model.

    Raises:
        BadRequest: The request is wrong, or too many wait.
        ChildFailed: The model cannot be loaded, or its process died.
    """
    final: Json = {}
    reason: str | None = None
    async with memory.slot(asked.model, asked.options, asked.keep_alive_s) as loaded:
        loaded_ns = time.monotonic_ns()
        path, child_request = await child_request_of(loaded, asked)
        async with aclosing(loaded.runner.events(path, child_request)) as events:
            async for event in events:
                piece, ended = read_event(event)
                reason = ended or reason
                final = event if "timings" in event else final
                if piece.text or piece.logprobs:
                    yield piece
        now_ns = time.monotonic_ns()
    yield End(reason, dialect.metrics(final, started_ns=started_ns, loaded_ns=loaded_ns, now_ns=now_ns))


async def child_request_of(loaded: Loaded, asked: Asked) -> tuple[str, Json]:
    """Tell which route of the child serves it, and with what: the child renders with the file's template, we with Ollama's."""
    if asked.messages is None or asked.template:
        return "/completion", dialect.for_completion(asked.request) | {"prompt": await prompt_for(loaded, asked)}
    messages = await history.fitted(loaded, asked.messages, "", truncate=asked.truncate)
    return "/v1/chat/completions", asked.request | NO_THOUGHTS | {"messages": messages, "stream_options": {"include_usage": True}}


async def prompt_for(loaded: Loaded, asked: Asked) -> str:
    """Write the prompt that the model reads."""
    if asked.messages is None:
        return asked.prompt
    messages = await history.fitted(loaded, asked.messages, asked.template, truncate=asked.truncate)
    return await history.rendered(loaded, messages, asked.template)


def read_event(event: Json) -> tuple[Piece, str | None]:
    """Read a child's event: what it says, and why it ended (None while it goes on)."""
    if "error" in event:
        raise refusal(500, event)
    if "choices" not in event:  # raw completion
        ended = ("length" if event.get("stop_type") == "limit" else "stop") if event.get("stop") else None
        return Piece(str(event.get("content") or ""), logprob_rows(event.get("completion_probabilities"))), ended
    if not event["choices"]:
        return Piece(), None
    choice = event["choices"][0]
    logprobs = logprob_rows((choice.get("logprobs") or {}).get("content"))
    reason = choice.get("finish_reason")
    return Piece(str((choice.get("delta") or {}).get("content") or ""), logprobs), reason if reason in {"stop", "length", None} else "stop"


def logprob_rows(said: Any) -> list[Json]:
    """Write a child's logprobs as Ollama's: what it says of token numbers is left out."""
    return [
        {"token": row["token"], "logprob": row["logprob"], "bytes": row.get("bytes") or []}
        | ({"top_logprobs": logprob_rows(row["top_logprobs"])} if "top_logprobs" in row else {})
        for row in said or []
    ]
