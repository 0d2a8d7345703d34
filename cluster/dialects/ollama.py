"""Ollama's chat, generate and embeddings, as the public API speaks them (Ollama reference 1.3 to 1.5).

Consumers move no models: runner keys, `keep_alive`, `shift` and `truncate` of chats are checked, then left out.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cluster.dialects.answer import Ending, Head, Refusal, WholeWriter, content_of, thinking_of
from cluster.dialects.asked import Asked
from cluster.dialects.fields import Fields
from cluster.dialects.openai import MAX_INPUTS, MAX_MESSAGES, MAX_STOPS, MAX_TOKENS
from cluster.dialects.tools import MAX_IMAGES, called, calls_of, checked_base64, function_tools
from cluster.errors import InvalidRequest, ModelUnavailable
from cluster.jobs import JobKind, Text
from cluster.runtime.dialect import BadRequest, keep_alive_s

VERSION = "0.32.15"  # the Ollama whose contract is kept
ROLES = ("system", "user", "assistant", "tool")
NUMBERS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
WHOLE_NUMBERS = ("top_k", "seed", "repeat_last_n", "num_keep")
LARGEST = 2**31 - 1
LEVELS = ("low", "medium", "high", "max")
MAX_TOP_LOGPROBS = 20
NDJSON = "application/x-ndjson"


# --- requests -------------------------------------------------------------------------------------------------------------------------


def keep_alive_of(body: dict[str, Any]) -> float | None:
    """Read `keep_alive` in seconds.

    Raises:
        InvalidRequest: It is no duration.
    """
    try:
        return keep_alive_s(body.get("keep_alive"))
    except BadRequest as wrong:
        raise InvalidRequest(wrong.text, "keep_alive") from wrong


def read_chat(body: dict[str, Any]) -> Asked:
    """Read the body of `/api/chat`.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    messages = [_message(message, f"messages[{n}]") for n, message in enumerate(fields.objects("messages", MAX_MESSAGES))]
    request: dict[str, Any] = {"messages": messages}
    capabilities = {"completion"}
    if tools := function_tools(fields):
        request["tools"] = tools
        capabilities.add("tools")
    count = sum(len(message.get("images", ())) for message in messages)
    return _asked(fields, JobKind.CHAT, request, capabilities, count)


def read_generate(body: dict[str, Any]) -> Asked:
    """Read the body of `/api/generate`.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    _require_named(body)
    request: dict[str, Any] = {"prompt": fields.text("prompt") or ""}
    capabilities = {"completion"}
    if body.get("context"):
        raise InvalidRequest("`context` is not served; send the whole conversation to /api/chat.", "context")
    for name in ("system", "template", "suffix"):
        if said := fields.text(name):
            request[name] = said
    if fields.flag("raw"):
        if "system" in request or "template" in request:
            raise InvalidRequest("raw mode does not support template, system, or context", "raw")
        request["raw"] = True
    if "suffix" in request:
        capabilities.add("insert")
    images = _images(body.get("images"), "images")
    if images:
        request["images"] = images
    return _asked(fields, JobKind.GENERATE, request, capabilities, len(images))


def read_embed(body: dict[str, Any]) -> Asked:
    """Read the body of `/api/embed`.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("invalid input type", "input")
    if len(texts) > MAX_INPUTS:
        raise fields.wrong("input", f"a string or at most {MAX_INPUTS} strings")
    request: dict[str, Any] = {"input": texts, "truncate": fields.flag("truncate", usual=True)}
    if dimensions := fields.whole("dimensions", 1, 65_536):
        request["dimensions"] = dimensions
    return _embedding(fields, request)


def read_embeddings(body: dict[str, Any]) -> Asked:
    """Read the body of the older `/api/embeddings`: one prompt.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    return _embedding(fields, {"input": [fields.text("prompt") or ""], "truncate": True})


def _embedding(fields: Fields, request: dict[str, Any]) -> Asked:
    keep_alive_of(fields.body)
    model = _model(fields)
    return Asked(kind=JobKind.EMBED, model=model, request=request, max_tokens=1, capabilities=frozenset({"embedding"}))


def _asked(fields: Fields, kind: JobKind, request: dict[str, Any], capabilities: set[str], images: int) -> Asked:
    """Read what chat and generate have in common."""
    keep_alive_of(fields.body)
    options = Fields(fields.mapping("options") or {}, "options")
    if chosen := _sampling(options):
        request["options"] = chosen
    if images > MAX_IMAGES:
        raise InvalidRequest(f"A request may carry at most {MAX_IMAGES} images.", "images")
    if images:
        capabilities.add("vision")
    form = fields.body.get("format")
    if form not in (None, ""):
        if form != "json" and not isinstance(form, dict):
            raise InvalidRequest(f'invalid format: {str(form)[:60]!r}; expected "json" or a valid JSON Schema object', "format")
        request["format"] = form
    think = fields.body.get("think")
    if think is not None:
        if not isinstance(think, bool) and think not in LEVELS:
            raise fields.wrong("think", f"true, false or one of {', '.join(LEVELS)}")
        request["think"] = think
        capabilities |= {"thinking"} if think else set()
    top = fields.body.get("top_logprobs") or 0
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}", "top_logprobs")
    if fields.flag("logprobs"):
        request |= {"logprobs": True, "top_logprobs": top}
    return Asked(
        kind=kind, model=_model(fields), request=request, max_tokens=_limit(options), capabilities=frozenset(capabilities),
        wants_stream=fields.flag("stream", usual=True), includes_usage=True,
    )  # fmt: skip


def _model(fields: Fields) -> str:
    if not (model := fields.text("model")):
        raise InvalidRequest("model is required", "model")
    return model


def _require_named(body: dict[str, Any]) -> None:
    """A generation without a model is one of a model without a name: so Ollama says."""
    if not body.get("model"):
        raise ModelUnavailable("", ())


def _limit(options: Fields) -> int | None:
    """Read `num_predict`: a negative one means until the model stops, which is as many tokens as usual here."""
    limit = options.whole("num_predict", -LARGEST, MAX_TOKENS)
    if limit == 0:
        raise options.wrong("num_predict", "at least 1, or -1 for as many as usual")
    return limit if limit is not None and limit > 0 else None


def _sampling(options: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {name: options.number(name, -LARGEST, LARGEST) for name in NUMBERS}
    found |= {name: options.whole(name, -LARGEST, LARGEST) for name in WHOLE_NUMBERS}
    found["stop"] = options.texts("stop", MAX_STOPS)
    return {name: value for name, value in found.items() if value is not None}


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    fields = Fields(message, where)
    role = (fields.text("role") or "").lower()
    if role not in ROLES:
        raise InvalidRequest(f"invalid role: {role[:60]}, must be one of {json.dumps(ROLES)}", f"{where}.role")
    read: dict[str, Any] = {"role": role, "content": fields.text("content") or ""}
    for name in ("thinking", "tool_name", "tool_call_id"):
        if said := fields.text(name):
            read[name] = said
    if images := _images(message.get("images"), f"{where}.images"):
        read["images"] = images
    calls = fields.objects("tool_calls", MAX_MESSAGES)
    for n, call in enumerate(calls):
        place = f"{where}.tool_calls[{n}]"
        function = Fields(call, place).mapping("function") or {}
        read.setdefault("tool_calls", []).append(called(function.get("name"), function.get("arguments"), call.get("id"), place))
    return read


def _images(value: Any, where: str) -> list[str]:
    if value in (None, []):
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"`{where}` must be an array of base64 texts.", where)
    return [checked_base64(image, f"{where}[{n}]") for n, image in enumerate(value)]


# --- answers --------------------------------------------------------------------------------------------------------------------------


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Write an error, a missing model in Ollama's words, and what we have to say beside it."""
    text = f"model '{refusal.more['model']}' not found" if refusal.code == "model_not_found" else refusal.detail
    return {"error": text, **refusal.more}


def time_text(moment: datetime) -> str:
    """Write a time as Ollama does."""
    return moment.isoformat().replace("+00:00", "Z")


# What an empty request means is to load the model, with `keep_alive` 0 to unload it: there is nothing for a consumer to move, so it is
# answered as if it were done. Each answers the model's name and the answer; None: the request is not empty.

Moved = tuple[str, dict[str, Any]] | None


def moved_chat(body: dict[str, Any], now: datetime) -> Moved:
    """Answer a chat without messages."""
    return None if body.get("messages") else _moved(body, now, {"message": {"role": "assistant", "content": ""}})


def moved_generate(body: dict[str, Any], now: datetime) -> Moved:
    """Answer a generation without a prompt."""
    _require_named(body)
    return None if body.get("prompt") else _moved(body, now, {"response": ""})


def moved_embed(body: dict[str, Any], now: datetime) -> Moved:
    """Answer a request to embed nothing."""
    model = _model(Fields(body))
    return None if body.get("input") else (model, {"model": model, "embeddings": []})


def moved_embeddings(body: dict[str, Any], now: datetime) -> Moved:
    """Answer the older request to embed nothing."""
    return None if body.get("prompt") else (_model(Fields(body)), {"embedding": []})


def _moved(body: dict[str, Any], now: datetime, shape: dict[str, Any]) -> Moved:
    model, reason = _model(Fields(body)), "unload" if keep_alive_of(body) == 0 else "load"
    return model, {"model": model, "created_at": time_text(now), **shape, "done": True, "done_reason": reason}


class _Lines:
    """What chats and generations have in common: lines of JSON, never an empty one."""

    media_type = NDJSON

    def __init__(self, asked: Asked, head: Head) -> None:
        self.asked, self.head = asked, head

    def begin(self) -> bytes:
        return b""

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        return self._line(self._said([event]) | {"done": False})

    def beat(self) -> bytes:
        """Write a piece without text: Ollama's clients know no other sign of life."""
        return self._line(self._said([]) | {"done": False})

    def end(self, ending: Ending) -> bytes:
        """Write the last line."""
        return self._line(self._said([]) | self._ended(ending))

    def fail(self, refusal: Refusal) -> bytes:
        """Write the line that ends a stream that broke off."""
        return json.dumps(error_body(refusal)).encode() + b"\n"

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write a whole answer."""
        return self._front() | self._said(texts) | self._ended(ending)

    def _front(self) -> dict[str, Any]:
        return {"model": self.head.model, "created_at": time_text(self.head.now())}

    def _line(self, said: dict[str, Any]) -> bytes:
        return json.dumps(self._front() | said).encode() + b"\n"

    def _said(self, texts: Sequence[Text]) -> dict[str, Any]:
        raise NotImplementedError

    def _ended(self, ending: Ending) -> dict[str, Any]:
        said = {
            "done": True, "done_reason": ending.reason.value, "total_duration": ending.total_ns, "prompt_eval_count": ending.prompt_tokens,
            "prompt_eval_duration": ending.first_ns, "eval_count": ending.completion_tokens,
            "eval_duration": max(0, ending.total_ns - ending.first_ns),
        }  # fmt: skip
        said = {name: value for name, value in said.items() if value}
        return said if ending.cost is None else said | {"gfe": _paid(self.head, ending)}


def _paid(head: Head, ending: Ending) -> dict[str, Any]:
    return {"job": head.job, "cost": ending.cost, "counted_by": ending.counted_by}


def _logprobs(texts: Sequence[Text]) -> dict[str, Any]:
    found = [one for text in texts for one in text.logprobs]
    return {"logprobs": found} if found else {}


class ChatWriter(_Lines):
    """Writes a chat."""

    def __init__(self, asked: Asked, head: Head) -> None:
        super().__init__(asked, head)
        self._calls = 0  # that were told in earlier pieces

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        line = super().text(event)
        self._calls += len(event.tool_calls)
        return line

    def _said(self, texts: Sequence[Text]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content_of(texts)}
        if thinking := thinking_of(texts):
            message["thinking"] = thinking
        calls: list[dict[str, Any]] = []
        for text in texts:
            calls += calls_of(text, self._calls + len(calls))
        if calls:
            message["tool_calls"] = [
                {"id": call["id"], "function": {"index": call["index"], "name": call["name"], "arguments": call["arguments"]}}
                for call in calls
            ]
        return {"message": message} | _logprobs(texts)


class GenerateWriter(_Lines):
    """Writes a generation."""

    def _said(self, texts: Sequence[Text]) -> dict[str, Any]:
        said: dict[str, Any] = {"response": content_of(texts)}
        if thinking := thinking_of(texts):
            said["thinking"] = thinking
        return said | _logprobs(texts)


class EmbedWriter(WholeWriter):
    """Writes the answer of `/api/embed`."""

    def __init__(self, asked: Asked, head: Head) -> None:
        self.asked, self.head = asked, head

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write the vectors."""
        said = {
            "model": self.head.model, "embeddings": [vector for text in texts for vector in text.embeddings], "total_duration": ending.total_ns,
            "prompt_eval_count": ending.prompt_tokens,
        }  # fmt: skip
        return said if ending.cost is None else said | {"gfe": _paid(self.head, ending)}


class OneEmbeddingWriter(EmbedWriter):
    """Writes the answer of the older `/api/embeddings`."""

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write the vector."""
        said = super().whole(texts, ending)
        return {"embedding": next(iter(said["embeddings"]), [])} | ({"gfe": said["gfe"]} if "gfe" in said else {})
