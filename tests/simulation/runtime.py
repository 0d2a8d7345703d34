"""A model runtime whose every word tells where it comes from, and which fails in all ways that a real one does.

The n-th word of an answer is `n.s`: `s` is the serial number of the generation that said it. So whoever reads an answer sees gaps, repeats
and words of an attempt that was replaced, and whose they were. Words begin with their blank, as tokens do.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from cluster.errors import RuntimeFailed, RuntimeRefused
from cluster.nodes import OfferedModel
from cluster.runtime.ollama import Inventory, RuntimeEnd, RuntimeText

MODEL = "sim"
TURN = "<assistant>"
SERIAL_DIGITS = 5  # of all words alike: no word is the beginning of another one, so that half a word cannot pass for it
LOADS, LOAD_S = 0.2, 2.0  # the part of requests that wait for their model first, and how long
FAULTS = ("hang", "hang_midway", "die", "die_midway", "error", "no_done", "lie", "slow", "refuse")


@dataclass
class Generation:
    """One request at a runtime. `job` and `attempt` are what its node runs it for."""

    serial: int
    node: str
    job: str
    attempt: int
    prompt: str
    first: int
    wanted: int
    started_at: float
    said: int = 0
    ended_at: float | None = None


@dataclass
class Generations:
    """All requests that any runtime ever got."""

    all: list[Generation] = field(default_factory=list)

    def begin(self, **what):
        self.all.append(Generation(serial=len(self.all), **what))
        return self.all[-1]

    def of(self, one):
        """All that were begun for the same attempt."""
        return [other for other in self.all if (other.job, other.attempt, other.node) == (one.job, one.attempt, one.node)]


def prompt_of(number, words):
    """What a consumer asks: so many words."""
    return f"case {number} words {words}"


def words_of(prompt):
    return int(prompt.split()[3])


class SimulatedRuntime:
    """What a worker uses of a runtime. `faults` are for the next requests, one each; `is_down`: it answers nobody."""

    def __init__(self, node, slots, rng, generations, *, has_tokenizer, word_s):
        self.node, self.slots = node, slots
        self._rng, self._generations = rng, generations
        self._has_tokenizer, self._word_s = has_tokenizer, word_s
        self.is_down = False
        self.faults = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.attempt_of_task = lambda task: ("", 0)
        self._ended = asyncio.Event()

    async def start(self):
        pass

    async def aclose(self):
        pass

    def shut_down(self):
        """It ends with all that it does."""
        self.is_down = True
        self._ended.set()
        self._ended = asyncio.Event()

    async def inventory(self):
        await asyncio.sleep(0.001)
        if self.is_down:
            raise RuntimeFailed(0, "nobody listens")
        model = OfferedModel(
            name=MODEL, digest="d" * 64, size_bytes=1, context_tokens=4096, is_loaded=True, has_tokenizer=self._has_tokenizer
        )
        return Inventory(name="simulated", version="1", slots=self.slots, models=(model,))

    async def count_tokens(self, model, *, text=None, messages=None):
        await asyncio.sleep(0.001)
        if self.is_down:
            raise RuntimeFailed(0, "nobody listens")
        if not self._has_tokenizer:
            return None
        return len((text if messages is None else " ".join(one["content"] for one in messages)).split())

    async def render(self, model, request):
        await asyncio.sleep(0.001)
        if self.is_down:
            raise RuntimeFailed(0, "nobody listens")
        return request["messages"][-1]["content"] + TURN

    async def stream(self, kind, model, request, max_tokens):
        rendered = request["prompt"] if request.get("raw") else request["messages"][-1]["content"] + TURN
        prompt, _, said = rendered.partition(TURN)
        first = len(said.split())
        job, attempt = self.attempt_of_task(asyncio.current_task())
        generation = self._generations.begin(
            node=self.node, job=job, attempt=attempt, prompt=prompt, first=first, wanted=max(0, min(words_of(prompt) - first, max_tokens)),
            started_at=asyncio.get_running_loop().time(),
        )  # fmt: skip
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with aclosing(self._words(generation, max_tokens, self.faults.pop(0) if self.faults else None)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self.in_flight -= 1
            generation.ended_at = asyncio.get_running_loop().time()

    async def _words(self, generation, max_tokens, fault):
        breaks_at = self._rng.randrange(1, max(2, generation.wanted)) if fault in {"hang_midway", "die_midway", "no_done"} else 0
        if fault == "refuse":
            raise RuntimeRefused(400, "the template cannot be applied")
        if fault == "error":
            raise RuntimeFailed(500, "out of memory")
        if self._rng.random() < LOADS:
            await self._silence(self._rng.expovariate(1 / LOAD_S))
        for n in range(generation.wanted):
            if fault in {"hang", "hang_midway"} and n == breaks_at:
                await self._silence(10_000)
            if fault in {"die", "die_midway"} and n == breaks_at:
                raise RuntimeFailed(0, "the answer broke off")
            if fault == "no_done" and n == breaks_at:
                break
            await self._silence(self._rng.expovariate(1 / (self._word_s * (20 if fault == "slow" else 1))))
            yield RuntimeText(content=self._word(generation, generation.first + n, n))
            generation.said = n + 1
        if fault == "no_done":
            yield RuntimeEnd(reason="stop", prompt_tokens=None, completion_tokens=None, ended_early=True)
            return
        reason = "length" if generation.wanted == max_tokens else "stop"
        factor = 10 if fault == "lie" else 1
        yield RuntimeEnd(reason=reason, prompt_tokens=len(generation.prompt.split()) * factor, completion_tokens=generation.wanted * factor)

    def _word(self, generation, number, n):
        """Say a word. When an answer is gone on with, its cut word may come out as the lost generation said it, or otherwise."""
        serial = generation.serial
        is_first_try = self._generations.of(generation) == [generation]
        if n == 0 and number and is_first_try and self._rng.random() < 0.5:
            same = [one for one in self._generations.all if one.prompt == generation.prompt and one.first + one.said > number]
            serial = same[0].serial if same else serial
        return f"{' ' if number else ''}{number}.{serial:0{SERIAL_DIGITS}}"

    async def _silence(self, limit_s):
        """Say nothing for a while; break off when the runtime ends meanwhile."""
        ended = self._ended
        if self.is_down:
            raise RuntimeFailed(0, "nobody listens")
        try:
            async with asyncio.timeout(limit_s):
                await ended.wait()
        except TimeoutError:
            return
        raise RuntimeFailed(0, "the answer broke off")
