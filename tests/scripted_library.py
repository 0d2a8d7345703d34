"""What the scripted runtime tells of its models and how they come and go: version, tags, show, ps, blobs, create, copy, delete, pull."""

import hashlib
import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.gguf import NotGguf, read_metadata
from cluster.runtime.prompts import require_template
from tests.scripted_models import FakeModel, rendered
from tests.scripted_state import STATE, Script, body_of, find

FOR_EVER = timedelta(days=365 * 290)
NO_SUCH_MANIFEST = "pull model manifest: file does not exist"


# --- what is there ----------------------------------------------------------------------------------------------------------------------


async def root(request: web.Request) -> web.Response:
    """`GET /`."""
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`."""
    script = request.app[STATE]
    if script.is_down:
        return web.Response(status=500)
    said: dict = {"version": "0.32.15"}
    if script.has_tokenizer:
        said["gfe_runtime"] = "embedded"
    if script.slots:
        said["gfe_slots"] = script.slots
    return web.json_response(said)


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    models = sorted(request.app[STATE].models.values(), key=lambda model: -model.modified_at)
    rows = [
        {
            "name": model.name, "model": model.name, "size": model.size_bytes, "digest": manifest_of(model), "details": model.details,
            "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
        }
        for model in models
    ]  # fmt: skip
    return web.json_response({"models": rows})


def manifest_of(model: FakeModel) -> str:
    """The digest that tags and ps tell: of name and content, not of the file alone."""
    return hashlib.sha256(f"{model.name}\n{model.sha256}\n{model.parameters}".encode()).hexdigest()


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    rows = []
    for model in request.app[STATE].models.values():
        if not model.is_loaded:
            continue
        left = (model.unload_at or 0) - time.monotonic()
        until = datetime.now(UTC) + (FOR_EVER if left == float("inf") else timedelta(seconds=max(0, left)))
        rows.append(
            {
                "name": model.name, "model": model.name, "size": model.memory_bytes, "size_vram": int(model.memory_bytes * model.vram_share),
                "digest": manifest_of(model), "details": model.details, "expires_at": until.isoformat(), "context_length": model.context_tokens,
            }
        )  # fmt: skip
    return web.json_response({"models": rows})


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await body_of(request)
    model = find(request.app[STATE], body.get("model") or body.get("name"))
    return web.json_response(
        {
            "modelfile": f"FROM /models/sha256-{model.sha256}\n", "parameters": model.parameters, "template": model.template or rendered([]),
            "system": model.system, "license": model.license, "details": model.details, "model_info": model.info,
            "capabilities": list(model.capabilities), "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
        }
        | ({"messages": model.messages} if model.messages else {})
    )  # fmt: skip


async def tokenize(request: web.Request) -> web.Response:
    """Our own extra route: one token per word."""
    body = await body_of(request)
    text = body.get("content") or " ".join(message["content"] for message in body.get("messages") or [])
    return web.json_response({"tokens": len(text.split())})


# --- how it comes and goes --------------------------------------------------------------------------------------------------------------


def digest_of(request: web.Request) -> str:
    kind, _, sha256 = request.match_info["digest"].partition(":")
    if kind != "sha256" or len(sha256) != 64:
        raise BadRequest("invalid digest format")
    return sha256


async def has_blob(request: web.Request) -> web.Response:
    """`HEAD /api/blobs/{digest}`."""
    return web.Response(status=200 if digest_of(request) in request.app[STATE].blobs else 404)


async def take_blob(request: web.Request) -> web.Response:
    """`POST /api/blobs/{digest}`."""
    script, wanted = request.app[STATE], digest_of(request)
    content = await request.read()
    if wanted in script.blobs:
        return web.Response()
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise BadRequest(f'digest mismatch, expected "sha256:{wanted}", got "sha256:{found}"')
    script.blobs[wanted] = content
    return web.Response(status=201)


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /api/create`."""
    script, body = request.app[STATE], await body_of(request)
    name = body.get("model") or body.get("name")
    if not isinstance(name, str) or not dialect.MODEL_NAME.match(name):
        raise BadRequest("invalid model name")
    made = made_of(script, body, dialect.full_name(name))
    options = {**made.options, **dialect.checked_options(body.get("parameters"))}
    made = replace(
        made, options=options, parameters="\n".join(f"{key} {json.dumps(value)}" for key, value in sorted(options.items())),
        context_tokens=options.get("num_ctx") or made.context_tokens, system=body.get("system") or made.system,
        template=require_template(body["template"]) if body.get("template") else made.template, license=body.get("license") or made.license,
        messages=dialect.checked_messages(body.get("messages")) or made.messages, modified_at=time.time(), unload_at=None,
    )  # fmt: skip
    script.models[made.name] = made
    steps = ["parsing GGUF"] if body.get("files") else []
    steps += [f"using existing layer sha256:{made.sha256}", "writing manifest", "success"]
    return await answer_lines(request, body, [{"status": step} for step in steps])


def made_of(script: Script, body: dict, name: str) -> FakeModel:
    """The model that another one is made of: one that is there, or a file that was sent."""
    if body.get("from"):
        return replace(find(script, body["from"]), name=name)
    if not body.get("files"):
        raise BadRequest("neither 'from' or 'files' was specified")
    ((path, digest),) = body["files"].items()
    if path.startswith("/") or ".." in path:
        raise BadRequest("file path must be relative")
    sha256 = digest.removeprefix("sha256:")
    if sha256 not in script.blobs:
        raise BadRequest(f'blob "{digest}" not found')
    content = script.blobs[sha256]
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            info = read_metadata(Path(file.name))
        except NotGguf as wrong:
            raise BadRequest(f"not a GGUF file: {wrong}") from wrong
    return FakeModel(name=name, sha256=sha256, size_bytes=len(content), info=info, capabilities=("completion", "embedding"))


async def copy(request: web.Request) -> web.Response:
    """`POST /api/copy`."""
    script, body = request.app[STATE], await body_of(request)
    source = script.models.get(dialect.full_name(str(body.get("source"))))
    if source is None:
        raise BadRequest(f'model "{body.get("source")}" not found', 404)
    name = dialect.full_name(str(body.get("destination")))
    script.models[name] = replace(source, name=name, unload_at=None, running=0, modified_at=time.time())
    return web.Response()


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`."""
    script, body = request.app[STATE], await body_of(request)
    model = find(script, body.get("model") or body.get("name"))
    del script.models[model.name]
    return web.Response()


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`."""
    script, body = request.app[STATE], await body_of(request)
    name = dialect.full_name(str(body.get("model") or body.get("name") or ""))
    found = script.pullable.get(name)
    if found is None and body.get("stream") is False:
        raise BadRequest(NO_SUCH_MANIFEST, 500)
    lines: list[dict] = [{"status": "pulling manifest"}]
    if found is None:
        lines.append({"error": NO_SUCH_MANIFEST})
    else:
        layer = {"status": f"pulling {found.sha256[:12]}", "digest": f"sha256:{found.sha256}", "total": found.size_bytes}
        lines += [layer | {"completed": found.size_bytes * part // 4} for part in range(5)]
        if not script.pull_ends_early:
            lines += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]
            script.models[name] = found
    return await answer_lines(request, body, lines)


async def answer_lines(request: web.Request, body: dict, lines: list[dict]) -> web.StreamResponse:
    """Answer progress as it is asked for: line by line, or the last one alone."""
    if body.get("stream") is False:
        return web.json_response(lines[-1])
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for line in lines:
        await response.write(json.dumps(line).encode() + b"\n")
    return response


ROUTES = [
    web.get("/", root), web.get("/api/version", version), web.get("/api/tags", tags), web.get("/api/ps", ps), web.post("/api/show", show),
    web.post("/gfe/tokenize", tokenize), web.head("/api/blobs/{digest}", has_blob), web.post("/api/blobs/{digest}", take_blob),
    web.post("/api/create", create), web.post("/api/copy", copy), web.delete("/api/delete", delete), web.post("/api/pull", pull),
]  # fmt: skip
