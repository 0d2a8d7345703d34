"""Who counts the tokens of an edge node's answer: a reference runtime of ours with the same weights; else the agent's claim, bounded."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from cluster.attempt_log import bytes_of
from cluster.edge.mirror import Mirror
from cluster.edge.protocol import RuntimeUsage
from cluster.errors import RuntimeFailed, RuntimeRefused
from cluster.jobs import Attempt, Usage
from cluster.runtime.ollama import OllamaRuntime, RuntimeEnd
from cluster.token_count import count_answer, count_prompt, platform_usage, provider_usage

log = structlog.get_logger()
LOOK_S = 10.0
COUNT_LIMIT_S = 5.0
LEAST_DIFFERENCE = 3  # tokens; below them, and below a fiftieth, counts may differ
SHARE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """An agent's count of a job that is too far from ours; of the kind `timing`, the tokens a second that it seems to have written, and the most that it can."""

    node: str
    job: str
    claimed: int
    counted: int
    kind: Literal["count", "timing"] = "count"


class Counter(Protocol):
    """Counts what an ended attempt used."""

    async def usage(self, mirror: Mirror, claimed: RuntimeUsage | None) -> Usage:
        """Count an answer."""

    async def count(self, digest: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count a chat's tokens as the model with these weights reads it; None: nobody here can."""


def is_off(claimed: int, counted: int) -> bool:
    """Tell whether a claim differs from our count by more than two in a hundred, and three tokens."""
    return abs(claimed - counted) > max(LEAST_DIFFERENCE, counted / SHARE)


class ReferenceCounter:
    """Counts on a reference runtime; None: there is none."""

    def __init__(self, runtime: OllamaRuntime | None) -> None:
        self._runtime = runtime
        self._names: dict[str, str] = {}  # of its models, by the digest of their weights
        self._looked_at = float("-inf")

    async def usage(self, mirror: Mirror, claimed: RuntimeUsage | None) -> Usage:
        """See `Counter.usage`."""
        attempt = mirror.attempt
        assert attempt is not None
        text = "".join(mirror.said)
        try:
            async with asyncio.timeout(COUNT_LIMIT_S):
                counted = await self._counted(attempt, text)
        except TimeoutError:
            counted = None
        if counted is not None:
            return counted
        end = RuntimeEnd(reason="", prompt_tokens=claimed.prompt_eval_count, completion_tokens=claimed.eval_count) if claimed else None
        return provider_usage(attempt, end, bytes_of(text), mirror.pieces)

    async def _counted(self, attempt: Attempt, text: str) -> Usage | None:
        name = await self._name_of(attempt.model_digest)
        if self._runtime is None or name is None:
            return None
        local = _on(attempt, name)
        prompt, answer = await asyncio.gather(count_prompt(self._runtime, local), count_answer(self._runtime, local, text))
        return None if prompt is None or answer is None else platform_usage(attempt, prompt, answer)

    async def count(self, digest: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """See `Counter.count`."""
        name = await self._name_of(digest)
        if self._runtime is None or name is None:
            return None
        try:
            return await self._runtime.count_tokens(name, messages=[dict(message) for message in messages])
        except (RuntimeFailed, RuntimeRefused):
            return None

    async def _name_of(self, digest: str) -> str | None:
        """Find the reference's name of a model by its weights; looks there now and then."""
        if self._runtime is None or not digest:
            return None
        now = time.monotonic()
        if digest not in self._names and now - self._looked_at > LOOK_S:
            self._looked_at = now
            try:
                found = await self._runtime.inventory()
            except (RuntimeFailed, RuntimeRefused) as silent:
                log.info("reference_silent", reason=str(silent))
                return None
            self._names = {model.digest: model.name for model in found.models if model.has_tokenizer}
        return self._names.get(digest)


def _on(attempt: Attempt, name: str) -> Attempt:
    """The attempt as the reference would be asked."""
    return Attempt(
        job=attempt.job, number=attempt.number, node=attempt.node, kind=attempt.kind, model=name, model_digest=attempt.model_digest,
        request=attempt.request, max_tokens=attempt.max_tokens,
    )  # fmt: skip
