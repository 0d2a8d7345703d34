"""How well audits tell models apart: answers of honest nodes and of cheats, scored by the embedded model as the auditor scores them.

Answers come from the model itself, from the same numbers in another kernel (an F32 copy: multiplied as floats, not in blocks of integers), and
from requantized copies under its name; at temperature 0 and 0.8, asked for in several ways. Run: `python -m bench.audits`, with `--ways` for
some of them; `--keep FILE` writes what was measured, and `--judge FILE` judges that again, without the model.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from aiohttp import web

from bench.machine import machine
from bench.requantize import requantize
from cluster.audit.pool import Pools
from cluster.audit.reference import Reference, Scored
from cluster.audit.rules import WINDOW, Judgment, Step, measured, rule_of
from cluster.audit.sampling import Candidate, Sampling, orders_of, penalties_in, sampling_of
from cluster.jobs import JobKind
from cluster.runtime.front.app import create_front_app
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import Memory
from cluster.runtime.front.model import Manifest
from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from cluster.runtime.ollama import OllamaRuntime, RuntimeText

SOURCES = {"same file": None, "other kernel": "f32", "Q8_0 copy": "q8_0", "cheat: Q4_0": "q4_0", "cheat: Q2_K mix": "q2_k"}
RUNTIMES = ("embedded", "ollama")  # whose order of cutting is known, and whose is not
TEMPERATURES = (0.0, 0.8)
ANSWER_TOKENS = 80
FORMATTED_TOKENS = 120  # of which some stand in strings
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}, "text": {"type": "string"}}, "required": ["title", "text"]}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repeat_penalty 1.1": {"options": {"repeat_penalty": 1.1}},
    "repeat_penalty 1.5": {"options": {"repeat_penalty": 1.5}},
    "presence and frequency 0.5": {"options": {"presence_penalty": 0.5, "frequency_penalty": 0.5}},
    "presence and frequency 2": {"options": {"presence_penalty": 2.0, "frequency_penalty": 2.0}},
    "json": {"format": "json"},
    "schema": {"format": SCHEMA},
    "schema, repeat_penalty 1.1": {"format": SCHEMA, "options": {"repeat_penalty": 1.1}},
}
OPENINGS = ("Explain", "Write a short story about", "Give me three facts about", "Compare two views of", "Write a letter about")
SUBJECTS = ("the sea", "a broken clock", "volcanoes", "honest trade", "learning to cook", "winter in the north", "the moon", "old bridges")


@dataclass(frozen=True)
class Answer:
    """An answer, and what the reference said of a window of it: once for each way in which an engine may count penalties."""

    way: str
    source: str
    temperature: float
    prompt: str
    text: str
    scored: tuple[Scored, ...]


def request_of(way: str, temperature: float, prompt: str) -> dict[str, Any]:
    """Write a request."""
    asked = WAYS[way]
    text = prompt + " Answer in JSON." if "format" in asked else prompt
    return asked | {"messages": [{"role": "user", "content": text}], "options": {"temperature": temperature} | asked.get("options", {})}


def prompts(first: int, count: int) -> list[str]:
    """Make prompts, all different."""
    every = [f"{opening} {subject}." for subject in SUBJECTS for opening in OPENINGS]
    return every[first : first + count]


@dataclass(frozen=True)
class Plan:
    """What is asked of whom."""

    ways: Sequence[str]
    sources: Sequence[str]
    prompts: Sequence[str]


@asynccontextmanager
async def front(folder: Path) -> AsyncIterator[str]:
    """Serve the model and its copies; answers the URL."""
    library = Library(store=folder / "store", cache=cache_folder(), mirrors=Mirrors())
    runner = web.AppRunner(create_front_app(library, Memory(slots=1, context_tokens=2048, max_loaded=len(SOURCES))), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    original = await asyncio.to_thread(fetch, SMOLLM2, cache_folder(), Mirrors())
    await library.add(SMOLLM2)
    for kind in filter(None, SOURCES.values()):
        copy = folder / f"{kind}.gguf"
        await asyncio.to_thread(requantize, original, copy, kind)
        with copy.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = copy.stat().st_size
        library.blobs.adopt(copy, sha256)
        await library.put(Manifest(name=f"{kind}:copy", weights=sha256, size_bytes=size))
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def answers(url: str, plan: Plan, rng: random.Random) -> AsyncIterator[Answer]:
    """Let every source answer every prompt at every temperature; score each answer. Prompt by prompt: a run that is broken off is balanced."""
    node, reference = OllamaRuntime(url), Reference(url)
    await node.start()
    await reference.start()
    original = await reference.model(SMOLLM2.name, SMOLLM2.gguf_sha256)
    try:
        for prompt, way, temperature, source in product(plan.prompts, plan.ways, TEMPERATURES, plan.sources):
            request = request_of(way, temperature, prompt)
            model = f"{kind}:copy" if (kind := SOURCES[source]) else original
            pieces = node.stream(JobKind.CHAT, model, request, FORMATTED_TOKENS if "format" in request else ANSWER_TOKENS)
            text = "".join([one.content async for one in pieces if isinstance(one, RuntimeText)])
            sampling, chance = sampling_of(request), rng.random()
            readings = [
                await reference.score(original, penalties.of(request), text, window=WINDOW[rule_of(sampling)], chance=chance)
                for penalties in penalties_in("ollama", sampling.penalties)
            ]
            yield Answer(way, source, temperature, prompt, text, tuple(readings))
    finally:
        await node.aclose()
        await reference.aclose()


def rows(found: Sequence[Answer], runtime: str) -> Iterator[dict[str, object]]:
    """Judge by way, source and temperature, as the auditor judges nodes with this runtime; answers too short for a window are pooled."""
    for way, temperature, source in product(WAYS, TEMPERATURES, SOURCES):
        alike = [one for one in found if (one.way, one.source, one.temperature) == (way, source, temperature)]
        if alike:
            sampling = sampling_of(request_of(way, temperature, ""))
            yield {"way": way, "temperature": temperature, "answer_from": source, "runtime": runtime, **row(alike, sampling, runtime)}


def row(alike: Sequence[Answer], sampling: Sampling, runtime: str) -> dict[str, object]:
    """Judge answers of one source."""
    pools, judged = Pools(), list[Judgment]()
    for one in alike:
        readings = one.scored[: len(penalties_in(runtime, sampling.penalties))]
        steps = [[measured(step, sampling, order) for step in scored.steps] for scored in readings for order in orders_of(runtime)]
        said = pools.judge(("node", "model"), rule_of(sampling), steps)
        if isinstance(said, Judgment):
            judged.append(said)
    gaps = [step.gap for one in alike for step in one.scored[0].steps]
    scores, outside = [one.score for one in judged] or [0.0], [one.outside for one in judged] or [0]
    return {
        "answers": len(alike), "tokens": len(gaps), "windows": len(judged), "flagged": sum(one.is_flagged for one in judged),
        "not_best_percent": round(100 * fmean([gap > 0 for gap in gaps] or [0]), 1), "mean_gap": round(fmean(gaps or [0]), 4),
        "score": [round(min(scores), 3), round(max(scores), 3)], "outside": [min(outside), max(outside)],
    }  # fmt: skip


def written(one: Answer) -> str:
    """Write an answer as a line."""
    return json.dumps(asdict(one)) + "\n"


def read(line: str) -> Answer:
    """Read it."""
    said = json.loads(line)
    return Answer(**said | {"scored": tuple(_scored(one) for one in said["scored"])})


def _scored(said: dict[str, Any]) -> Scored:
    steps = tuple(Step(one["claimed"], tuple(Candidate(**told) for told in one["candidates"])) for one in said["steps"])
    return Scored(tokens=said["tokens"], steps=steps)


async def measure(plan: Plan, seed: int, kept: Path | None) -> list[Answer]:
    """Let all sources answer, and have their answers scored."""
    found = []
    with tempfile.TemporaryDirectory(prefix="gfe-audits-") as folder, (kept or Path(os.devnull)).open("w") as file:
        async with front(Path(folder)) as url:
            async for one in answers(url, plan, random.Random(seed)):
                found.append(one)
                file.write(written(one))
                file.flush()
    return found


async def main() -> None:
    """Measure and print, a line of JSON per way, source and temperature."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of asking")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES), help="of answers")
    parser.add_argument("--answers", type=int, default=21, help="of each way and source at each temperature")
    parser.add_argument("--first", type=int, default=0, help="prompt, to go on with others than before")
    parser.add_argument("--seed", type=int, default=7, help="of the windows' places")
    parser.add_argument("--keep", type=Path, help="file for what was measured, a line per answer")
    parser.add_argument("--judge", type=Path, help="such a file, to be judged again")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.judge:
        found = [read(line) for line in arguments.judge.read_text().splitlines()]
    else:
        plan = Plan(arguments.ways, arguments.sources, prompts(arguments.first, arguments.answers))
        found = await measure(plan, arguments.seed, arguments.keep)
    print(json.dumps({"machine": machine(), "answers": len(found), "minutes": round((time.monotonic() - began) / 60, 1)}))
    for runtime in RUNTIMES:
        for line in rows(found, runtime):
            print(json.dumps(line))


if __name__ == "__main__":
    asyncio.run(main())
