"""Anthropic's messages (Ollama reference 1.11)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.dialects.answer import Ending, Head, Refusal, thinking_of
from cluster.dialects.asked import Asked
from cluster.dialects.calls import calls_in, object_of
from cluster.dialects.fields import Fields
from cluster.dialects.forced import add_tools, anthropics_choice
from cluster.dialects.openai import EFFORTS, EVENT_STREAM, MAX_MESSAGES, MAX_STOPS, MAX_TOKENS, named_results
from cluster.dialects.tools import IMAGE_TYPES, MAX_IMAGES, MAX_TOOLS, NOT_SERVED, called, checked_base64
from cluster.errors import InvalidRequest
from cluster.jobs import EndReason, JobKind, Text
from cluster.prompt_size import most_tokens

BYTES_PER_TOKEN = 4  # of usual text: an estimate, where nobody has counted yet
ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
ENDS = {EndReason.LENGTH: "max_tokens"}
Json = dict[str, Any]


# --- requests -------------------------------------------------------------------------------------------------------------------------


def read_messages(body: Json) -> Asked:
    """Read the body of a message.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] is True or body["max_tokens"] <= 0:
        raise InvalidRequest("max_tokens is required and must be positive", "max_tokens")
    request, capabilities, forced = conversation(fields)
    options: Json = {
        "temperature": 1.0 if (told := fields.number("temperature", 0, 2)) is None else told,
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.whole("top_k", 0, 1_000_000),
        "stop": fields.texts("stop_sequences", MAX_STOPS),
    }
    request["options"] = {name: value for name, value in options.items() if value is not None}
    if (form := _format(fields)) is not None and not forced:
        request["format"] = form
    wants_stream = fields.flag("stream")
    return Asked(
        kind=JobKind.CHAT, model=fields.text("model"), request=request, max_tokens=fields.whole("max_tokens", 1, MAX_TOKENS),
        capabilities=capabilities, wants_stream=wants_stream, includes_usage=True, forced=forced,
        echo={"estimate": estimate(request)},
    )  # fmt: skip


def conversation(fields: Fields) -> tuple[Json, frozenset[str], tuple[str, ...]]:
    """Read what the model is to read: system, messages, tools, and whether it thinks; what it must be able to do, and what it must call.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    given = fields.objects("messages", MAX_MESSAGES)
    if not given:
        raise InvalidRequest("messages: at least one message is required", "messages")
    messages: list[Json] = []
    if system := _joined(fields.body.get("system"), "system"):
        messages.append({"role": "system", "content": system})
    for n, message in enumerate(given):
        messages += _messages(message, f"messages[{n}]")
    request: Json = {"messages": named_results(messages)}
    capabilities = {"completion"}
    images = sum(len(message.get("images", ())) for message in messages)
    if images > MAX_IMAGES:
        raise InvalidRequest(f"`messages` may carry at most {MAX_IMAGES} images.", "messages")
    if images:
        capabilities.add("vision")
    if (think := _thinks(fields)) is not None:
        request["think"] = think
        capabilities |= {"thinking"} if think else set()
    forced = add_tools(request, capabilities, _tools(fields), anthropics_choice(fields))
    return request, frozenset(capabilities), forced


def _thinks(fields: Fields) -> bool | str | None:
    """Read whether the model is to think, and how much, as OpenAI's effort is read; None: as it likes.

    A model that thinks does so unless it is told not to. One that does not ignores a wish for thoughts; an effort it must be able to make.
    """
    wish = Fields(fields.mapping("thinking") or {}, "thinking").choice("type", "enabled", "disabled", "adaptive")
    effort = Fields(fields.mapping("output_config") or {}, "output_config").choice("effort", *EFFORTS)
    if effort is not None and wish != "disabled":
        return EFFORTS[effort]
    return False if wish in {None, "disabled"} else None


def estimate(request: Json) -> int:
    """Estimate the tokens of a prompt that nobody has counted."""
    return max(1, most_tokens(request) // BYTES_PER_TOKEN)


def _tools(fields: Fields) -> list[Json]:
    tools = []
    for n, tool in enumerate(fields.objects("tools", MAX_TOOLS)):
        read = Fields(tool, f"tools[{n}]")
        if (kind := read.text("type")) not in (None, "custom"):
            raise InvalidRequest(f"`tools[{n}].type` {str(kind)[:60]!r} {NOT_SERVED}.", f"tools[{n}].type")
        if not (name := read.text("name")):
            raise read.wrong("name", "the tool's name")
        function = {"name": name, "description": read.text("description") or "", "parameters": read.mapping("input_schema") or {}}
        tools.append({"type": "function", "function": function})
    return tools


def _format(fields: Fields) -> Json | None:
    """Read `output_config.format`, or its older name: None or a JSON schema."""
    form = Fields(fields.mapping("output_config") or {}, "output_config").mapping("format") or fields.mapping("output_format")
    if form is None:
        return None
    schema = Fields(form, "output_config.format").mapping("schema")
    if form.get("type") != "json_schema" or schema is None:
        raise InvalidRequest('`output_config.format` must be of type "json_schema" with a `schema`.', "output_config.format")
    return schema


def _joined(value: Any, where: str) -> str:
    """Read a text, or blocks of text."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(block, dict) and isinstance(block.get("text"), str) for block in value):
        return "\n".join(block["text"] for block in value)
    raise InvalidRequest(f"`{where}` must be a string or an array of text blocks.", where)


def _messages(message: Json, where: str) -> Iterator[Json]:
    """Read one message; each tool's result becomes one of its own, as Ollama wants it."""
    role, content = message.get("role"), message.get("content")
    if role not in {"user", "assistant"}:
        raise InvalidRequest(f'`{where}.role` must be "user" or "assistant".', f"{where}.role")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise InvalidRequest(f"`{where}.content` must be a string or an array of blocks.", f"{where}.content")
    said: Json = {"role": role, "content": ""}
    texts: list[str] = []
    for n, block in enumerate(content):
        place = f"{where}.content[{n}]"
        match block:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "thinking", "thinking": str(thought)}:
                said["thinking"] = said.get("thinking", "") + thought
            case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": data}} if kind in _IMAGES:
                said.setdefault("images", []).append(checked_base64(data, place))
            case {"type": "tool_use", "name": name, "input": given}:
                said.setdefault("tool_calls", []).append(called(name, given, block.get("id"), place))
            case {"type": "tool_result", "tool_use_id": str(id_)}:
                yield {"role": "tool", "content": _joined(block.get("content"), f"{place}.content"), "tool_call_id": id_}
            case _:
                raise InvalidRequest(f"`{place}` is of a kind that is not served: {str(block.get('type'))[:60]!r}.", place)
    said["content"] = "\n".join(texts)
    if texts or len(said) > 2 or not content:
        yield said


_IMAGES = {f"image/{kind}" for kind in IMAGE_TYPES}


# --- answers --------------------------------------------------------------------------------------------------------------------------


def error_body(refusal: Refusal, request_id: str | None = None) -> Json:
    """Write an error."""
    error = {"type": ERROR_TYPES.get(refusal.status, "api_error"), "message": refusal.detail, "code": refusal.code, **refusal.more}
    return {"type": "error", "error": error, "request_id": request_id}


def model_row(name: str, created: str) -> Json:
    """Write a model of the list."""
    return {"type": "model", "id": name, "display_name": name, "created_at": created}


def _event(name: str, said: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | said)}\n\n".encode()


class MessageWriter:
    """Writes a message. A stream is a row of blocks: of thinking, of text, and one per call of a tool."""

    media_type = EVENT_STREAM

    def __init__(self, asked: Asked, head: Head) -> None:
        self.asked, self.head = asked, head
        self._block = -1
        self._kind: str | None = None
        self._calls = calls_in(asked.forced, head.job)

    def _message(self, content: list[Json], stop_reason: str | None, usage: Json) -> Json:
        return {
            "id": f"msg_{self.head.job}", "type": "message", "role": "assistant", "model": self.head.model, "content": content,
            "stop_reason": stop_reason, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def begin(self) -> bytes:
        """Begin a stream; how many tokens were read is an estimate here."""
        usage = {"input_tokens": self.asked.echo["estimate"], "output_tokens": 0}
        return _event("message_start", {"message": self._message([], None, usage)})

    def beat(self) -> bytes:
        """Write a ping."""
        return _event("ping", {})

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        said = b""
        if event.thinking:
            said += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            said += self._delta({"type": "thinking_delta", "thinking": event.thinking})
        content, pieces = self._calls.take(event)
        said += self._said(content)
        for piece in pieces:
            said += self._open(f"tool {piece.index}", {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}})
            said += self._delta({"type": "input_json_delta", "partial_json": piece.arguments})
        return said

    def _said(self, content: str) -> bytes:
        if not content:
            return b""
        return self._open("text", {"type": "text", "text": ""}) + self._delta({"type": "text_delta", "text": content})

    def _open(self, kind: str, block: Json) -> bytes:
        if self._kind == kind:
            return b""
        said = self._close()
        self._kind = kind
        self._block += 1
        return said + _event("content_block_start", {"index": self._block, "content_block": block})

    def _close(self) -> bytes:
        return _event("content_block_stop", {"index": self._block}) if self._kind else b""

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", {"index": self._block, "delta": delta})

    def end(self, ending: Ending) -> bytes:
        """Write the end."""
        stop = {"stop_reason": self._reason(ending), "stop_sequence": None}
        said = self._said(self._calls.rest()) + self._close()
        return said + _event("message_delta", {"delta": stop, "usage": self._usage(ending)}) + _event("message_stop", {})

    def fail(self, refusal: Refusal) -> bytes:
        """Write the error that ends a stream that broke off."""
        said = error_body(refusal, self.head.job)
        return f"event: error\ndata: {json.dumps(said)}\n\n".encode()

    def whole(self, texts: Sequence[Text], ending: Ending) -> Json:
        """Write a whole answer."""
        content: list[Json] = []
        if thinking := thinking_of(texts):
            content.append({"type": "thinking", "thinking": thinking, "signature": ""})
        said, calls = self._calls.whole(texts)
        if said:
            content.append({"type": "text", "text": said})
        content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": object_of(call.arguments)} for call in calls]
        return self._message(content, self._reason(ending), self._usage(ending))

    def _reason(self, ending: Ending) -> str:
        return ENDS.get(ending.reason) or ("tool_use" if self._calls.begun else "end_turn")

    def _usage(self, ending: Ending) -> Json:
        usage: Json = {"input_tokens": ending.prompt_tokens, "output_tokens": ending.completion_tokens}
        return usage if ending.cost is None else usage | {"cost": ending.cost, "job": self.head.job, "counted_by": ending.counted_by}
