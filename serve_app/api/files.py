"""`/v1/files`: what batches read and write, as OpenAI's clients send and fetch it. An upload is written line by line while it comes."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cluster.dialects.openai import error_body
from cluster.errors import InvalidRequest
from ledger.client import Caller, new_uuid7, text_of, uuid_of
from serve_app.api.answering import in_words_of
from serve_app.api.listing import after_of, limit_of, page_of
from serve_app.api.multipart import Multipart, Part
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import FileInUse, NoRoom, TooLarge, UnknownFile
from serve_app.store.files import BLOCK_BYTES, BLOCK_LINES, MAX_ACCOUNT_BYTES, MAX_FILES, FileRecord, FileStore

PREFIX = "file"
PURPOSE = "batch"
PURPOSES = ("batch", "batch_output")
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FORM_BYTES = 64 * 1024  # what a form may have beside the file
MAX_LINE_BYTES = 1024 * 1024
MAX_LINES = 50_000
MAX_FILENAME = 255
UPLOAD_LIMIT_S = 600.0

in_openais_words = in_words_of(error_body)


async def caller_of(request: Request, scope: str) -> tuple[ServeContext, Caller]:
    """Tell who calls."""
    context: ServeContext = request.app.state.context
    return context, await context.callers.require(
        credential_of(request.headers.get("authorization"), request.headers.get("x-api-key")), scope
    )


def file_row(record: FileRecord) -> dict[str, Any]:
    """Write a file as OpenAI does."""
    return {
        "id": text_of(PREFIX, record.id), "object": "file", "bytes": record.size, "created_at": int(record.created_at.timestamp()),
        "expires_at": int(record.expires_at.timestamp()), "filename": record.filename, "purpose": record.purpose, "status": "processed",
    }  # fmt: skip


def file_id(text: str) -> uuid.UUID:
    """Read a file's id.

    Raises:
        UnknownFile: It is none.
    """
    try:
        return uuid_of(PREFIX, text)
    except ValueError as wrong:
        raise UnknownFile from wrong


# --- upload ---------------------------------------------------------------------------------------------------------------------------


class _Lines:
    """Cuts a file into lines and writes them, about a block at a time."""

    def __init__(self, files: FileStore, file: uuid.UUID) -> None:
        self.size = 0
        self._files, self._file = files, file
        self._rest = b""
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._written = 0

    async def take(self, piece: bytes) -> None:
        """Take the next piece of the file.

        Raises:
            TooLarge: The file or a line is.
            InvalidRequest: There are too many lines.
        """
        self.size += len(piece)
        if self.size > MAX_FILE_BYTES:
            raise TooLarge(MAX_FILE_BYTES)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            await self._add(line + b"\n")
        self._require_short(self._rest)

    async def close(self) -> None:
        """Write what is left."""
        if self._rest:
            await self._add(self._rest)
        await self._write()

    def _require_short(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise InvalidRequest(f"Line {self._written + len(self._block) + 1} is longer than {MAX_LINE_BYTES} bytes.", "file")

    async def _add(self, line: bytes) -> None:
        self._require_short(line)
        self._block.append(line)
        self._block_bytes += len(line)
        if self._written + len(self._block) > MAX_LINES:
            raise InvalidRequest(f"The file has more than {MAX_LINES} lines.", "file")
        if self._block_bytes >= BLOCK_BYTES or len(self._block) >= BLOCK_LINES:
            await self._write()

    async def _write(self) -> None:
        if self._block:
            await self._files.add(self._file, self._written + 1, self._block)
            self._written += len(self._block)
            self._block, self._block_bytes = [], 0


@in_openais_words
async def upload(request: Request) -> Response:
    """`POST /v1/files`: a form with `purpose` and `file`."""
    context, caller = await caller_of(request, "jobs:write")
    form = Multipart(request.headers.get("content-type"))
    id_, now = new_uuid7(), datetime.now(UTC)
    if not await context.files.begin(id_, caller.user, _most_bytes(request), now):
        raise NoRoom(MAX_ACCOUNT_BYTES, MAX_FILES)
    try:
        async with asyncio.timeout(UPLOAD_LIMIT_S):
            filename, size = await _receive(request, form, _Lines(context.files, id_))
        await context.files.finish(id_, filename, size)
    except BaseException as failed:
        context.spawn(_drop(context, id_))
        if isinstance(failed, TimeoutError):
            raise InvalidRequest(f"The upload took longer than {UPLOAD_LIMIT_S:g} s.") from failed
        raise
    record = await context.files.find(id_, caller.user)
    if record is None:
        raise UnknownFile
    return JSONResponse(file_row(record))


async def _drop(context: ServeContext, id_: uuid.UUID) -> None:
    with suppress(DatabaseUnavailable):  # then the sweep does it
        await context.files.drop(id_)


def _most_bytes(request: Request) -> int:
    """Tell how large the file can become.

    Raises:
        TooLarge: Larger than any may be.
    """
    said = request.headers.get("content-length", "")
    most = int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else MAX_FILE_BYTES
    if most > MAX_FILE_BYTES + MAX_FORM_BYTES:
        raise TooLarge(MAX_FILE_BYTES)
    return min(most, MAX_FILE_BYTES)


async def _receive(request: Request, form: Multipart, lines: _Lines) -> tuple[str, int]:
    """Read the form and write its file; answer the file's name and size.

    Raises:
        TooLarge: The form, the file or a line is.
        InvalidRequest: It is not such a form.
    """
    part, filename, fields, beside = None, None, dict[str, bytes](), 0
    try:
        async for chunk in request.stream():
            for said in form.feed(chunk):
                if isinstance(said, Part):
                    part = said
                    if said.name == "file":
                        if filename is not None:
                            raise InvalidRequest("The form has more than one `file`.", "file")
                        filename = (said.filename or "upload.jsonl").replace("\x00", "")[:MAX_FILENAME]
                elif part is not None and part.name == "file":
                    await lines.take(said)
                elif part is not None:
                    beside += len(said)
                    if beside > MAX_FORM_BYTES:
                        raise TooLarge(MAX_FORM_BYTES)
                    fields[part.name] = fields.get(part.name, b"") + said
    except ClientDisconnect as gone:
        raise InvalidRequest("The body is incomplete.") from gone
    form.close()
    if fields.get("purpose", b"").strip() != PURPOSE.encode():
        raise InvalidRequest(f"`purpose` must be `{PURPOSE}`.", "purpose")
    if filename is None:
        raise InvalidRequest("The form has no `file`.", "file")
    await lines.close()
    return filename, lines.size


# --- the others -----------------------------------------------------------------------------------------------------------------------


@in_openais_words
async def list_files(request: Request) -> Response:
    """`GET /v1/files`: the newest first, or `order=asc`."""
    context, caller = await caller_of(request, "jobs:read")
    limit, query = limit_of(request), request.query_params
    after, purpose = after_of(request, PREFIX), query.get("purpose")
    if purpose is not None and purpose not in PURPOSES:
        return JSONResponse(page_of([], limit))
    found = await context.files.page(caller.user, purpose, after, limit + 1, is_oldest_first=query.get("order") == "asc")
    return JSONResponse(page_of([file_row(record) for record in found], limit))


async def _own(request: Request, scope: str) -> tuple[ServeContext, FileRecord]:
    """Find the caller's file.

    Raises:
        UnknownFile: There is none.
    """
    context, caller = await caller_of(request, scope)
    record = await context.files.find(file_id(request.path_params["id"]), caller.user)
    if record is None:
        raise UnknownFile
    return context, record


@in_openais_words
async def get_file(request: Request) -> Response:
    """`GET /v1/files/{id}`."""
    _, record = await _own(request, "jobs:read")
    return JSONResponse(file_row(record))


@in_openais_words
async def get_content(request: Request) -> Response:
    """`GET /v1/files/{id}/content`: byte for byte."""
    context, record = await _own(request, "jobs:read")
    headers = {"Content-Length": str(record.size), "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_content(context, record), media_type="application/octet-stream", headers=headers)


async def _content(context: ServeContext, record: FileRecord) -> AsyncGenerator[bytes, None]:
    async with aclosing(context.files.blocks(record.id)) as blocks:
        async for block in blocks:
            yield b"".join(content for _, content in block)


@in_openais_words
async def delete_file(request: Request) -> Response:
    """`DELETE /v1/files/{id}`; not while a batch reads it."""
    context, record = await _own(request, "jobs:write")
    if not await context.files.delete(record.id, record.user):
        raise FileInUse
    return JSONResponse({"id": text_of(PREFIX, record.id), "object": "file", "deleted": True})


ROUTES = [
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", list_files, methods=["GET"]),
    Route("/v1/files/{id}", get_file, methods=["GET"]),
    Route("/v1/files/{id}", delete_file, methods=["DELETE"]),
    Route("/v1/files/{id}/content", get_content, methods=["GET"]),
]
