"""What each dialect costs beside OpenAI's chat: the same prompt to the same model, alternating in one run."""

import json
import statistics
import sys
from typing import Any

from bench.installation import MAX_TOKENS, MODEL, OURS, PROMPT, Bench, shape_name

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


async def compare(bench: Bench, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure each dialect and OpenAI's chat, plain and as a stream."""
    rows = []
    for stream in (False, True):
        for path in ASKED:
            rows.append(await _row(bench, path, stream=stream, seconds=seconds, rounds=rounds))
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


async def _row(bench: Bench, path: str, *, stream: bool, seconds: float, rounds: int) -> dict[str, Any]:
    def body(*, stream: bool) -> dict[str, Any]:
        return {"model": MODEL, "stream": stream, **ASKED[path]}

    pair = await bench.alternate(
        bench.route(path, body), bench.ours, stream=stream, in_flight=IN_FLIGHT, seconds=seconds, rounds=rounds
    )  # fmt: skip
    mine, openai = pair.one.per_request(OURS), pair.other.per_request(OURS)
    return {
        "route": path, "shape": shape_name(stream=stream), "in_flight": IN_FLIGHT, "cpu_ms": round(mine, 2), "openai_cpu_ms": round(openai, 2),
        "ratio": round(mine / openai, 3), "median_ratio": round(statistics.median(pair.ratios), 3), "ratios": sorted(pair.ratios),
        "split": pair.one.split(OURS), "openai_split": pair.other.split(OURS),
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    """Write a row as text."""
    return (
        f"{row['shape']:>20}, {row['in_flight']:>2} in flight: {row['route']} {row['cpu_ms']:.2f} CPU-ms, /v1/chat/completions {row['openai_cpu_ms']:.2f}, "
        f"ratio {row['ratio']}, median of rounds {row['median_ratio']} {row['ratios']}\n{'':>22}{row['split']}\n{'':>22}beside {row['openai_split']}"
    )
