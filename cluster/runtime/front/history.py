"""What of a history goes to the model when it is too long for the context: the oldest messages are left out first."""

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.memory import Loaded
from cluster.runtime.prompts import prompt_of

SPARE_TOKENS = 8


async def fitted(loaded: Loaded, messages: list[Json], template: str, *, truncate: bool) -> list[Json]:
    """Cut a history that is too long for the context, the oldest messages first, then the last one's beginning.

    A text has at most one token per byte, so most requests are not counted at all.

    Raises:
        BadRequest: Too long, and it must not be cut.
    """
    limit = loaded.context_tokens - SPARE_TOKENS
    if sum(len(message["content"].encode(errors="replace")) + 16 for message in messages) + 256 < limit:
        return messages
    if await _count(loaded, messages, template) <= limit:
        return messages
    if not truncate:
        raise BadRequest("the input length exceeds the context length")
    fewest, most = 0, sum(message["role"] != "system" for message in messages) - 1
    while fewest < most:  # more messages are more tokens: halve until it is known how many fit
        keep = (fewest + most + 1) // 2
        if await _count(loaded, dialect.cut_history(messages, keep), template) <= limit:
            fewest = keep
        else:
            most = keep - 1
    return dialect.cut_history(messages, fewest) if fewest > 0 else [await _shortened(loaded, messages[-1], template, limit)]


async def _shortened(loaded: Loaded, message: Json, template: str, limit: int) -> Json:
    """Take a message's beginning away until it fits alone."""
    last = dict(message)
    tokens = await _count(loaded, [last], template)
    while tokens > limit and last["content"]:
        cut = max(1, len(last["content"]) * (tokens - limit) // tokens + 16)
        last["content"] = last["content"][cut:]
        tokens = await _count(loaded, [last], template)
    return last


async def rendered(loaded: Loaded, messages: list[Json], template: str) -> str:
    """Write messages as the prompt that the model reads."""
    return prompt_of(template, messages) if template else await loaded.runner.rendered(messages)


async def _count(loaded: Loaded, messages: list[Json], template: str) -> int:
    return await loaded.runner.count(await rendered(loaded, messages, template), add_special=True)
