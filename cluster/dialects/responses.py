"""OpenAI's responses, without state: each request carries the whole conversation (Ollama reference 1.10)."""

import json
from collections.abc import Sequence
from typing import Any

from cluster.dialects.answer import Ending, Head, Refusal, thinking_of
from cluster.dialects.asked import Asked
from cluster.dialects.calls import calls_in
from cluster.dialects.fields import Fields
from cluster.dialects.forced import add_tools, openais_choice
from cluster.dialects.openai import EVENT_STREAM, MAX_MESSAGES, MAX_TOKENS, PING, chat_messages, effort, sampling
from cluster.dialects.tools import MAX_TOOLS, NOT_SERVED
from cluster.errors import InvalidRequest
from cluster.jobs import EndReason, JobKind, Text

STATEFUL = ("previous_response_id", "conversation", "prompt")
ECHOED = (
    "instructions", "temperature", "top_p", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "metadata",
    "user",
)  # fmt: skip
Json = dict[str, Any]


# --- requests -------------------------------------------------------------------------------------------------------------------------


def read_response(body: Json) -> Asked:
    """Read the body of a response.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    for name in STATEFUL:
        if body.get(name):
            raise InvalidRequest(f"`{name}` is not served: nothing is kept between requests; send the whole conversation as `input`.", name)
    if fields.flag("background"):
        raise InvalidRequest("`background` is not served; use the jobs API.", "background")
    messages = chat_messages(_messages(fields))
    request: Json = {"messages": messages, "options": sampling(fields)}
    capabilities = {"completion"}
    if form := _format(fields):
        request["format"] = form
    if (think := effort(fields)) is not None:
        request["think"] = think
        capabilities |= {"thinking"} if think else set()
    if any(message.get("images") for message in messages):
        capabilities.add("vision")
    forced = add_tools(request, capabilities, _tools(fields), openais_choice(fields))
    return Asked(
        kind=JobKind.CHAT, model=fields.text("model"), request=request, max_tokens=fields.whole("max_output_tokens", 1, MAX_TOKENS),
        capabilities=frozenset(capabilities), wants_stream=fields.flag("stream"), includes_usage=True, forced=forced,
        echo={name: body[name] for name in ECHOED if body.get(name) is not None},
    )  # fmt: skip


def _messages(fields: Fields) -> list[Json]:
    """Write instructions and input as the messages of a chat."""
    messages: list[Json] = []
    if instructions := fields.text("instructions"):
        messages.append({"role": "system", "content": instructions})
    given = fields.body.get("input")
    if isinstance(given, str) and given:
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`input` must be a text or an array of items.", "input")
    for n, item in enumerate(Fields(fields.body).objects("input", MAX_MESSAGES)):
        where = f"input[{n}]"
        match item:
            case {"type": "function_call", "name": name, "call_id": id_}:
                call = {"id": id_, "type": "function", "function": {"name": name, "arguments": item.get("arguments") or "{}"}}
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case {"type": "function_call_output", "call_id": str(id_), "output": output}:
                messages.append({"role": "tool", "tool_call_id": id_, "content": output})
            case {"type": "reasoning"}:
                continue
            case {"role": _, "content": _} if item.get("type", "message") == "message":
                messages.append({"role": item["role"], "content": item["content"]})
            case _:
                raise InvalidRequest(f"`{where}` is of a kind that is not served: {str(item.get('type'))[:60]!r}.", where)
    return messages


def _tools(fields: Fields) -> list[Json]:
    tools = []
    for n, tool in enumerate(fields.objects("tools", MAX_TOOLS)):
        read = Fields(tool, f"tools[{n}]")
        if tool.get("type") != "function":
            raise InvalidRequest(f"`tools[{n}].type` {str(tool.get('type'))[:60]!r} {NOT_SERVED}.", f"tools[{n}].type")
        if not (name := read.text("name")):
            raise read.wrong("name", "the function's name")
        function = {"name": name, "description": read.text("description") or "", "parameters": read.mapping("parameters") or {}}
        tools.append({"type": "function", "function": function})
    return tools


def _format(fields: Fields) -> Any:
    form = Fields(fields.mapping("text") or {}, "text").mapping("format") or {}
    match form.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return "json"
        case "json_schema" if isinstance(form.get("schema"), dict):
            return form["schema"]
        case _:
            raise InvalidRequest('`text.format` must be of type "text", "json_object" or "json_schema" with a `schema`.', "text.format")


# --- answers --------------------------------------------------------------------------------------------------------------------------


class ResponseWriter:
    """Writes a response. A stream is a row of items: reasoning, a message, and one per call of a function."""

    media_type = EVENT_STREAM

    def __init__(self, asked: Asked, head: Head) -> None:
        self.asked, self.head = asked, head
        self.id = f"resp_{head.job}"
        self._number = 0
        self._items: list[Json] = []  # that are done
        self._open: Json | None = None
        self._texts: list[str] = []  # of the open item
        self._calls = calls_in(asked.forced, head.job)

    def _response(self, status: str, output: Sequence[Json], usage: Json | None = None, **more: Any) -> Json:
        echo = self.asked.echo
        return {
            "id": self.id, "object": "response", "created_at": self.head.created, "status": status, "model": self.head.model, "output": list(output),
            "usage": usage, "error": None, "incomplete_details": None, "store": False, "parallel_tool_calls": True, "previous_response_id": None,
            "instructions": None, "max_output_tokens": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [],
            "text": {"format": {"type": "text"}}, "truncation": "disabled",
        } | dict(echo) | more  # fmt: skip

    def _event(self, name: str, said: Json) -> bytes:
        data = json.dumps({"type": name, "sequence_number": self._number} | said)
        self._number += 1
        return f"event: {name}\ndata: {data}\n\n".encode()

    def _in(self, name: str, /, **said: Any) -> bytes:
        """Write an event about the open item."""
        assert self._open is not None
        return self._event(name, {"item_id": self._open["id"], "output_index": len(self._items), **said})

    def begin(self) -> bytes:
        """Begin a stream."""
        response = {"response": self._response("in_progress", [])}
        return self._event("response.created", response) + self._event("response.in_progress", response)

    def beat(self) -> bytes:
        """Write a comment."""
        return PING

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        said = b""
        if event.thinking:
            said += self._begin("reasoning", {"summary": []})
            said += self._in("response.reasoning_summary_text.delta", summary_index=0, delta=event.thinking)
            self._texts.append(event.thinking)
        content, pieces = self._calls.take(event)
        said += self._said(content)
        for piece in pieces:
            if piece.begins:
                said += self._close()
                said += self._begin("function_call", {"call_id": piece.id, "name": piece.name, "arguments": ""})
            said += self._in("response.function_call_arguments.delta", delta=piece.arguments)
            self._texts.append(piece.arguments)
        return said

    def _said(self, content: str) -> bytes:
        if not content:
            return b""
        said = self._begin("message", {"role": "assistant", "content": []})
        self._texts.append(content)
        return said + self._in("response.output_text.delta", content_index=0, delta=content, logprobs=[])

    def _begin(self, kind: str, more: Json) -> bytes:
        if self._open is not None and self._open["type"] == kind:
            return b""
        said = self._close()
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
        self._open = {"id": f"{prefix}_{self.head.job}_{len(self._items)}", "type": kind, "status": "in_progress", **more}
        said += self._event("response.output_item.added", {"output_index": len(self._items), "item": self._open})
        if kind == "message":
            said += self._in("response.content_part.added", content_index=0, part=_text_part(""))
        elif kind == "reasoning":
            said += self._in("response.reasoning_summary_part.added", summary_index=0, part=_summary_part(""))
        return said

    def _close(self, status: str = "completed") -> bytes:
        if self._open is None:
            return b""
        text = "".join(self._texts)
        match self._open["type"]:
            case "message":
                part = _text_part(text)
                said = self._in("response.output_text.done", content_index=0, text=text, logprobs=[])
                said += self._in("response.content_part.done", content_index=0, part=part)
                done = self._open | {"content": [part]}
            case "reasoning":
                said = self._in("response.reasoning_summary_text.done", summary_index=0, text=text)
                said += self._in("response.reasoning_summary_part.done", summary_index=0, part=_summary_part(text))
                done = self._open | {"summary": [_summary_part(text)]}
            case _:
                said = self._in("response.function_call_arguments.done", arguments=text, name=self._open["name"])
                done = self._open | {"arguments": text}
        done["status"] = status
        said += self._event("response.output_item.done", {"output_index": len(self._items), "item": done})
        self._items.append(done)
        self._open, self._texts = None, []
        return said

    def end(self, ending: Ending) -> bytes:
        """Write the end: completed, or incomplete at the limit."""
        said = self._said(self._calls.rest())
        said += self._close(_status(ending))
        response = self._ended(self._items, ending)
        return said + self._event(f"response.{response['status']}", {"response": response})

    def fail(self, refusal: Refusal) -> bytes:
        """Write the end of a stream that broke off."""
        error = {"code": refusal.code, "message": refusal.detail}
        items = [*self._items, *([self._open | {"status": "incomplete"}] if self._open else [])]
        return self._event("response.failed", {"response": self._response("failed", items, error=error)})

    def whole(self, texts: Sequence[Text], ending: Ending) -> Json:
        """Write a whole answer."""
        items: list[Json] = []

        def add(prefix: str, kind: str, **more: Any) -> None:
            items.append({"id": f"{prefix}_{self.head.job}_{len(items)}", "type": kind, "status": "completed", **more})

        if thinking := thinking_of(texts):
            add("rs", "reasoning", summary=[_summary_part(thinking)])
        said, calls = self._calls.whole(texts)
        if said:
            add("msg", "message", role="assistant", content=[_text_part(said)])
        for call in calls:
            add("fc", "function_call", call_id=call.id, name=call.name, arguments=call.arguments)
        if items:
            items[-1]["status"] = _status(ending)
        return self._ended(items, ending)

    def _ended(self, items: Sequence[Json], ending: Ending) -> Json:
        usage: Json = {
            "input_tokens": ending.prompt_tokens, "output_tokens": ending.completion_tokens,
            "total_tokens": ending.prompt_tokens + ending.completion_tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        if ending.cost is not None:
            usage |= {"cost": ending.cost, "job": self.head.job, "counted_by": ending.counted_by}
        if (status := _status(ending)) == "incomplete":
            return self._response(status, items, usage, incomplete_details={"reason": "max_output_tokens"})
        return self._response(status, items, usage)


def _status(ending: Ending) -> str:
    """Tell how a response ended; so did the item that was being written."""
    return "incomplete" if ending.reason is EndReason.LENGTH else "completed"


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary_part(text: str) -> Json:
    return {"type": "summary_text", "text": text}
