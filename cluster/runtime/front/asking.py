"""What a chat or a generation asks for: the request over what the model was created with. Pure."""

from dataclasses import dataclass
from typing import Any

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.model import CAPABILITIES, Model
from cluster.runtime.prompts import require_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat or a generation, checked. `template` is Ollama's kind, empty: the file's own; `request` is what the child is asked."""

    name: str  # as sent
    model: Model
    options: Json
    keep_alive_s: float | None
    request: Json
    messages: list[Json] | None  # None: `prompt` goes to the model as it is
    prompt: str
    template: str
    only_loads: bool
    only_renders: bool
    wants_stream: bool
    truncate: bool


def chat_of(body: Json, model: Model) -> Asked:
    """Read a chat.

    Raises:
        BadRequest: In Ollama's words.
    """
    sent = dialect.checked_messages(body.get("messages"))
    return _asked_of(body, model, conversation(model, sent), template=model.manifest.template, only_loads=not sent)


def conversation(model: Model, sent: list[Json]) -> list[Json]:
    """Put a model's own messages before those that were sent, and its system text unless there is one at the beginning."""
    messages = [*_own_messages(model), *sent]
    if model.manifest.system and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": model.manifest.system})
    return messages


def generation_of(body: Json, model: Model) -> Asked:
    """Read a generation; a raw one goes to the model as it is.

    Raises:
        BadRequest: In Ollama's words.
    """
    prompt, system = _text(body, "prompt"), _text(body, "system")
    if body.get("suffix"):
        raise BadRequest(f"registry.ollama.ai/library/{dialect.full_name(body['model'])} does not support insert")
    if body.get("images"):
        raise BadRequest("this model does not support images")
    if body.get("raw"):
        if system or body.get("template") or body.get("context"):
            raise BadRequest("raw mode does not support template, system, or context")
        return _asked_of(body, model, None, prompt=prompt, only_loads=not prompt)
    system = system or model.manifest.system
    messages = [{"role": "system", "content": system}] if system else []
    messages += [*_own_messages(model), {"role": "user", "content": prompt}]
    template = require_template(body["template"]) if body.get("template") else model.manifest.template
    return _asked_of(body, model, messages, template=template, only_loads=not prompt)


def _own_messages(model: Model) -> list[Json]:
    return [dict(message) for message in model.manifest.messages]


def _asked_of(body: Json, model: Model, messages: list[Json] | None, *, only_loads: bool, template: str = "", prompt: str = "") -> Asked:
    """Check what chat and generate have in common."""
    dialect.refuse_what_it_cannot(body, body["model"], CAPABILITIES)
    options = {**model.manifest.parameters, **dialect.checked_options(body.get("options"))}
    request = dialect.sampling(options) | dialect.response_format(body.get("format")) | dialect.logprob_request(body)
    return Asked(
        name=body["model"], model=model, options=options, keep_alive_s=dialect.keep_alive_s(body.get("keep_alive")), request=request,
        messages=messages, prompt=prompt, template=template, only_loads=only_loads, only_renders=bool(body.get("_debug_render_only")),
        wants_stream=body.get("stream") is not False, truncate=body.get("truncate") is not False,
    )  # fmt: skip


def _text(body: Json, key: str) -> str:
    value: Any = body.get(key) or ""
    if not isinstance(value, str):
        raise BadRequest(f"json: {key} must be a string")
    return value
