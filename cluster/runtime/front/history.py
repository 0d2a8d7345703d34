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
    others, tokens = sum(message["role"] != "system" for message in messages), 0
    for keep in range(others, 0, -1):
        kept = dialect.cut_history(messages, keep)
        tokens = await _count(loaded, kept, template)
        if tokens <= limit:
            return kept
        if not truncate:
            raise BadRequest("the input length exceeds the context length")
    last = dict(messages[-1])
    while tokens > limit and last["content"]:
        cut = max(1, len(last["content"]) * (tokens - limit) // tokens + 16)
        last["content"] = last["content"][cut:]
        tokens = await _count(loaded, [last], template)
    return [last]


async def rendered(loaded: Loaded, messages: list[Json], template: str) -> str:
    """Write messages as the prompt that the model reads."""
    return prompt_of(template, messages) if template else await loaded.runner.rendered(messages)


async def _count(loaded: Loaded, messages: list[Json], template: str) -> int:
    return await loaded.runner.count(await rendered(loaded, messages, template), add_special=True)
