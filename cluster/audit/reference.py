"""The trusted reference: an embedded runtime of the operator's with the same weights, asked what it would have said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.audit.rules import Step
from cluster.audit.sampling import Candidate
from cluster.errors import RuntimeFailed
from cluster.runtime.ollama import OllamaRuntime


class ModelMissing(Exception):
    """The reference does not have these weights."""

    def __init__(self, model: str, weights: str) -> None:
        super().__init__(model, weights)
        self.model, self.weights = model, weights

    def __str__(self) -> str:
        """Name what is missing."""
        return f"the reference does not have `{self.model}` with the weights {self.weights[:12] or 'of an unknown digest'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Steps of a window of an answer; `tokens` has the whole answer."""

    tokens: int
    steps: tuple[Step, ...]


class Reference:
    """One reference behind its URL."""

    def __init__(self, url: str) -> None:
        self._runtime = OllamaRuntime(url)
        self._names: dict[str, tuple[str, ...]] = {}  # by weights

    async def start(self) -> None:
        """Open the session (inside the running loop)."""
        await self._runtime.start()

    async def aclose(self) -> None:
        """Close the session."""
        await self._runtime.aclose()

    async def model(self, name: str, weights: str) -> str:
        """Find the reference's model of these weights, of the same name if there are several: their templates may differ.

        Raises:
            ModelMissing: It has none.
            RuntimeFailed: It does not answer.
        """
        if not (names := self._names.get(weights)):
            names = await self._look(weights)
        if not names:
            raise ModelMissing(name, weights)
        return name if name in names else names[0]

    async def _look(self, weights: str) -> tuple[str, ...]:
        found: dict[str, tuple[str, ...]] = {}
        for model in (await self._runtime.inventory()).models:
            found[model.digest] = (*found.get(model.digest, ()), model.name)
        self._names = found
        return found.get(weights, ())

    async def score(self, model: str, request: Mapping[str, Any], answer: str, *, window: int, chance: float) -> Scored:
        """Score a window of an answer; `chance` in [0, 1) says where.

        Raises:
            RuntimeRefused: The request is wrong, or longer than the reference's context.
            RuntimeFailed: It does not answer, or not as we know it.
        """
        told = await self._runtime.score(model, request, answer, window=window, chance=chance)
        try:
            steps = tuple(_step(one) for one in told["steps"])
            return Scored(tokens=int(told["tokens"]), steps=steps)
        except (LookupError, TypeError, ValueError) as nonsense:
            raise RuntimeFailed(502, f"the reference's answer is nonsense ({type(nonsense).__name__})") from nonsense


def _step(told: Mapping[str, Any]) -> Step:
    candidates = tuple(Candidate(int(token), float(logprob)) for token, logprob in told["candidates"])
    if not candidates:
        raise ValueError("no candidates")
    return Step(int(told["claimed"]), candidates)
