"""`POST /gfe/score`: what a model says of an answer that somebody claims to have from it; for audits (security reference 6.2).

The claimed tokens are handed to the model one after the other, behind the prompt as it would read it; for each it tells what it would have
said in its place. With its prompt cache a step costs one token.
"""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from aiohttp import web

from cluster.audit.cutting import Piece, walk
from cluster.audit.free_text import Told, free_places, plain_of
from cluster.audit.rules import places
from cluster.audit.sampling import CANDIDATES, Penalties, penalties_of
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import asking
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.memory import Loaded
from cluster.runtime.front.running import prompt_for

MAX_WINDOW = 512
SURE = 1e6  # added to a logit
DRAWS = 4
LEAD = 64  # tokens before those that are scored, as many as penalties usually count


async def score(request: web.Request) -> web.Response:
    """Score `window` tokens of `answer`, `chance` in [0, 1) says which; beside them a chat or a generation as Ollama takes it.

    Answered are `tokens`, how many the answer has, and `steps`: each the claimed token and the likeliest ones, `[token, logprob in nats]`,
    best first, with the penalties that the options ask for and before any other sampling. Of an answer in a format there are those steps alone
    where it changes nothing.
    """
    if not ipaddress.ip_address(request.remote or "::").is_loopback:
        raise BadRequest("answers are scored for this machine alone", 403)
    body = await body_of(request)
    answer, window, chance = _wanted(body)
    model = request.app[LIBRARY].find(body.get("model"))
    asked = asking.chat_of(body, model) if "messages" in body else asking.generation_of(body, model)
    async with request.app[MEMORY].slot(model, asked.options, asked.keep_alive_s) as loaded:
        prompt = await loaded.runner.tokens(await prompt_for(loaded, asked), add_special=True)
        pieces = await loaded.runner.pieces(answer)
        among = free_places([piece.text for piece in pieces]) if body.get("format") else None
        chosen = places(prompt, [piece.token for piece in pieces], window if among is None else window + window // 2, chance, among)
        if len(prompt) + max(chosen, default=0) >= loaded.context_tokens:
            raise BadRequest("the input length exceeds the context length")
        penalties = penalties_of(asked.options)
        steps = await steps_at(chosen, loaded, prompt, pieces, penalties, is_usual=penalties.are_none and among is None)
    kept = [(token, [one[:2] for one in said] if among is None else plain_of(said)) for token, said in steps]
    found = [{"claimed": token, "candidates": said} for token, said in kept if said]
    return web.json_response({"tokens": len(pieces), "steps": found[:window]})


async def steps_at(
    chosen: Sequence[int], loaded: Loaded, prompt: list[int], pieces: Sequence[Piece], penalties: Penalties, *, is_usual: bool
) -> list[tuple[int, Sequence[Told]]]:
    """Tell of each chosen place which token is claimed there, and the likeliest ones; `is_usual`: the text was written as it is usually cut."""
    if not chosen:
        return []
    tokens = [piece.token for piece in pieces]

    async def tell(before: list[int]) -> Sequence[Told]:
        return await told(loaded, before, penalties, drawn=tokens[-1])

    if is_usual:
        return [(tokens[n], await tell(prompt + tokens[:n])) for n in chosen]
    begin, end = max(0, chosen[0] - LEAD), chosen[-1] + 1
    begins = list(accumulate((len(piece.text) for piece in pieces[begin:end]), initial=0))
    return await walk(tell, loaded.runner.pieces, prompt + tokens[:begin], pieces[begin:end], {begins[n - begin] for n in chosen})


async def told(loaded: Loaded, before: list[int], penalties: Penalties, drawn: int) -> list[Told]:
    """Tell the likeliest tokens after others, best first; nothing where the child does not say.

    It says so of a token that it draws, and not when that breaks off in a character. Without penalties it draws `drawn`, whatever is likely.
    Penalties it applies itself, for it alone knows the logits, and then it must be let draw.
    """
    asked: Json = {"prompt": before, "n_predict": 1, "n_probs": CANDIDATES, "cache_prompt": True}
    if penalties.are_none:
        said = await loaded.runner.call(
            "/completion", asked | {"temperature": 0, "logit_bias": [[drawn, SURE]], "post_sampling_probs": False}
        )
        return [Told(int(one["id"]), float(one["logprob"]), bytes(one["bytes"])) for one in _of_drawn(said)["top_logprobs"]]
    last_n = penalties.repeat_last_n if penalties.repeat_last_n > 0 else loaded.context_tokens
    asked |= asdict(penalties) | {"repeat_last_n": last_n, "samplers": ["penalties"], "temperature": 1, "post_sampling_probs": True}
    for seed in range(DRAWS):
        if found := _of_drawn(await loaded.runner.call("/completion", asked | {"seed": seed})):
            likeliest = [one for one in found["top_probs"] if one["prob"] > 0]
            return [Told(int(one["id"]), math.log(one["prob"]), bytes(one["bytes"])) for one in likeliest]
    return []


def _of_drawn(said: Json) -> Json:
    return next(iter(said.get("completion_probabilities") or ()), {})


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
