"""`POST /gfe/score`: what a model says of an answer that somebody claims to have from it; for audits (security reference 6.2).

The claimed tokens are handed to the model one after the other, behind the prompt as it would read it; for each it tells what it would have
said in its place. With its prompt cache a step costs one token.
"""

import ipaddress
from typing import Any

from aiohttp import web

from cluster.audit.rules import places
from cluster.audit.sampling import CANDIDATES
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import asking
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.memory import Loaded
from cluster.runtime.front.running import prompt_for

MAX_WINDOW = 512


async def score(request: web.Request) -> web.Response:
    """Score `window` tokens of `answer`, `chance` in [0, 1) says which; beside them a chat or a generation as Ollama takes it.

    Answered are `tokens`, how many the answer has, and `steps`: each the claimed token and the likeliest ones, `[token, logprob in nats]`,
    best first.
    """
    if not ipaddress.ip_address(request.remote or "::").is_loopback:
        raise BadRequest("answers are scored for this machine alone", 403)
    body = await body_of(request)
    answer, window, chance = _wanted(body)
    model = request.app[LIBRARY].find(body.get("model"))
    asked = asking.chat_of(body, model) if "messages" in body else asking.generation_of(body, model)
    async with request.app[MEMORY].slot(model, asked.options, asked.keep_alive_s) as loaded:
        prompt = await loaded.runner.tokens(await prompt_for(loaded, asked), add_special=True)
        claimed = await loaded.runner.tokens(answer)
        chosen = places(prompt, claimed, window, chance)
        if len(prompt) + max(chosen, default=0) >= loaded.context_tokens:
            raise BadRequest("the input length exceeds the context length")
        steps = [{"claimed": claimed[n], "candidates": await candidates(loaded, prompt + claimed[:n])} for n in chosen]
    return web.json_response({"tokens": len(claimed), "steps": steps})


async def candidates(loaded: Loaded, before: list[int]) -> list[tuple[int, float]]:
    """Tell the likeliest tokens after others, with their log-probabilities before any sampling."""
    asked = {
        "prompt": before, "n_predict": 1, "n_probs": CANDIDATES, "temperature": 0, "cache_prompt": True, "post_sampling_probs": False,
    }  # fmt: skip
    said = await loaded.runner.call("/completion", asked)
    return [(int(one["id"]), float(one["logprob"])) for one in said["completion_probabilities"][0]["top_logprobs"]]


def _wanted(body: Json) -> tuple[str, int, float]:
    answer: Any = body.get("answer")
    window, chance = body.get("window"), body.get("chance", 0)
    if not isinstance(answer, str) or not answer:
        raise BadRequest("json: answer must be a text that is not empty")
    if not isinstance(window, int) or not 1 <= window <= MAX_WINDOW:
        raise BadRequest(f"window must be between 1 and {MAX_WINDOW}")
    if not isinstance(chance, int | float) or not 0 <= chance < 1:
        raise BadRequest("chance must be in [0, 1)")
    return answer, window, float(chance)
