"""Routes that run a model for vectors."""

import time
from typing import Any

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.memory import Loaded, Memory
from cluster.runtime.front.model import Model

MAX_EMBED_TOKENS = 512
NOT_NORMALIZED = -1


async def embed(request: web.Request) -> web.Response:
    """`POST /api/embed`: vectors of length 1."""
    started = time.monotonic_ns()
    body = await body_of(request)
    model = request.app[LIBRARY].find(body.get("model"))
    given = body.get("input")
    inputs = [] if given in (None, "", []) else [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise BadRequest("invalid input type")
    asked = body | {"input": inputs, "truncate": body.get("truncate") is not False}
    vectors, tokens = await embed_all(request.app[MEMORY], model, asked)
    return web.json_response(
        {"model": body["model"], "embeddings": vectors, "total_duration": time.monotonic_ns() - started, "prompt_eval_count": tokens}
    )


async def embed_all(memory: Memory, model: Model, asked: Json) -> tuple[list[list[float]], int]:
    """Embed each text of `input`; the vectors, of length 1, and how many tokens were read.

    Raises:
        BadRequest: One is too long, and `truncate` is not set.
        ChildFailed: The model cannot be loaded, or its process died.
    """
    vectors, tokens = [], 0
    async with memory.slot(model, *_wishes(asked, model)) as loaded:
        for text in asked["input"]:
            vector, read = await _embedded(loaded, text, truncate=bool(asked.get("truncate")))
            vectors.append(unit_vector(vector, asked.get("dimensions")))
            tokens += read
    return vectors, tokens


async def embeddings(request: web.Request) -> web.Response:
    """`POST /api/embeddings`, the old one: one vector, as long as the model makes it."""
    body = await body_of(request)
    model = request.app[LIBRARY].find(body.get("model"))
    prompt = body.get("prompt") or ""
    if not isinstance(prompt, str):
        raise BadRequest("json: prompt must be a string")
    async with request.app[MEMORY].slot(model, *_wishes(body, model)) as loaded:
        vector = (await _embedded(loaded, prompt, truncate=True))[0] if prompt else []
    return web.json_response({"embedding": vector})


def _wishes(body: Json, model: Model) -> tuple[Json, float | None]:
    return {**model.manifest.parameters, **dialect.checked_options(body.get("options"))}, dialect.keep_alive_s(body.get("keep_alive"))


async def _embedded(loaded: Loaded, text: str, *, truncate: bool) -> tuple[list[float], int]:
    """Embed a text; its vector as the model makes it, and the tokens that were read."""
    fitting = await embeddable(loaded, text, truncate=truncate)
    said = await loaded.runner.call("/v1/embeddings", {"input": fitting, "embd_normalize": NOT_NORMALIZED})
    return said["data"][0]["embedding"], int(said.get("usage", {}).get("prompt_tokens", 0))


async def embeddable(loaded: Loaded, text: str, *, truncate: bool) -> str:
    """Cut a text to what can be embedded at once.

    Raises:
        BadRequest: Too long, and it must not be cut.
    """
    limit = min(loaded.context_tokens, MAX_EMBED_TOKENS) - 2
    while len(text.encode(errors="replace")) > limit and (tokens := await loaded.runner.count(text)) > limit:
        if not truncate:
            raise BadRequest("the input length exceeds the context length")
        text = text[: len(text) * limit // tokens - 1]
    return text


def unit_vector(vector: list[float], dimensions: Any) -> list[float]:
    """Cut a vector to `dimensions` and give it length 1."""
    cut = vector[:dimensions] if isinstance(dimensions, int) and dimensions > 0 else vector
    length = sum(value * value for value in cut) ** 0.5 or 1.0
    return [value / length for value in cut]
