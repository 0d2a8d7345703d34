"""Routes that tell what is there: version, models, one model, what is loaded; and how many tokens a text has."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import Json
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.models import SMOLLM2, Model

VERSION = "0.32.15"  # the Ollama whose contract this front keeps
FOR_EVER = timedelta(days=365 * 290)


async def root(request: web.Request) -> web.Response:
    """`GET /`."""
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`; beside Ollama's field what our own worker wants to know."""
    memory = request.app[MEMORY]
    return web.json_response(
        {"version": VERSION, "gfe_runtime": "embedded", "gfe_slots": memory.slots, "gfe_context": memory.context_tokens}
    )


def details(model: Model) -> Json:
    """A model's `details` object."""
    return {
        "parent_model": "", "format": "gguf", "family": model.architecture, "families": [model.architecture],
        "parameter_size": model.parameter_size, "quantization_level": "Q4_1" if "Q4_1" in SMOLLM2.member else "unknown",
        "context_length": model.context_tokens, "embedding_length": int(model.metadata.get(f"{model.architecture}.embedding_length", 0)),
    }  # fmt: skip


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    models = sorted(request.app[LIBRARY].models.values(), key=lambda model: -model.modified_at)
    rows = [
        {
            "name": model.name, "model": model.name, "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
            "size": model.size_bytes, "digest": model.digest, "details": details(model), "capabilities": model.capabilities,
        }
        for model in models
    ]  # fmt: skip
    return web.json_response({"models": rows})


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await body_of(request)
    library = request.app[LIBRARY]
    model = library.find(body.get("model") or body.get("name"))
    info = {name: value for name, value in model.metadata.items() if name != "tokenizer.chat_template"}
    info["general.parameter_count"] = info.pop("general.tensor_elements", 0)
    answer = {
        "modelfile": f"FROM {library.store}/sha256-{model.sha256}\nTEMPLATE {json.dumps(model.template)}\n", "parameters": "",
        "template": model.template, "system": "", "license": model.license, "details": details(model), "model_info": info,
        "capabilities": model.capabilities, "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
    }  # fmt: skip
    return web.json_response(answer)


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    rows = []
    for loaded in sorted(request.app[MEMORY].loaded.values(), key=lambda one: -one.unload_at):
        left = loaded.unload_at - time.monotonic()
        until = datetime.now(UTC) + (FOR_EVER if left == float("inf") else timedelta(seconds=max(0, left)))
        model = loaded.model
        rows.append(
            {
                "name": model.name, "model": model.name, "size": resident_bytes(loaded.runner.child.process.pid), "digest": model.digest,
                "details": details(model), "expires_at": until.isoformat(), "size_vram": 0, "context_length": loaded.context_tokens,
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
    loaded = await request.app[MEMORY].obtain(request.app[LIBRARY].find(body.get("model")), {}, None)
    if body.get("messages") is not None:
        text = await loaded.runner.rendered(dialect.checked_messages(body["messages"]))
        return web.json_response({"tokens": await loaded.runner.count(text, add_special=True)})
    return web.json_response({"tokens": await loaded.runner.count(str(body.get("content") or ""))})
