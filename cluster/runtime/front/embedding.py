"""Routes that run a model for vectors."""

import time
from typing import Any

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.memory import Loaded

MAX_EMBED_TOKENS = 512


async def embed(request: web.Request) -> web.Response:
    """`POST /api/embed`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    model = request.app[LIBRARY].find(body.get("model"))
    given = body.get("input")
    inputs = [] if given in (None, "", []) else [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise BadRequest("invalid input type")
    async with request.app[MEMORY].slot(model, {}, dialect.keep_alive_s(body.get("keep_alive"))) as loaded:
        loaded_ns = time.monotonic_ns()
        vectors, tokens = [], 0
        for text in inputs:
            fitting = await embeddable(loaded, text, truncate=body.get("truncate") is not False)
            said = await loaded.runner.call("/v1/embeddings", {"input": fitting})
            vectors.append(unit_vector(said["data"][0]["embedding"], body.get("dimensions")))
            tokens += int(said.get("usage", {}).get("prompt_tokens", 0))
    return web.json_response(
        {
            "model": body["model"], "embeddings": vectors, "total_duration": time.monotonic_ns() - started, "load_duration": loaded_ns - started,
            "prompt_eval_count": tokens,
        }
    )  # fmt: skip


async def embeddable(loaded: Loaded, text: str, *, truncate: bool) -> str:
    """Cut a text to what can be embedded at once.

    Raises:
        BadRequest: Too long, and it must not be cut.
    """
    limit = min(loaded.context_tokens, MAX_EMBED_TOKENS) - 2
    while len(text.encode()) > limit and (tokens := await loaded.runner.count(text)) > limit:
        if not truncate:
            raise BadRequest("the input length exceeds the context length")
        text = text[: len(text) * limit // tokens - 1]
    return text


def unit_vector(vector: list[float], dimensions: Any) -> list[float]:
    """Cut a vector to `dimensions` and give it length 1."""
    cut = vector[:dimensions] if isinstance(dimensions, int) and dimensions > 0 else vector
    length = sum(value * value for value in cut) ** 0.5 or 1.0
    return [value / length for value in cut]
