"""Routes that tell what is there: version, models, one model, what is loaded; and how many tokens a text has."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from cluster.dialects.ollama import VERSION
from cluster.runtime import dialect
from cluster.runtime.dialect import Json
from cluster.runtime.front import history
from cluster.runtime.front.asking import conversation
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.model import CAPABILITIES, Model
from cluster.runtime.gguf import MAX_ITEMS, read_metadata

FOR_EVER = timedelta(days=365 * 290)
PARAMETER_WIDTH = 30


async def root(request: web.Request) -> web.Response:
    """`GET /`."""
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`; beside Ollama's field what our own worker wants to know."""
    memory, problem = request.app[MEMORY], request.app[LIBRARY].problem
    told = {"version": VERSION, "gfe_runtime": "embedded", "gfe_slots": memory.slots, "gfe_context": memory.context_tokens}
    return web.json_response(told | ({"gfe_problem": problem} if problem else {}))


def details(model: Model) -> Json:
    """A model's `details` object."""
    return {
        "parent_model": model.manifest.parent, "format": "gguf", "family": model.architecture, "families": [model.architecture],
        "parameter_size": model.parameter_size, "quantization_level": model.quantization, "context_length": model.context_tokens,
        "embedding_length": model.told("embedding_length"),
    }  # fmt: skip


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    models = sorted(request.app[LIBRARY].models.values(), key=lambda model: -model.modified_at)
    rows = [
        {
            "name": model.name, "model": model.name, "modified_at": _time(model), "size": model.manifest.size_bytes,
            "digest": model.manifest.digest, "details": details(model), "capabilities": CAPABILITIES,
        }
        for model in models
    ]  # fmt: skip
    return web.json_response({"models": rows})


def _time(model: Model) -> str:
    return datetime.fromtimestamp(model.modified_at, UTC).isoformat()


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await body_of(request)
    model = request.app[LIBRARY].find(body.get("model") or body.get("name"))
    metadata = model.metadata
    if body.get("verbose"):
        metadata = await asyncio.to_thread(read_metadata, model.path, kept_items=MAX_ITEMS)
    info = {name: value for name, value in metadata.items() if name != "tokenizer.chat_template"}
    info["general.parameter_count"] = info.pop("general.tensor_elements")
    manifest = model.manifest
    answer = {
        "modelfile": modelfile(model), "parameters": parameters(model), "template": model.template, "system": manifest.system,
        "license": "\n".join(manifest.license), "details": details(model), "model_info": info, "capabilities": CAPABILITIES,
        "modified_at": _time(model),
    }  # fmt: skip
    return web.json_response(answer | ({"messages": list(manifest.messages)} if manifest.messages else {}))


def _rows(model: Model) -> list[tuple[str, str]]:
    """A model's parameters, a row for each value."""
    return [
        (name, json.dumps(value))
        for name, values in sorted(model.manifest.parameters.items())
        for value in (values if isinstance(values, list) else [values])
    ]


def parameters(model: Model) -> str:
    """A model's parameters as Ollama shows them."""
    return "\n".join(f"{name:<{PARAMETER_WIDTH}} {value}" for name, value in _rows(model))


def modelfile(model: Model) -> str:
    """What the model was made of, as a Modelfile; its first line names the file by its SHA-256."""
    manifest = model.manifest
    lines = [f"FROM {model.path}"]
    lines += [f'TEMPLATE """{manifest.template}"""'] if manifest.template else []  # the file's own comes with the file
    lines += [f'SYSTEM """{manifest.system}"""'] if manifest.system else []
    lines += [f"PARAMETER {name} {value}" for name, value in _rows(model)]
    lines += [f'LICENSE """{text}"""' for text in manifest.license]
    lines += [f'MESSAGE {message["role"]} """{message["content"]}"""' for message in manifest.messages]
    return "\n".join(lines) + "\n"


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    rows = []
    for loaded in sorted(request.app[MEMORY].loaded.values(), key=lambda one: -one.unload_at):
        left = loaded.unload_at - time.monotonic()
        until = datetime.now(UTC) + (FOR_EVER if left == float("inf") else timedelta(seconds=max(0, left)))
        model = loaded.model
        rows.append(
            {
                "name": model.name, "model": model.name, "size": resident_bytes(loaded.runner.child.process.pid),
                "digest": model.manifest.digest, "details": details(model), "expires_at": until.isoformat(), "size_vram": 0,
                "context_length": loaded.context_tokens,
            }
        )  # fmt: skip
    return web.json_response({"models": rows})


def resident_bytes(pid: int) -> int:
    """How much memory a process has now; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


async def tokenize(request: web.Request) -> web.Response:
    """`POST /gfe/tokenize`: count the tokens of `content`, or of `messages` as the model reads them."""
    body = await body_of(request)
    model = request.app[LIBRARY].find(body.get("model"))
    async with request.app[MEMORY].use(model) as loaded:
        if body.get("messages") is not None:
            messages = conversation(model, dialect.checked_messages(body["messages"]))
            text = await history.rendered(loaded, messages, model.manifest.template)
            return web.json_response({"tokens": await loaded.runner.count(text, add_special=True)})
        return web.json_response({"tokens": await loaded.runner.count(str(body.get("content") or ""))})
