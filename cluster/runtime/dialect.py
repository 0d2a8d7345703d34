"""Translation between Ollama's API and the child's: pure functions over dictionaries (Ollama reference 1.3, 4.1)."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
DEFAULT_OPTIONS: dict[str, Any] = {
    "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_last_n": 64, "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}  # fmt: skip
NUMBERS = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty",
    "num_predict", "num_ctx", "num_keep",
)  # fmt: skip
PASSED = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "seed",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
NO_MODEL = "the runtime has no model yet: pull one, e.g. `ollama pull llama3.2:3b`"
MAX_TOP_LOGPROBS = 20
MAX_MESSAGES = 10_000
MAX_NUMBER = 2**63  # of an option; beyond are infinity and what is no number at all
FOR_EVER_S = 290 * 365 * 86400.0
MODEL_NAME = re.compile(r"^[\w.\-]{1,80}(/[\w.\-]{1,80}){0,2}(:[\w.\-]{1,80})?\Z")
_DURATION = re.compile(r"^(-?)((?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+)$")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadRequest(Exception):
    """The request is wrong; carries Ollama's status and text."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text, status)
        self.text = text
        self.status = status


def checked_body(raw: bytes) -> dict[str, Any]:
    """Read a request's body as JSON, whatever its Content-Type says.

    Raises:
        BadRequest: It is no object.
    """
    if not raw:
        raise BadRequest("missing request body")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as wrong:
        raise BadRequest(str(wrong)) from wrong
    if not isinstance(body, dict):
        raise BadRequest("json: cannot unmarshal the body into an object")
    return body


def full_name(name: str) -> str:
    """Complete a model's name by its default tag; names are matched without regard to case."""
    return (name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest").lower()


def keep_alive_s(value: Any) -> float | None:
    """Read `keep_alive`: seconds, or a Go duration; negative is for ever (None: leave as it is).

    Raises:
        BadRequest: Neither.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float("inf") if value < 0 or value > FOR_EVER_S else float(value)
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise BadRequest(
            f'time: missing unit in duration "{value}"' if str(value).lstrip("-").isdigit() else f'time: invalid duration "{value}"'
        )
    if found.group(1):
        return float("inf")
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", found.group(2)))


def checked_options(options: Any) -> dict[str, Any]:
    """Check the types of sampling options; unknown ones are ignored, None means absent.

    Raises:
        BadRequest: A wrong type (Ollama answers 500 here).
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise BadRequest("json: cannot unmarshal options into an object")
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
                raise BadRequest(f'option "{name}" must be of type number', 500)
            checked[name] = value
        elif name == "stop":
            stops = [value] if isinstance(value, str) else value
            if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
                raise BadRequest('option "stop" must be of type array', 500)
            checked["stop"] = stops
    return checked


def sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Write checked options as the child wants them; a negative limit means until the model stops."""
    wanted = DEFAULT_OPTIONS | options
    request: dict[str, Any] = {name: wanted[name] for name in PASSED if name in wanted}
    if "seed" in request:
        request["seed"] = int(request["seed"])
    if wanted.get("stop"):
        request["stop"] = wanted["stop"]
    limit = int(wanted.get("num_predict", -1))
    request["n_predict"] = request["max_tokens"] = limit if limit > 0 else -1
    return request


def response_format(value: Any) -> dict[str, Any]:
    """Write Ollama's `format` as the child wants it for chats.

    Raises:
        BadRequest: Neither "json" nor an object.
    """
    if value in (None, ""):
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(value, dict):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}}
    raise BadRequest(f'invalid format: {value!r}; expected "json" or a valid JSON Schema object', 500)


def for_completion(request: dict[str, Any]) -> dict[str, Any]:
    """Write a request for the child's chat route as its route for whole prompts wants it."""
    plain = {name: value for name, value in request.items() if name not in {"response_format", "logprobs", "top_logprobs"}}
    wanted = request.get("response_format")
    if wanted:
        plain["json_schema"] = wanted["json_schema"]["schema"] if "json_schema" in wanted else {"type": "object"}
    if request.get("logprobs"):
        plain["n_probs"] = max(1, request["top_logprobs"])
    return plain


def checked_messages(value: Any) -> list[dict[str, Any]]:
    """Check a chat's messages: role and text of each; None means none.

    Raises:
        BadRequest: A wrong type, an unknown role or an image (no model here sees).
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRequest("json: cannot unmarshal messages into an array")
    if len(value) > MAX_MESSAGES:
        raise BadRequest(f"a chat may have at most {MAX_MESSAGES} messages")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not isinstance(message.get("content") or "", str):
            raise BadRequest("json: cannot unmarshal a message: role and content must be strings")
        if message.get("images"):
            raise BadRequest("this model does not support images")
        role = message["role"].lower()
        if role not in {"system", "user", "assistant", "tool"}:
            raise BadRequest(f'invalid role: {role}, must be one of ["system", "user", "assistant", "tool"]')
        messages.append({"role": role, "content": message.get("content") or ""})
    return messages


def logprob_request(body: dict[str, Any]) -> dict[str, Any]:
    """Read `logprobs` and `top_logprobs`.

    Raises:
        BadRequest: Out of range.
    """
    top = body.get("top_logprobs") or 0
    if not isinstance(top, int) or not 0 <= top <= MAX_TOP_LOGPROBS:
        raise BadRequest("top_logprobs must be between 0 and 20")
    if not body.get("logprobs"):
        return {}
    return {"logprobs": True, "top_logprobs": top}


def refuse_what_it_cannot(body: dict[str, Any], name: str, capabilities: Sequence[str]) -> None:
    """Refuse tools and thinking of a model that has neither.

    Raises:
        BadRequest: In Ollama's words.
    """
    if body.get("tools") and "tools" not in capabilities:
        raise BadRequest(f"registry.ollama.ai/library/{full_name(name)} does not support tools")
    if body.get("think") and "thinking" not in capabilities:
        raise BadRequest(f'"{name}" does not support thinking')


def metrics(final: dict[str, Any], *, started_ns: int, loaded_ns: int, now_ns: int) -> dict[str, Any]:
    """Write the child's counters as Ollama's; zeros are left out, durations are nanoseconds."""
    timings = final.get("timings") or {}
    found = {
        "total_duration": now_ns - started_ns,
        "load_duration": loaded_ns - started_ns,
        "prompt_eval_count": int(timings.get("cache_n", 0) + timings.get("prompt_n", 0)),
        "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
        "eval_count": int(timings.get("predicted_n", 0)),
        "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
    }
    return {name: value for name, value in found.items() if value}


def cut_history(messages: list[dict[str, Any]], keep: int) -> list[dict[str, Any]]:
    """Drop the oldest messages but the system's, so that `keep` others stay."""
    system = [message for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    return system + others[-keep:]
