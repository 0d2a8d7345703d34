"""What each dialect costs beside OpenAI's chat: the same prompt to the same model, alternating in one run.

Beside the whole, which other work on the machine blurs, stands what differs between dialects alone: reading a body and writing its answer, here
in this process.
"""

import json
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

from bench.installation import MAX_TOKENS, MODEL, OURS, PROMPT, Bench, chat, shape_name
from cluster.dialects.answer import Ending, Head
from cluster.dialects.table import DIALECTS
from cluster.jobs import EndReason, Text

MESSAGES = [{"role": "user", "content": PROMPT}]
LIMITED = {"options": {"num_predict": MAX_TOKENS}}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": PROMPT, "max_tokens": MAX_TOKENS},
    "/v1/responses": {"input": PROMPT, "max_output_tokens": MAX_TOKENS},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": MAX_TOKENS},
    "/api/chat": {"messages": MESSAGES, **LIMITED},
    "/api/generate": {"prompt": PROMPT, **LIMITED},
}
IN_FLIGHT = 16
PIECES = [Text(seq=seq, content=" word" * 4, tokens=4) for seq in range(1, 5)]  # as 16 words arrive, coalesced
END = Ending(reason=EndReason.STOP, prompt_tokens=6, completion_tokens=16, counted_by="node", cost="9.00", first_ns=10**7, total_ns=10**8)
TIMES, TRIES = 2000, 5


async def compare(bench: Bench, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure each dialect and OpenAI's chat, plain and as a stream."""
    rows = []
    for stream in (False, True):
        for path in ASKED:
            rows.append(await _row(bench, path, stream=stream, seconds=seconds, rounds=rounds))
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def alone_us(path: str, *, stream: bool) -> float:
    """Tell the CPU time that reading a body and writing its answer takes, in µs; the best of some tries."""
    dialect, body = DIALECTS[path], _body(path, stream=stream)
    head = Head(job="job_0123456789abcdef", model=MODEL, created=1, now=lambda: datetime.now(UTC))

    def once() -> None:
        writer = dialect.writer(dialect.read(body), head)
        if stream:
            b"".join((writer.begin(), *map(writer.text, PIECES), writer.end(END)))
        else:
            json.dumps(writer.whole(PIECES, END))

    def some() -> float:
        began = time.process_time()
        for _ in range(TIMES):
            once()
        return (time.process_time() - began) / TIMES * 1e6

    return round(min(some() for _ in range(TRIES)))


def _body(path: str, *, stream: bool) -> dict[str, Any]:
    return {"model": MODEL, "stream": stream, **ASKED[path]} if path in ASKED else chat(stream=stream)


async def _row(bench: Bench, path: str, *, stream: bool, seconds: float, rounds: int) -> dict[str, Any]:
    route = bench.route(path, lambda *, stream: _body(path, stream=stream))
    pair = await bench.alternate(route, bench.ours, stream=stream, in_flight=IN_FLIGHT, seconds=seconds, rounds=rounds)
    mine, openai = pair.one.per_request(OURS), pair.other.per_request(OURS)
    return {
        "route": path, "shape": shape_name(stream=stream), "in_flight": IN_FLIGHT, "cpu_ms": round(mine, 2), "openai_cpu_ms": round(openai, 2),
        "ratio": round(mine / openai, 3), "median_ratio": round(statistics.median(pair.ratios), 3), "ratios": sorted(pair.ratios),
        "split": pair.one.split(OURS), "openai_split": pair.other.split(OURS),
        "alone_us": alone_us(path, stream=stream), "openai_alone_us": alone_us("/v1/chat/completions", stream=stream),
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    """Write a row as text."""
    return (
        f"{row['shape']:>20}, {row['in_flight']:>2} in flight: {row['route']} {row['cpu_ms']:.2f} CPU-ms, /v1/chat/completions {row['openai_cpu_ms']:.2f}, "
        f"ratio {row['ratio']}, median of rounds {row['median_ratio']} {row['ratios']}; reading and writing alone {row['alone_us']} and "
        f"{row['openai_alone_us']} µs\n{'':>22}{row['split']}\n{'':>22}beside {row['openai_split']}"
    )
