"""How many tokens a prompt can have at most, before anybody counted: one per byte of it, and what a chat's template adds. Pure.

(Ollama reference 2: Ollama has no tokenizer route, and no tokenizer of a text model makes more than one token of a byte.)
"""

import json
from collections.abc import Mapping
from typing import Any

from cluster.attempt_log import bytes_of

MESSAGE_TOKENS = 16  # roles and separators of a chat's template, per message
TEMPLATE_TOKENS = 64  # its system prompt
IMAGE_TOKENS = 4096  # of one image, at most


def most_tokens(request: Mapping[str, Any]) -> int:
    """Bound the tokens of a request in Ollama's form."""
    count = TEMPLATE_TOKENS + MESSAGE_TOKENS
    if messages := request.get("messages"):
        count = TEMPLATE_TOKENS + sum(_of_message(message) for message in messages)
    if tools := request.get("tools"):
        count += len(json.dumps(tools))
    texts = (request.get("prompt"), request.get("suffix"), request.get("system"), request.get("template"), request.get("input"))
    return count + sum(map(_of, texts)) + IMAGE_TOKENS * len(request.get("images") or ())


def _of_message(message: Mapping[str, Any]) -> int:
    count = MESSAGE_TOKENS + _of(message.get("content")) + _of(message.get("thinking"))
    if calls := message.get("tool_calls"):
        count += len(json.dumps(calls))
    return count + IMAGE_TOKENS * len(message.get("images") or ())


def _of(text: Any) -> int:
    if isinstance(text, str):
        return bytes_of(text)
    return sum(map(_of, text)) if isinstance(text, list) else 0
