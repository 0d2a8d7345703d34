"""What sampling should give: the distribution that an engine draws a token from, built from a reference's log-probabilities. Pure.

Engines cut in different orders. llama.cpp: top_k, top_p, min_p, then temperature (`common/sampling.cpp`, the default chain). Ollama's own
engine, which it had until it took llama.cpp's: top_k, temperature, top_p, min_p (`sample/samplers.go`).

Penalties move logits, and by how much one of them does depends on a logit's sign, which no log-probability tells. So they are not rebuilt here: the
reference applies them itself. llama.cpp counts the last tokens of prompt and answer, so that its own state is known from the tokens alone;
Ollama's own engine knew no penalties.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Any

from cluster.audit.free_text import leaves_strings_free
from cluster.runtime.dialect import DEFAULT_OPTIONS

CANDIDATES = 64  # log-probabilities that the reference tells of each token, the likeliest first
# Another kernel moves what stands at the edge of a cut: so far beyond it a token is not impossible.
EDGE_RANKS, EDGE_SHARE = 8, 0.02
NEUTRAL = {"typical_p": 1.0, "mirostat": 0}
MEASURED = {"repeat_penalty": (1.0, 1.5), "presence_penalty": (0.0, 2.0), "frequency_penalty": (0.0, 2.0)}  # without a false alarm


class Order(StrEnum):
    """In which order an engine cuts the candidates."""

    TOP_P_FIRST = "top_p_first"
    TEMPERATURE_FIRST = "temperature_first"


def orders_of(runtime: str) -> tuple[Order, ...]:
    """Tell in which orders a node's engine may cut, by its runtime's name; where that does not say, each of them counts in its favor."""
    return (Order.TOP_P_FIRST,) if _is_embedded(runtime) else tuple(Order)


def _is_embedded(runtime: str) -> bool:
    return runtime.partition(" ")[0] == "embedded"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may come next, and its log-probability in nats before any sampling."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """What it costs a token to have stood among the last `repeat_last_n` (negative: all) of prompt and answer; the names are Ollama's."""

    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64

    @property
    def are_none(self) -> bool:
        """Whether nothing is moved."""
        return self.repeat_last_n == 0 or (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) == (1, 0, 0)

    def of(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write a request with these penalties, whatever it or its model has."""
        return {**request, "options": {**(request.get("options") or {}), **asdict(self)}}


NO_PENALTIES = Penalties()


def penalties_of(options: Mapping[str, Any]) -> Penalties:
    """Read them from options; what is not there is Ollama's default."""
    told = DEFAULT_OPTIONS | {name: value for name, value in options.items() if value is not None}
    return Penalties(
        repeat_penalty=float(told["repeat_penalty"]), presence_penalty=float(told["presence_penalty"]),
        frequency_penalty=float(told["frequency_penalty"]), repeat_last_n=int(told["repeat_last_n"]),
    )  # fmt: skip


def penalties_in(runtime: str, asked: Penalties) -> tuple[Penalties, ...]:
    """Tell which penalties a node's engine may apply when these are asked for, by its runtime's name: some know none."""
    return (asked,) if asked.are_none or _is_embedded(runtime) else (asked, NO_PENALTIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer was drawn. `top_k` 0: of all tokens."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    penalties: Penalties = NO_PENALTIES

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, always."""
        return self.temperature <= 0


class NotScorable(Exception):
    """The request changes the distribution in a way that is not rebuilt; `why` is the field or option that does."""

    def __init__(self, why: str, text: str = "") -> None:
        super().__init__(why, text)
        self.why, self.text = why, text

    def __str__(self) -> str:
        """Say so."""
        return self.text or f"`{self.why}` is not scored"


def sampling_of(request: Mapping[str, Any]) -> Sampling:
    """Read how a request is sampled.

    Raises:
        NotScorable: It cannot be scored: tools, thoughts, images, a format that says which words a string may have; options that are not
            rebuilt; or candidates beyond those that are told.
    """
    for name in ("tools", "think", "images", "suffix", "template", "context"):
        if request.get(name):
            raise NotScorable(name)
    for name in ("images", "tool_calls"):
        if any(message.get(name) for message in request.get("messages") or ()):
            raise NotScorable(name)
    if (form := request.get("format")) and not leaves_strings_free(form):
        raise NotScorable("format", "a `format` that says what a string may hold is not scored")
    options = DEFAULT_OPTIONS | {name: value for name, value in (request.get("options") or {}).items() if value is not None}
    for name, neutral in NEUTRAL.items():
        if options.get(name, neutral) != neutral:
            raise NotScorable(name)
    penalties = penalties_of(options)
    for name, (least, most) in MEASURED.items():
        if not penalties.are_none and not least <= getattr(penalties, name) <= most:
            raise NotScorable(name, f"`{name}` is scored from {least:g} to {most:g} alone")
    sampling = Sampling(
        temperature=float(options["temperature"]), top_k=max(0, int(options["top_k"])), top_p=float(options["top_p"]),
        min_p=float(options["min_p"]), penalties=penalties,
    )  # fmt: skip
    is_told = 0 < sampling.top_k <= CANDIDATES - EDGE_RANKS
    if not sampling.is_greedy and not is_told and sampling.temperature > 1:
        raise NotScorable("temperature", f"a temperature above 1 is scored with `top_k` up to {CANDIDATES - EDGE_RANKS} alone")
    return sampling


def with_edges(sampling: Sampling) -> Sampling:
    """The same with every cut a little further out."""
    top_k = sampling.top_k + EDGE_RANKS if sampling.top_k else 0
    return replace(sampling, top_k=top_k, top_p=sampling.top_p + EDGE_SHARE, min_p=max(0.0, sampling.min_p - EDGE_SHARE))


@dataclass(frozen=True, slots=True)
class Shaped:
    """The candidates that may be drawn, with their probabilities; `rest`: of all that the reference did not tell, where those may be drawn too."""

    drawn: Mapping[int, float]
    rest: float = 0.0


def shaped(candidates: Sequence[Candidate], sampling: Sampling, order: Order) -> Shaped:
    """Build the distribution that a token is drawn from; `candidates` are the likeliest, best first."""
    # An entry of no token stands for all that were not told.
    logprobs: list[tuple[int | None, float]] = [(one.token, one.logprob) for one in candidates]
    if 0 < sampling.top_k <= len(logprobs):
        logprobs = logprobs[: sampling.top_k]
    elif (untold := 1 - math.fsum(math.exp(one.logprob) for one in candidates)) > 1e-6:
        logprobs.append((None, math.log(untold)))
    temperature = max(sampling.temperature, 1e-3)
    if order is Order.TEMPERATURE_FIRST:
        logprobs = [(token, logprob / temperature) for token, logprob in logprobs]
    kept = _cut(logprobs, sampling)
    if order is Order.TOP_P_FIRST:
        kept = [(token, logprob / temperature) for token, logprob in kept]
    weights = _normal([logprob for _, logprob in kept])
    drawn = {token: weight for (token, _), weight in zip(kept, weights, strict=True) if token is not None}
    return Shaped(drawn, max(0.0, 1 - math.fsum(drawn.values())) if len(drawn) < len(kept) else 0.0)


def _cut(logprobs: list[tuple[int | None, float]], sampling: Sampling) -> list[tuple[int | None, float]]:
    """Keep the smallest set with a probability of at least top_p; of it, what is at least min_p as likely as the best."""
    probabilities = _normal([logprob for _, logprob in logprobs])
    kept, sum_ = 0, 0.0
    while kept < len(logprobs) and (kept == 0 or sum_ < sampling.top_p):
        sum_ += probabilities[kept]
        kept += 1
    least = sampling.min_p * probabilities[0]
    return [one for one, _ in takewhile(lambda pair: pair[1] >= least, zip(logprobs[:kept], probabilities, strict=False))]


def _normal(logprobs: Sequence[float]) -> list[float]:
    highest = max(logprobs)
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    sum_ = math.fsum(weights)
    return [weight / sum_ for weight in weights]
