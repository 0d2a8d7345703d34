"""OpenAI's chat completions, completions and embeddings (Ollama reference 1.10)."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

from cluster.dialects.answer import Ending, Head, Refusal, WholeWriter, content_of, thinking_of
from cluster.dialects.asked import Asked
from cluster.dialects.calls import CallPiece, calls_in
from cluster.dialects.fields import Fields
from cluster.dialects.forced import add_tools, openais_choice
from cluster.dialects.tools import MAX_IMAGES, called, function_tools, image_of
from cluster.errors import InvalidRequest
from cluster.jobs import EndReason, JobKind, Text

MAX_MESSAGES = 1024
MAX_STOPS = 16
MAX_TOKENS = 1_000_000
MAX_INPUTS = 2048
MAX_METADATA = 16
ROLES = {"system", "developer", "user", "assistant", "tool"}
EFFORTS: dict[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "max", "ultra": "max",
}  # fmt: skip
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream; charset=utf-8"


# --- requests -------------------------------------------------------------------------------------------------------------------------


def read_chat(body: dict[str, Any]) -> Asked:
    """Read the body of a chat completion.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    _refuse_what_is_not_served(fields)
    messages = chat_messages(body.get("messages"))
    request: dict[str, Any] = {"messages": messages, "options": sampling(fields)}
    capabilities = {"completion"}
    if form := response_format(fields):
        request["format"] = form
    if any(message.get("images") for message in messages):
        capabilities.add("vision")
    if (think := effort(fields)) is not None:
        request["think"] = think
        capabilities |= {"thinking"} if think else set()
    if fields.flag("logprobs"):
        request |= {"logprobs": True, "top_logprobs": fields.whole("top_logprobs", 0, 20) or 0}
    forced = add_tools(request, capabilities, function_tools(fields), openais_choice(fields))
    return _asked(fields, JobKind.CHAT, request, capabilities, forced)


def read_completion(body: dict[str, Any]) -> Asked:
    """Read the body of a completion: one prompt.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    _refuse_what_is_not_served(fields)
    for name in ("best_of", "echo"):
        if body.get(name) not in (None, False, 1):
            raise InvalidRequest(f"`{name}` is not served.", name)
    prompts = fields.texts("prompt", 1)
    if not prompts or not prompts[0]:
        raise InvalidRequest("`prompt` must be one text that is not empty.", "prompt")
    request: dict[str, Any] = {"prompt": prompts[0], "options": sampling(fields)}
    capabilities = {"completion"}
    if suffix := fields.text("suffix"):
        request["suffix"] = suffix
        capabilities.add("insert")
    if (logprobs := fields.whole("logprobs", 0, 20)) is not None:
        request |= {"logprobs": True, "top_logprobs": logprobs}
    return _asked(fields, JobKind.GENERATE, request, capabilities)


def read_embeddings(body: dict[str, Any]) -> Asked:
    """Read the body of an embeddings request.

    Raises:
        InvalidRequest: A field is wrong; names it.
    """
    fields = Fields(body)
    texts = fields.texts("input", MAX_INPUTS)
    if not texts or not all(texts):
        raise InvalidRequest("`input` must be a text, or an array of texts, none of them empty; arrays of tokens are not served.", "input")
    request: dict[str, Any] = {"input": texts}
    if dimensions := fields.whole("dimensions", 1, 65_536):
        request["dimensions"] = dimensions
    form = fields.choice("encoding_format", "float", "base64") or "float"
    return Asked(
        kind=JobKind.EMBED, model=fields.text("model"), request=request, max_tokens=1, capabilities=frozenset({"embedding"}),
        echo={"encoding_format": form},
    )  # fmt: skip


def _asked(fields: Fields, kind: JobKind, request: dict[str, Any], capabilities: set[str], forced: tuple[str, ...] = ()) -> Asked:
    """Read what chats and completions have in common."""
    wants_stream = fields.flag("stream")
    return Asked(
        kind=kind, model=fields.text("model"), request=request, max_tokens=max_tokens_of(fields), capabilities=frozenset(capabilities),
        wants_stream=wants_stream, includes_usage=wants_stream and _includes_usage(fields), forced=forced,
    )  # fmt: skip


def _refuse_what_is_not_served(fields: Fields) -> None:
    if (fields.whole("n", 1, 128) or 1) > 1:
        raise InvalidRequest("`n` must be 1: one answer per request.", "n")
    if fields.mapping("logit_bias"):
        raise InvalidRequest("`logit_bias` is not served.", "logit_bias")
    if fields.body.get("functions"):
        raise InvalidRequest("`functions` is not served; send `tools`.", "functions")
    fields.text("user")
    fields.flag("store")
    if len(fields.mapping("metadata") or {}) > MAX_METADATA:
        raise InvalidRequest(f"`metadata` may have at most {MAX_METADATA} entries.", "metadata")


def _includes_usage(fields: Fields) -> bool:
    return Fields(fields.mapping("stream_options") or {}, "stream_options").flag("include_usage")


def max_tokens_of(fields: Fields) -> int | None:
    """Read the limit of the answer, under its newer or its older name."""
    return fields.whole("max_completion_tokens", 1, MAX_TOKENS) or fields.whole("max_tokens", 1, MAX_TOKENS)


def effort(fields: Fields) -> bool | str | None:
    """Read how much the model is to think; None: as it likes."""
    said = fields.choice("reasoning_effort", *EFFORTS)
    said = said or Fields(fields.mapping("reasoning") or {}, "reasoning").choice("effort", *EFFORTS)
    return None if said is None else EFFORTS[said]


def chat_messages(value: Any) -> list[dict[str, Any]]:
    """Read the messages: parts joined, images beside the text, calls with their arguments as objects.

    Raises:
        InvalidRequest: One is wrong; names it.
    """
    if not isinstance(value, list):
        raise InvalidRequest("`messages` must be an array of messages.", "messages")
    if not value:
        raise InvalidRequest("[] is too short - 'messages'", "messages")
    if len(value) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` may have at most {MAX_MESSAGES} elements.", "messages")
    messages = [_message(message, f"messages[{n}]") for n, message in enumerate(value)]
    if sum(len(message.get("images", ())) for message in messages) > MAX_IMAGES:
        raise InvalidRequest(f"`messages` may carry at most {MAX_IMAGES} images.", "messages")
    return named_results(messages)


def named_results(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each tool's result the tool's name, which Ollama wants, from the call that it answers."""
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls", ()) if call["id"]}
    for message in messages:
        if message["role"] == "tool" and (name := names.get(message.get("tool_call_id", ""))):
            message.setdefault("tool_name", name)
    return messages


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidRequest(f"`{where}` must be an object with role and content.", where)
    role = message.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"`{where}.role` must be one of {', '.join(sorted(ROLES))}.", f"{where}.role")
    text, images = _content(message, where)
    read: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": text}
    if images:
        read["images"] = images
    if calls := Fields(message, where).objects("tool_calls", MAX_MESSAGES):
        read["tool_calls"] = [_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls)]
    if isinstance(message.get("tool_call_id"), str):
        read["tool_call_id"] = message["tool_call_id"]
    if role == "tool" and isinstance(message.get("name"), str):
        read["tool_name"] = message["name"]
    return read


def _call(call: dict[str, Any], where: str) -> dict[str, Any]:
    function = Fields(call, where).mapping("function") or {}
    return called(function.get("name"), function.get("arguments"), call.get("id"), f"{where}.function")


def _content(message: dict[str, Any], where: str) -> tuple[str, list[str]]:
    content = message.get("content")
    if isinstance(content, str):
        return content, []
    if content is None and message.get("tool_calls"):
        return "", []
    if not isinstance(content, list):
        raise InvalidRequest(f"`{where}.content` must be a string or an array of parts.", f"{where}.content")
    texts, images = [], []
    for n, part in enumerate(content):
        place = f"{where}.content[{n}]"
        match part:
            case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": url}} | {"type": "image_url" | "input_image", "image_url": str(url)}:
                images.append(image_of(url, place))
            case _:
                raise InvalidRequest(f"`{place}` is neither a text nor an image part; nothing else is served.", place)
    return "\n".join(texts), images


def sampling(fields: Fields) -> dict[str, Any]:
    """Read the sampling options; OpenAI's defaults differ from Ollama's and are sent explicitly."""
    found = {
        "temperature": fields.number("temperature", 0, 2),
        "top_p": fields.number("top_p", 0, 1),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "seed": fields.whole("seed", -(2**31), 2**31 - 1),
        "stop": fields.texts("stop", MAX_STOPS),
    }
    return {"temperature": 1.0, "top_p": 1.0} | {name: value for name, value in found.items() if value is not None}


def response_format(fields: Fields) -> Any:
    """Read `response_format`: None, "json" or a JSON schema."""
    form = fields.mapping("response_format") or {}
    match form.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            schema = Fields(form, "response_format").mapping("json_schema") or {}
            if not isinstance(schema.get("schema"), dict):
                raise InvalidRequest("`response_format.json_schema.schema` must be an object.", "response_format")
            return schema["schema"]
        case _:
            raise InvalidRequest('`response_format.type` must be "text", "json_object" or "json_schema".', "response_format")


# --- answers --------------------------------------------------------------------------------------------------------------------------


def usage(ending: Ending, job: str) -> dict[str, Any]:
    """Write the usage: OpenAI's counts, and what it cost."""
    said: dict[str, Any] = {
        "prompt_tokens": ending.prompt_tokens, "completion_tokens": ending.completion_tokens,
        "total_tokens": ending.prompt_tokens + ending.completion_tokens,
    }  # fmt: skip
    return said if ending.cost is None else said | {"cost": ending.cost, "job": job, "counted_by": ending.counted_by}


def finish_reason(ending: Ending, *, has_tools: bool) -> str:
    """Write the reason of the end."""
    if ending.reason is EndReason.LENGTH:
        return "length"
    return "tool_calls" if has_tools else "stop"


def tool_call(piece: CallPiece) -> dict[str, Any]:
    """Write some of a tool's call: OpenAI wants the arguments as text."""
    if not piece.begins:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def logprobs_of(texts: Sequence[Text]) -> dict[str, Any] | None:
    """Write a chat's logprobs."""
    found = [
        {"token": one.get("token"), "logprob": one.get("logprob"), "bytes": one.get("bytes"), "top_logprobs": one.get("top_logprobs") or []}
        for text in texts
        for one in text.logprobs
    ]
    return {"content": found, "refusal": None} if found else None


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Write an error."""
    return {"error": {"message": refusal.detail, "type": refusal.kind, "param": refusal.param, "code": refusal.code, **refusal.more}}


def error_event(refusal: Refusal) -> bytes:
    """Write the event that ends a stream that broke off: without `[DONE]`."""
    return b"data: " + json.dumps(error_body(refusal)).encode() + b"\n\n"


class _Chunks:
    """What the streams of chats and completions have in common; the parts that never change are written once."""

    media_type = EVENT_STREAM

    def __init__(self, asked: Asked, head: Head, fixed: dict[str, Any]) -> None:
        self.asked, self.head, self.fixed = asked, head, fixed
        self._head = b"data: " + json.dumps(fixed).encode()[:-1] + b', "choices": '
        self._tail = b', "usage": null}\n\n' if asked.includes_usage else b"}\n\n"

    def begin(self) -> bytes:
        return b""

    def beat(self) -> bytes:
        return PING

    def fail(self, refusal: Refusal) -> bytes:
        return error_event(refusal)

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return self._head + json.dumps([choice]).encode() + self._tail

    def _usage(self, ending: Ending) -> bytes:
        if not self.asked.includes_usage:
            return b""
        return self._head + b'[], "usage": ' + json.dumps(usage(ending, self.head.job)).encode() + b"}\n\n"


class ChatWriter(_Chunks):
    """Writes a chat completion."""

    def __init__(self, asked: Asked, head: Head) -> None:
        fixed = {"id": f"chatcmpl-{head.job}", "object": "chat.completion.chunk", "created": head.created, "model": head.model}
        super().__init__(asked, head, fixed | {"system_fingerprint": "gfe"})
        self._has_role = False
        self._calls = calls_in(asked.forced, head.job)

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        delta: dict[str, Any] = {} if self._has_role else {"role": "assistant"}
        self._has_role = True
        delta["content"], pieces = self._calls.take(event)
        if event.thinking:
            delta["reasoning"] = event.thinking
        if pieces:
            delta["tool_calls"] = [tool_call(piece) for piece in pieces]
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": None}
        if event.logprobs:
            choice["logprobs"] = logprobs_of([event])
        return self._chunk(choice)

    def end(self, ending: Ending) -> bytes:
        """Write the end: the reason, the usage where it was asked for, and `[DONE]`."""
        reason = finish_reason(ending, has_tools=bool(self._calls.begun))
        delta = {"content": rest} if (rest := self._calls.rest()) else {}
        return self._chunk({"index": 0, "delta": delta, "finish_reason": reason}) + self._usage(ending) + DONE

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write a whole answer."""
        content, calls = self._calls.whole(texts)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thinking := thinking_of(texts):
            message["reasoning"] = thinking
        if calls:
            message["tool_calls"] = [tool_call(call) for call in calls]
        reason = finish_reason(ending, has_tools=bool(calls))
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": logprobs_of(texts)}
        return self.fixed | {"object": "chat.completion", "choices": [choice], "usage": usage(ending, self.head.job)}


class CompletionWriter(_Chunks):
    """Writes a completion."""

    def __init__(self, asked: Asked, head: Head) -> None:
        fixed = {"id": f"cmpl-{head.job}", "object": "text_completion", "created": head.created, "model": head.model}
        super().__init__(asked, head, fixed | {"system_fingerprint": "gfe"})

    def text(self, event: Text) -> bytes:
        """Write a piece of the answer."""
        return self._chunk({"index": 0, "text": event.content, "finish_reason": None, "logprobs": _old_logprobs([event])})

    def end(self, ending: Ending) -> bytes:
        """Write the end: the reason, the usage where it was asked for, and `[DONE]`."""
        reason = finish_reason(ending, has_tools=False)
        return self._chunk({"index": 0, "text": "", "finish_reason": reason, "logprobs": None}) + self._usage(ending) + DONE

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write a whole answer."""
        reason = finish_reason(ending, has_tools=False)
        choice = {"index": 0, "text": content_of(texts), "finish_reason": reason, "logprobs": _old_logprobs(texts)}
        return self.fixed | {"choices": [choice], "usage": usage(ending, self.head.job)}


def _old_logprobs(texts: Sequence[Text]) -> dict[str, Any] | None:
    """Write a completion's logprobs: lists side by side."""
    found = [one for text in texts for one in text.logprobs]
    if not found:
        return None
    offsets, at = [], 0
    for one in found:
        offsets.append(at)
        at += len(str(one.get("token") or ""))
    return {
        "tokens": [one.get("token") for one in found],
        "token_logprobs": [one.get("logprob") for one in found],
        "top_logprobs": [{top.get("token"): top.get("logprob") for top in one.get("top_logprobs") or []} for one in found],
        "text_offset": offsets,
    }


class EmbeddingsWriter(WholeWriter):
    """Writes embeddings."""

    def __init__(self, asked: Asked, head: Head) -> None:
        self.asked, self.head = asked, head

    def whole(self, texts: Sequence[Text], ending: Ending) -> dict[str, Any]:
        """Write the vectors, as numbers or as base64 of 32-bit ones, little-endian."""
        write = _packed if self.asked.echo["encoding_format"] == "base64" else list
        rows = [
            {"object": "embedding", "index": n, "embedding": write(vector)}
            for n, vector in enumerate(vector for text in texts for vector in text.embeddings)
        ]
        counts = usage(ending, self.head.job)
        del counts["completion_tokens"]
        return {"object": "list", "data": rows, "model": self.head.model, "usage": counts}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def model_row(name: str, created: int) -> dict[str, Any]:
    """Write a model of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "providers"}
