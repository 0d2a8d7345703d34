"""What a request asks, made into what a job is: the model by its full name, its limits, and what it must be able to do."""

import hashlib
import json
from typing import Any

from cluster.dialects.asked import Asked
from cluster.errors import InvalidRequest
from cluster.prompt_size import IMAGE_TOKENS, most_tokens
from cluster.runtime.dialect import full_name
from serve_app.context import ServeContext
from serve_app.errors import TooLarge
from serve_app.job import JobRequest
from serve_app.placing import require_model

MAX_PROMPT_BYTES = 1024 * 1024
MAX_KEY_LENGTH = 255


def job_request_of(context: ServeContext, asked: Asked, *, idempotency_key: str | None = None, body: Any = None) -> JobRequest:
    """Make a job's request of what was asked; `body` is what a repeat under the same key must be equal to.

    Raises:
        ModelUnavailable: Nobody offers the model.
        InvalidRequest: It asks for more than the model can.
        TooLarge: The prompt is.
    """
    key = checked_key(idempotency_key)
    model = offered_name(context, asked.model or context.settings.default_model)
    longest = require_model(model, context.view.snapshot, context.feed.catalog)
    if asked.max_tokens is not None and asked.max_tokens > longest:
        raise InvalidRequest(f"`max_tokens` is {asked.max_tokens}, the model's context has {longest} tokens.", "max_tokens")
    _require_capabilities(context, model, asked.capabilities)
    prompt = most_tokens(asked.request)
    if prompt - IMAGE_TOKENS * _images(asked.request) > MAX_PROMPT_BYTES:
        raise TooLarge(MAX_PROMPT_BYTES, "prompt")
    return JobRequest(
        kind=asked.kind, model=model, request=asked.request, max_tokens=asked.max_tokens or min(context.settings.max_tokens, longest),
        prompt_bytes=prompt, capabilities=asked.capabilities, idempotency_key=key,
        digest=repeat_digest(body) if key else None,
    )  # fmt: skip


def repeat_digest(body: Any) -> str:
    """Digest what a repeat under the same Idempotency-Key must be equal to."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def checked_key(key: str | None) -> str | None:
    """Check an Idempotency-Key.

    Raises:
        InvalidRequest: It is too long, or empty.
    """
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"`Idempotency-Key` must have 1 to {MAX_KEY_LENGTH} characters.", "Idempotency-Key")
    return key


def offered_name(context: ServeContext, name: str) -> str:
    """Complete a model's name as Ollama does, where nobody offers it as it was written."""
    index = context.view.snapshot.index
    return name if index.offers(name) or not index.offers(full := full_name(name)) else full


def _require_capabilities(context: ServeContext, model: str, wanted: frozenset[str]) -> None:
    """See that the model can do, on at least one node, what is asked of it: waiting would not help.

    Raises:
        InvalidRequest: It cannot.
    """
    kinds = (group.kin.capabilities for group in context.view.snapshot.index.groups(model))
    missing = min((wanted.difference(can) for can in kinds), key=len, default=frozenset[str]())
    if missing:
        raise InvalidRequest(f'"{model}" does not support {" and ".join(sorted(missing))}', "model")


def _images(request: dict[str, Any]) -> int:
    return len(request.get("images", ())) + sum(len(message.get("images", ())) for message in request.get("messages", ()))
