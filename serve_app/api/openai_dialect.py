"""OpenAI's chat dialect: its requests into ours, our events into its answers. Pure (Ollama reference 1.10)."""

import hashlib
import json
from typing import Any

from cluster.jobs import EndReason, JobKind, Text
from ledger.client import credits_text
from serve_app.api.bodies import Fields
from serve_app.errors import InvalidRequest
from serve_app.job import Finished, JobRequest

MAX_MESSAGES = 256
MAX_STOPS = 16
MAX_TOKENS = 1_000_000
ROLES = {"system", "developer", "user", "assistant", "tool"}
MESSAGE_OVERHEAD = 32  # bytes that a template may add per message


def chat_request(body: dict[str, Any], *, default_model: str, default_max_tokens: int, idempotency_key: str | None) -> JobRequest:
    """Read a chat completion's body.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    _refuse_what_is_not_served(fields)
    messages = chat_messages(body.get("messages"))
    max_tokens = fields.whole("max_completion_tokens", 1, MAX_TOKENS) or fields.whole("max_tokens", 1, MAX_TOKENS) or default_max_tokens
    request: dict[str, Any] = {"messages": messages, "options": sampling(fields)}
    capabilities = {"completion"}
    if form := response_format(fields):
        request["format"] = form
    if tools := body.get("tools"):
        if not isinstance(tools, list):
            raise InvalidRequest("`tools` must be an array.", "tools")
        if body.get("tool_choice") != "none":
            request["tools"] = tools
            capabilities.add("tools")
    if fields.flag("logprobs"):
        request |= {"logprobs": True, "top_logprobs": fields.whole("top_logprobs", 0, 20) or 0}
    return JobRequest(
        kind=JobKind.CHAT, model=fields.text("model") or default_model, request=request, max_tokens=max_tokens,
        prompt_bytes=sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in messages) + MESSAGE_OVERHEAD,
        capabilities=frozenset(capabilities), idempotency_key=idempotency_key,
        digest=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() if idempotency_key else None,
    )  # fmt: skip


def _refuse_what_is_not_served(fields: Fields) -> None:
    if (fields.whole("n", 1, 128) or 1) > 1:
        raise InvalidRequest("`n` must be 1: one answer per request.", "n")
    choice = fields.body.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise InvalidRequest('`tool_choice` may be "auto" or "none": a tool cannot be forced.', "tool_choice")


def chat_messages(value: Any) -> list[dict[str, Any]]:
    """Read the messages: text only, parts joined."""
    if not isinstance(value, list):
        raise InvalidRequest("`messages` must be an array of messages.", "messages")
    if not value:
        raise InvalidRequest("[] is too short - 'messages'", "messages")
    if len(value) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` may have at most {MAX_MESSAGES} elements.", "messages")
    return [_message(message, n) for n, message in enumerate(value)]


def _message(message: Any, n: int) -> dict[str, Any]:
    where = f"messages[{n}]"
    if not isinstance(message, dict):
        raise InvalidRequest(f"`{where}` must be an object with role and content.", where)
    role = message.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"`{where}.role` must be one of {', '.join(sorted(ROLES))}.", f"{where}.role")
    read: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": _content(message, where)}
    if isinstance(message.get("tool_calls"), list):
        read["tool_calls"] = message["tool_calls"]
    if isinstance(message.get("tool_call_id"), str):
        read["tool_call_id"] = message["tool_call_id"]
    return read


def _content(message: dict[str, Any], where: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message.get("tool_calls"):
        return ""
    if isinstance(content, list):
        return "\n".join(_part(part, f"{where}.content[{n}]") for n, part in enumerate(content))
    raise InvalidRequest(f"`{where}.content` must be a string or an array of text parts.", f"{where}.content")


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InvalidRequest(f"`{where}` is not a text part; images and sound are not served yet.", where)


def sampling(fields: Fields) -> dict[str, Any]:
    """Read the sampling options; OpenAI's defaults differ from Ollama's and are sent explicitly."""
    found = {
        "temperature": fields.number("temperature", 0, 2),
        "top_p": fields.number("top_p", 0, 1),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "seed": fields.whole("seed", -(2**31), 2**31 - 1),
    }
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0} | {name: value for name, value in found.items() if value is not None}
    stop = fields.body.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops) or len(stops) > MAX_STOPS:
            raise InvalidRequest(f"`stop` must be a string or at most {MAX_STOPS} strings.", "stop")
        options["stop"] = stops
    return options


def response_format(fields: Fields) -> Any:
    """Read `response_format`: None, "json" or a JSON schema."""
    form = fields.mapping("response_format") or {}
    match form.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            schema = (form.get("json_schema") or {}).get("schema") if isinstance(form.get("json_schema"), dict) else None
            if not isinstance(schema, dict):
                raise InvalidRequest("`response_format.json_schema.schema` must be an object.", "response_format")
            return schema
        case _:
            raise InvalidRequest('`response_format.type` must be "text", "json_object" or "json_schema".', "response_format")


# --- answers --------------------------------------------------------------------------------------------------------------------------


def usage(finished: Finished, job: str) -> dict[str, Any]:
    """Write the usage: OpenAI's counts, and what it cost."""
    return {
        "prompt_tokens": finished.prompt_tokens, "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens, "cost": credits_text(finished.cost), "job": job,
        "counted_by": finished.counted_by,
    }  # fmt: skip


def finish_reason(finished: Finished, *, has_tools: bool) -> str:
    """Write the reason of the end."""
    if finished.reason is EndReason.LENGTH:
        return "length"
    return "tool_calls" if has_tools else "stop"


def tool_calls(event: Text) -> list[dict[str, Any]]:
    """Write tool calls: OpenAI wants the arguments as text."""
    calls = []
    for n, call in enumerate(event.tool_calls):
        function = dict(call.get("function") or {})
        function["arguments"] = json.dumps(function.get("arguments") or {})
        calls.append({"index": n, "id": call.get("id") or f"call_{n}", "type": "function", "function": function})
    return calls


def completion(job: str, model: str, created: int, events: list[Text], finished: Finished) -> dict[str, Any]:
    """Write a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(event.content for event in events)}
    if thinking := "".join(event.thinking for event in events):
        message["reasoning"] = thinking
    if calls := [call for event in events for call in tool_calls(event)]:
        message["tool_calls"] = calls
    return {
        "id": f"chatcmpl-{job}", "object": "chat.completion", "created": created, "model": model, "system_fingerprint": "gfe",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(finished, has_tools=bool(calls)), "logprobs": None}],
        "usage": usage(finished, job),
    }  # fmt: skip


class ChunkWriter:
    """Writes the chunks of one stream; the parts that never change are written once."""

    def __init__(self, job: str, model: str, created: int, *, includes_usage: bool) -> None:
        head = {"id": f"chatcmpl-{job}", "object": "chat.completion.chunk", "created": created, "model": model, "system_fingerprint": "gfe"}
        self._head = b"data: " + json.dumps(head).encode()[:-1] + b', "choices": '
        self._tail = b', "usage": null}\n\n' if includes_usage else b"}\n\n"
        self._job = job
        self._includes_usage = includes_usage
        self._has_role = False
        self._has_tools = False

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        delta: dict[str, Any] = {} if self._has_role else {"role": "assistant"}
        self._has_role = True
        delta["content"] = event.content
        if event.thinking:
            delta["reasoning"] = event.thinking
        if event.tool_calls:
            self._has_tools = True
            delta["tool_calls"] = tool_calls(event)
        return self._head + json.dumps([{"index": 0, "delta": delta, "finish_reason": None}]).encode() + self._tail

    def end(self, finished: Finished) -> bytes:
        """Write the end: the reason, the usage where it was asked for, and `[DONE]`."""
        reason = finish_reason(finished, has_tools=self._has_tools)
        said = self._head + json.dumps([{"index": 0, "delta": {}, "finish_reason": reason}]).encode() + self._tail
        if self._includes_usage:
            said += self._head + b'[], "usage": ' + json.dumps(usage(finished, self._job)).encode() + b"}\n\n"
        return said + b"data: [DONE]\n\n"
