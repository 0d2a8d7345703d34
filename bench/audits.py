"""How well audits tell models apart: answers of honest nodes and of cheats, scored by the embedded model as the auditor scores them.

Answers come from the model itself, from the same numbers in another kernel (an F32 copy: multiplied as floats, not in blocks of integers), and
from requantized copies under its name; at temperature 0 and 0.8. Run: `python -m bench.audits`; `--keep FILE` writes what was measured, and
`--judge FILE` judges that again, without the model.
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

from aiohttp import web

from bench.machine import machine
from bench.requantize import requantize
from cluster.audit.pool import Pools
from cluster.audit.reference import Reference, Scored
from cluster.audit.rules import WINDOW, Judgment, Step, measured, rule_of
from cluster.audit.sampling import Candidate, Order, Sampling, orders_of, sampling_of
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
OPENINGS = ("Explain", "Write a short story about", "Give me three facts about", "Compare two views of", "Write a letter about")
SUBJECTS = ("the sea", "a broken clock", "volcanoes", "honest trade", "learning to cook", "winter in the north", "the moon", "old bridges")


@dataclass(frozen=True)
class Answer:
    """An answer, and what the reference said of a window of it."""

    source: str
    temperature: float
    prompt: str
    text: str
    scored: Scored


def prompts(count: int) -> list[str]:
    """Make prompts, all different."""
    every = [f"{opening} {subject}." for subject in SUBJECTS for opening in OPENINGS]
    return every[:count]


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


async def answers(url: str, count: int, rng: random.Random) -> AsyncIterator[Answer]:
    """Let every source answer every prompt at every temperature; score each answer. Prompt by prompt: a run that is broken off is balanced."""
    node, reference = OllamaRuntime(url), Reference(url)
    await node.start()
    await reference.start()
    original = await reference.model(SMOLLM2.name, SMOLLM2.gguf_sha256)
    try:
        for prompt, temperature, source in product(prompts(count), TEMPERATURES, SOURCES):
            request = {"messages": [{"role": "user", "content": prompt}], "options": {"temperature": temperature}}
            pieces = node.stream(JobKind.CHAT, f"{kind}:copy" if (kind := SOURCES[source]) else original, request, ANSWER_TOKENS)
            text = "".join([one.content async for one in pieces if isinstance(one, RuntimeText)])
            window = WINDOW[rule_of(sampling_of(request))]
            scored = await reference.score(original, request, text, window=window, chance=rng.random())
            yield Answer(source, temperature, prompt, text, scored)
    finally:
        await node.aclose()
        await reference.aclose()


def rows(found: Sequence[Answer], runtime: str) -> Iterator[dict[str, object]]:
    """Judge by source and temperature, as the auditor judges nodes with this runtime; answers too short for a window are pooled."""
    for temperature in TEMPERATURES:
        sampling = sampling_of({"options": {"temperature": temperature}})
        for source in SOURCES:
            of_source = [one for one in found if (one.source, one.temperature) == (source, temperature)]
            if of_source:
                yield {
                    "temperature": temperature,
                    "answer_from": source,
                    "runtime": runtime,
                    **row(of_source, sampling, orders_of(runtime)),
                }


def row(of_source: Sequence[Answer], sampling: Sampling, orders: Sequence[Order]) -> dict[str, object]:
    """Judge the answers of one source."""
    pools, judged = Pools(), list[Judgment]()
    for one in of_source:
        steps = [[measured(step, sampling, order) for step in one.scored.steps] for order in orders]
        said = pools.judge(("node", "model"), rule_of(sampling), steps)
        if isinstance(said, Judgment):
            judged.append(said)
    gaps = [step.gap for one in of_source for step in one.scored.steps]
    scores = [one.score for one in judged]
    return {
        "answers": len(of_source), "tokens": len(gaps), "windows": len(judged), "flagged": sum(one.is_flagged for one in judged),
        "not_best_percent": round(100 * fmean(gap > 0 for gap in gaps), 1), "mean_gap": round(fmean(gaps), 4),
        "score": [round(min(scores), 3), round(max(scores), 3)], "outside": [min(one.outside for one in judged), max(one.outside for one in judged)],
    }  # fmt: skip


def written(one: Answer) -> str:
    """Write an answer as a line."""
    return json.dumps(asdict(one)) + "\n"


def read(line: str) -> Answer:
    """Read it."""
    said = json.loads(line)
    steps = tuple(Step(one["claimed"], tuple(Candidate(**told) for told in one["candidates"])) for one in said["scored"]["steps"])
    return Answer(**said | {"scored": Scored(tokens=said["scored"]["tokens"], steps=steps)})


async def measure(count: int, seed: int, kept: Path | None) -> list[Answer]:
    """Let all sources answer, and have their answers scored."""
    found = []
    with tempfile.TemporaryDirectory(prefix="gfe-audits-") as folder, (kept or Path(os.devnull)).open("w") as file:
        async with front(Path(folder)) as url:
            async for one in answers(url, count, random.Random(seed)):
                found.append(one)
                file.write(written(one))
                file.flush()
    return found


async def main() -> None:
    """Measure and print, a line of JSON per source and temperature."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=21, help="of each source at each temperature")
    parser.add_argument("--seed", type=int, default=7, help="of the windows' places")
    parser.add_argument("--keep", type=Path, help="file for what was measured, a line per answer")
    parser.add_argument("--judge", type=Path, help="such a file, to be judged again")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.judge:
        found = [read(line) for line in arguments.judge.read_text().splitlines()]
    else:
        found = await measure(arguments.answers, arguments.seed, arguments.keep)
    print(json.dumps({"machine": machine(), "answers": len(found), "minutes": round((time.monotonic() - began) / 60, 1)}))
    for runtime in RUNTIMES:
        for line in rows(found, runtime):
            print(json.dumps(line))


if __name__ == "__main__":
    asyncio.run(main())
