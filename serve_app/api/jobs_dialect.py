"""The jobs API's own dialect: the body of `submit-job` and `quote` into our request (seed S14). Pure."""

from typing import Any

from cluster.dialects.fields import Fields
from cluster.errors import InvalidRequest
from cluster.jobs import JobKind
from cluster.prompt_size import most_tokens
from serve_app.asking import MAX_PROMPT_BYTES, repeat_digest
from serve_app.errors import TooLarge
from serve_app.job import JobRequest

FIELDS = frozenset({"prompt", "system", "model", "provider", "max_tokens", "options", "webhook"})
OPTIONS = frozenset({"temperature", "top_p", "seed", "stop"})
MAX_STOPS = 16
MAX_NAME = 300
MAX_TOKENS = 1_000_000


def job_request(body: dict[str, Any], *, default_model: str, default_max_tokens: int, idempotency_key: str | None = None) -> JobRequest:
    """Read a body: a job that runs by itself.

    Raises:
        InvalidRequest: A field is wrong; names it.
        TooLarge: The prompt is.
    """
    _refuse_unknown(body, FIELDS)
    fields = Fields(body)
    request = {"messages": _messages(body), "options": _options(fields.mapping("options") or {})}
    return JobRequest(
        kind=JobKind.CHAT, model=_name(fields, "model") or default_model, is_sync=False, provider=_name(fields, "provider"),
        webhook=fields.text("webhook"),
        request=request, max_tokens=fields.whole("max_tokens", 1, MAX_TOKENS) or default_max_tokens, prompt_bytes=most_tokens(request),
        capabilities=frozenset({"completion"}), idempotency_key=idempotency_key, digest=_digest(body) if idempotency_key else None,
    )  # fmt: skip


def _refuse_unknown(body: dict[str, Any], known: frozenset[str]) -> None:
    for name in body:
        if name not in known:
            raise InvalidRequest("Unknown field.", name)


def _messages(body: dict[str, Any]) -> list[dict[str, str]]:
    """Read the prompt, and what the model is told before it; a blank `system` is none."""
    said = [{"role": "user", "content": _prompt(body.get("prompt"))}]
    system = body.get("system")
    if system is None or (isinstance(system, str) and not system.strip()):
        return said
    return [{"role": "system", "content": _text(system, "system")}, *said]


def _prompt(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidRequest("Prompt is required", "prompt")
    return _text(value, "prompt")


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _is_text(value):
        raise InvalidRequest("Not a valid string.", field)
    if len(value.encode()) > MAX_PROMPT_BYTES:
        raise TooLarge(MAX_PROMPT_BYTES, field)
    return value


def _name(fields: Fields, field: str) -> str | None:
    name = fields.text(field)
    if name and (len(name) > MAX_NAME or "\0" in name or not _is_text(name)):
        raise InvalidRequest(f"`{field}` is not a name.", field)
    return name or None


def _is_text(value: str) -> bool:
    """Tell whether a string is one: JSON may hold halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _options(options: dict[str, Any]) -> dict[str, Any]:
    try:
        _refuse_unknown(options, OPTIONS)
        fields = Fields(options)
        found = {
            "temperature": fields.number("temperature", 0, 2), "top_p": fields.number("top_p", 0, 1),
            "seed": fields.whole("seed", -(2**31), 2**31 - 1), "stop": _stops(options.get("stop")),
        }  # fmt: skip
    except InvalidRequest as wrong:
        raise InvalidRequest(wrong.detail, f"options.{wrong.param}") from wrong
    return {name: value for name, value in found.items() if value is not None}


def _stops(value: Any) -> list[str] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(one, str) and _is_text(one) for one in stops):
        raise InvalidRequest(f"`stop` must be a string or at most {MAX_STOPS} strings.", "stop")
    return stops


def _digest(body: dict[str, Any]) -> str:
    """Tell one submission from another; from one of another API with the same words too."""
    return repeat_digest(["submit-job", body])
