"""`/v1/batches`: a file of requests, answered within a day at a lower price (docs/concepts/batches.md)."""

import uuid
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.dialects.fields import Fields
from cluster.errors import InvalidRequest
from ledger.client import IdempotencyConflict, new_uuid7, text_of, uuid_of
from serve_app.api import files
from serve_app.api.bodies import read_json
from serve_app.api.files import caller_of, file_id, in_openais_words
from serve_app.api.listing import after_of, limit_of, page_of
from serve_app.asking import checked_key, repeat_digest
from serve_app.auth import JWT_DOTS, credential_of
from serve_app.batches.lines import ENDPOINTS
from serve_app.batches.sealing import KEY_FILE, seal
from serve_app.context import ServeContext
from serve_app.errors import BatchOver, TooManyBatches, UnknownBatch, UnknownFile
from serve_app.store.batches import MAX_UNDER_WAY, WINDOWS, Batch, NewBatch

PREFIX = "batch"
MAX_METADATA, MAX_METADATA_NAME, MAX_METADATA_VALUE = 16, 64, 512
MOMENTS = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def batch_row(batch: Batch) -> dict[str, Any]:
    """Write a batch as OpenAI does."""
    return {
        "id": text_of(PREFIX, batch.id), "object": "batch", "endpoint": batch.endpoint, "completion_window": batch.window, "status": batch.state,
        "input_file_id": text_of(files.PREFIX, batch.input_file), "output_file_id": _ready(batch, batch.output_file),
        "error_file_id": _ready(batch, batch.error_file), "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "created_at": int(batch.created_at.timestamp()), "expires_at": int(batch.expires_at.timestamp()),
        **{f"{state}_at": batch.times.get(state) for state in MOMENTS},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed}, "metadata": batch.metadata,
    }  # fmt: skip


def _ready(batch: Batch, file: uuid.UUID) -> str | None:
    return text_of(files.PREFIX, file) if file in batch.ready else None


@in_openais_words
async def create(request: Request) -> Response:
    """`POST /v1/batches`; a repeat under the same Idempotency-Key is answered by the batch that is there."""
    context, caller = await caller_of(request, "jobs:write")
    credential = credential_of(request.headers.get("authorization"), request.headers.get("x-api-key"))
    if credential.count(".") == JWT_DOTS:
        raise InvalidRequest("A batch outlives a sign-in: create it with an API key.")
    body, key = await read_json(request), request.headers.get("idempotency-key")
    new = _asked(body, caller.user, key, credential, context)
    if key is not None and (earlier := await context.batches.find_repeated(caller.user, key)) is not None:
        return _repeated(earlier, new)
    if await context.files.find(new.input_file, caller.user) is None:
        raise UnknownFile
    made = await context.batches.create(new, datetime.now(UTC))
    if made is not None:
        return JSONResponse(batch_row(made))
    if key is not None and (earlier := await context.batches.find_repeated(caller.user, key)) is not None:
        return _repeated(earlier, new)
    raise TooManyBatches(MAX_UNDER_WAY)


def _asked(body: dict[str, Any], user: str, key: str | None, credential: str, context: ServeContext) -> NewBatch:
    """Read the body.

    Raises:
        InvalidRequest: A field is wrong.
        UnknownFile: The input file's id is none.
    """
    fields = Fields(body)
    checked_key(key)
    endpoint, window = fields.choice("endpoint", *ENDPOINTS), fields.choice("completion_window", *WINDOWS)
    if (input_file := fields.text("input_file_id")) is None:
        raise fields.wrong("input_file_id", "the id of an uploaded file")
    if endpoint is None:
        raise fields.wrong("endpoint", f"one of {', '.join(ENDPOINTS)}")
    if window is None:
        raise fields.wrong("completion_window", f"one of {', '.join(WINDOWS)}")
    id_ = new_uuid7()
    return NewBatch(
        id=id_, user=user, endpoint=endpoint, window=window, metadata=_metadata(fields), input_file=file_id(input_file), output_file=new_uuid7(),
        error_file=new_uuid7(), credential=seal(context.settings.secret(KEY_FILE), credential, id_), request_key=key,
        digest=repeat_digest(body) if key else None,
    )  # fmt: skip


def _metadata(fields: Fields) -> dict[str, str] | None:
    metadata = fields.mapping("metadata")
    if metadata is None:
        return None
    fits = all(
        isinstance(value, str) and len(name) <= MAX_METADATA_NAME and len(value) <= MAX_METADATA_VALUE and "\x00" not in name + value
        for name, value in metadata.items()
    )
    if len(metadata) > MAX_METADATA or not fits:
        raise fields.wrong(
            "metadata",
            f"at most {MAX_METADATA} strings of at most {MAX_METADATA_VALUE} characters, with names of at most {MAX_METADATA_NAME}",
        )
    return metadata


def _repeated(earlier: Batch, new: NewBatch) -> Response:
    """Answer a repeat.

    Raises:
        IdempotencyConflict: The key was used for another batch.
    """
    if earlier.digest != new.digest:
        raise IdempotencyConflict
    return JSONResponse(batch_row(earlier), headers={"Idempotent-Replayed": "true"})


@in_openais_words
async def list_batches(request: Request) -> Response:
    """`GET /v1/batches`: the newest first."""
    context, caller = await caller_of(request, "jobs:read")
    limit = limit_of(request)
    found = await context.batches.page(caller.user, after_of(request, PREFIX), limit + 1)
    return JSONResponse(page_of([batch_row(batch) for batch in found], limit))


async def _own(request: Request, scope: str) -> tuple[ServeContext, Batch]:
    """Find the caller's batch.

    Raises:
        UnknownBatch: There is none.
    """
    context, caller = await caller_of(request, scope)
    try:
        id_ = uuid_of(PREFIX, request.path_params["id"])
    except ValueError as wrong:
        raise UnknownBatch from wrong
    batch = await context.batches.find(id_, caller.user)
    if batch is None:
        raise UnknownBatch
    return context, batch


@in_openais_words
async def get_batch(request: Request) -> Response:
    """`GET /v1/batches/{id}`."""
    _, batch = await _own(request, "jobs:read")
    return JSONResponse(batch_row(batch))


@in_openais_words
async def cancel(request: Request) -> Response:
    """`POST /v1/batches/{id}/cancel`: what has not begun is not run; what runs ends."""
    context, batch = await _own(request, "jobs:write")
    changed = await context.batches.cancel(batch.id, batch.user, datetime.now(UTC))
    if changed is None:
        changed = await context.batches.find(batch.id, batch.user)
        if changed is None or changed.state != "cancelling":
            raise BatchOver(changed.state if changed else batch.state)
    return JSONResponse(batch_row(changed))


ROUTES = [
    Route("/v1/batches", create, methods=["POST"]),
    Route("/v1/batches", list_batches, methods=["GET"]),
    Route("/v1/batches/{id}", get_batch, methods=["GET"]),
    Route("/v1/batches/{id}/cancel", cancel, methods=["POST"]),
]
