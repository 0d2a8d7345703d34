"""The models that are offered, as OpenAI, Anthropic and Ollama list them, and what Ollama's clients ask beside jobs.

Consumers move no models: what loads, fetches or deletes one is refused, or answered from what the platform knows.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.dialects import anthropic, ollama, openai
from cluster.dialects.answer import Refusal
from cluster.dialects.fields import Fields
from cluster.errors import ClusterError, InvalidRequest, ModelUnavailable
from cluster.nodes import OfferedModel
from cluster.runtime.dialect import MODEL_NAME, full_name
from serve_app.api.answering import in_words_of
from serve_app.api.bodies import read_json
from serve_app.asking import offered_name
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.placing import require_model

LONG_AGO = "2026-01-01T00:00:00Z"
MANAGED = "model management is not available here"
SHOWN_S = 300.0  # what a model is changes only with its weights
MAX_SHOWN = 512
STAYS = timedelta(minutes=30)

in_openais_words = in_words_of(openai.error_body)
in_anthropics_words = in_words_of(anthropic.error_body)
in_ollamas_words = in_words_of(ollama.error_body)


async def _authenticated(request: Request) -> ServeContext:
    context: ServeContext = request.app.state.context
    await context.callers.require(credential_of(request.headers.get("authorization"), request.headers.get("x-api-key")), "jobs:read")
    return context


def _names(context: ServeContext) -> list[str]:
    return sorted(filter(context.feed.catalog.allows, context.view.snapshot.models()))


# --- OpenAI and Anthropic -------------------------------------------------------------------------------------------------------------


def _is_anthropics(request: Request) -> bool:
    return "anthropic-version" in request.headers


async def list_models(request: Request) -> Any:
    """`GET /v1/models`, in Anthropic's form for its clients."""
    return await (_anthropics_list if _is_anthropics(request) else _openais_list)(request)


@in_openais_words
async def _openais_list(request: Request) -> Response:
    context = await _authenticated(request)
    return JSONResponse({"object": "list", "data": [openai.model_row(name, 0) for name in _names(context)]})


@in_anthropics_words
async def _anthropics_list(request: Request) -> Response:
    context = await _authenticated(request)
    rows = [anthropic.model_row(name, LONG_AGO) for name in _names(context)]
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": None, "last_id": None}
    return JSONResponse({"data": rows, "has_more": False, **ends})


async def get_model(request: Request) -> Any:
    """`GET /v1/models/{id}`; ids may contain slashes."""
    return await (_anthropics_model if _is_anthropics(request) else _openais_model)(request)


async def _asked_model(request: Request) -> str:
    context, name = await _authenticated(request), request.path_params["name"]
    require_model(offered_name(context, name), context.view.snapshot, context.feed.catalog)
    return str(name)


@in_openais_words
async def _openais_model(request: Request) -> Response:
    return JSONResponse(openai.model_row(await _asked_model(request), 0))


@in_anthropics_words
async def _anthropics_model(request: Request) -> Response:
    return JSONResponse(anthropic.model_row(await _asked_model(request), LONG_AGO))


@in_anthropics_words
async def count_tokens(request: Request) -> Response:
    """`POST /v1/messages/count_tokens`: by the model's own tokenizer where a node has it, else an estimate."""
    context = await _authenticated(request)
    fields = Fields(await read_json(request))
    asked, *_ = anthropic.conversation(fields)
    name = offered_name(context, fields.text("model") or context.settings.default_model)
    require_model(name, context.view.snapshot, context.feed.catalog)
    counted = None
    if not asked.get("tools"):
        for node in context.view.snapshot.models().get(name, []):
            if any(model.name == name and model.has_tokenizer for model in node.models):
                counted = await context.facts.count(node.url, node.id, name, asked["messages"])
                break
    return JSONResponse({"input_tokens": anthropic.estimate(asked) if counted is None else counted})


# --- Ollama ---------------------------------------------------------------------------------------------------------------------------


async def version(request: Request) -> Response:
    """`GET /api/version`: clients tell by it what they may send."""
    return JSONResponse({"version": ollama.VERSION})


def _offers(context: ServeContext) -> list[OfferedModel]:
    """One offer of each model: a loaded one before others."""
    index = context.view.snapshot.index
    return [max(index.admitted(name).values(), key=lambda model: model.is_loaded) for name in _names(context)]


@in_ollamas_words
async def tags(request: Request) -> Response:
    """`GET /api/tags`: every model that is offered."""
    context = await _authenticated(request)
    rows = [_row(offer, await _described(context, offer.name)) for offer in _offers(context)]
    return JSONResponse({"models": sorted(rows, key=lambda row: datetime.fromisoformat(row["modified_at"]), reverse=True)})


@in_ollamas_words
async def ps(request: Request) -> Response:
    """`GET /api/ps`: the models that are loaded somewhere."""
    context = await _authenticated(request)
    until = (datetime.now(UTC) + STAYS).isoformat()
    rows = []
    for offer in _offers(context):
        if offer.is_loaded:
            row = _row(offer, await _described(context, offer.name))
            sizes = {"size": offer.took_bytes or offer.size_bytes, "size_vram": offer.gpu_bytes or 0}
            rows.append({name: row[name] for name in ("name", "model", "digest", "details")} | sizes | {
                "expires_at": until, "context_length": offer.context_tokens,
            })  # fmt: skip
    return JSONResponse({"models": rows})


def _row(offer: OfferedModel, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": offer.name, "model": offer.name, "modified_at": described.get("modified_at", LONG_AGO), "size": offer.size_bytes,
        "digest": offer.digest, "details": described.get("details", {}), "capabilities": list(offer.capabilities),
    }  # fmt: skip


@in_ollamas_words
async def show(request: Request) -> Response:
    """`POST /api/show`: what a model is, never where its file is."""
    context = await _authenticated(request)
    fields = Fields(await read_json(request))
    sent = fields.text("model") or fields.text("name")
    if not sent:
        raise InvalidRequest("model is required", "model")
    name = offered_name(context, sent)
    require_model(name, context.view.snapshot, context.feed.catalog)
    offer = next((one for one in _offers(context) if one.name == name), None)
    if offer is None:
        raise ModelUnavailable(name, ())
    described = await _described(context, name)
    usual: dict[str, Any] = {
        "modelfile": f"FROM sha256-{offer.digest}\n", "parameters": "", "template": "", "system": "", "license": "", "details": {}, "model_info": {},
        "modified_at": LONG_AGO,
    }  # fmt: skip
    return JSONResponse(usual | described | {"capabilities": list(offer.capabilities)})


async def _described(context: ServeContext, name: str) -> dict[str, Any]:
    """Ask a node what a model is; kept for a while, since it changes only with its weights."""
    now = time.monotonic()
    known = context.described.get(name)
    if known and now - known[0] < SHOWN_S:
        return known[1]
    said: dict[str, Any] = {}
    for node in context.view.snapshot.models().get(name, []):
        try:
            said = await context.facts.describe(node.url, node.id, name)
        except ClusterError:  # another node may say; without any the row is shorter
            continue
        break
    if len(context.described) >= MAX_SHOWN:
        context.described.clear()
    if said:
        context.described[name] = now, said
    return said


@in_ollamas_words
async def pull(request: Request) -> Response:
    """`POST /api/pull`: what is offered is there already; nothing else is fetched."""
    context = await _authenticated(request)
    fields = Fields(await read_json(request))
    name = fields.text("model") or fields.text("name") or ""
    offered = full_name(name) in map(full_name, _names(context))
    if not offered and not MODEL_NAME.match(name):
        raise InvalidRequest("invalid model name", "model")
    if not fields.flag("stream", usual=True):
        if not offered:
            return JSONResponse({"error": "pull model manifest: file does not exist"}, 500)
        return JSONResponse({"status": "success"})
    last = b'{"status":"success"}\n' if offered else b'{"error":"pull model manifest: file does not exist"}\n'
    return Response(b'{"status":"pulling manifest"}\n' + last, media_type=ollama.NDJSON)


async def managed(request: Request) -> Response:
    """What consumers may not do."""
    return JSONResponse({"error": MANAGED}, 403)


# --- what is not there ----------------------------------------------------------------------------------------------------------------


def _unknown(error: Callable[[Refusal], dict[str, Any]]) -> Callable[[Request], Any]:
    async def unknown(request: Request) -> Response:
        detail = f"Unknown route {request.method} {request.url.path}."
        return JSONResponse(error(Refusal(404, "not_found", "not_found_error", detail, None, {})), 404)

    return unknown


EVERY = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
ROUTES = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", get_model, methods=["GET"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    Route("/v1/{rest:path}", _unknown(openai.error_body), methods=EVERY),
    Route("/api/version", version, methods=["GET"]),
    Route("/api/tags", tags, methods=["GET"]),
    Route("/api/ps", ps, methods=["GET"]),
    Route("/api/show", show, methods=["POST"]),
    Route("/api/pull", pull, methods=["POST"]),
    *(Route(f"/api/{name}", managed, methods=EVERY) for name in ("push", "create", "copy", "delete", "blobs/{digest}")),
]
