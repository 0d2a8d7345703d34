"""Files and batches, for the OpenAPI description: the fields are OpenAI's, the limits are ours."""

from typing import Any

from serve_app.api.files import MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_LINES, PURPOSE
from serve_app.api.listing import MOST, USUAL
from serve_app.batches.lines import ENDPOINTS
from serve_app.store.batches import MAX_UNDER_WAY, WINDOWS

_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_PAGE = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}},
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "the last id of the page before"},
]
_UPLOAD = {
    "multipart/form-data": {
        "schema": {
            "type": "object", "required": ["purpose", "file"],
            "properties": {"purpose": {"const": PURPOSE}, "file": {"type": "string", "contentMediaType": "application/jsonl"}},
        }
    }
}  # fmt: skip
_NEW = {
    "application/json": {
        "schema": {
            "type": "object", "required": ["input_file_id", "endpoint", "completion_window"],
            "properties": {
                "input_file_id": {"type": "string"}, "endpoint": {"enum": list(ENDPOINTS)}, "completion_window": {"enum": list(WINDOWS)},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    }
}  # fmt: skip


def _row(operation: str, summary: str, *statuses: tuple[int, str], body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    told = ((200, "the answer"), (401, "no valid key"), (503, "ledger or database does not answer"), *statuses)
    row: dict[str, Any] = {"operationId": operation, "summary": summary, **more}
    if body:
        row["requestBody"] = {"required": True, "content": body}
    return row | {"responses": {str(status): {"description": text} for status, text in told}}


_GONE = (404, "unknown, or somebody else's")
PATHS: dict[str, Any] = {
    "/v1/files": {
        "post": _row(
            "create_file",
            f"Send a file of requests: at most {MAX_FILE_BYTES} bytes, {MAX_LINES} lines of at most {MAX_LINE_BYTES} bytes.",
            (400, "no such form, a line too long, too many lines"), (413, "too large, or the account's files are"), body=_UPLOAD,
        ),
        "get": _row(
            "list_files", "List your files.", (400, "a field is wrong"),
            parameters=[*_PAGE, *({"name": name, "in": "query", "schema": {"type": "string"}} for name in ("purpose", "order"))],
        ),
    },
    "/v1/files/{id}": {
        "get": _row("get_file", "One of your files.", _GONE, parameters=[_ID]),
        "delete": _row("delete_file", "Delete one of your files.", _GONE, (409, "a batch reads it"), parameters=[_ID]),
    },
    "/v1/files/{id}/content": {"get": _row("get_file_content", "What is in one of your files, byte for byte.", _GONE, parameters=[_ID])},
    "/v1/batches": {
        "post": _row(
            "create_batch", "Have a file of requests answered within a day, at a lower price. Needs an API key.",
            (400, "a field is wrong"), (404, "unknown file"), (422, "Idempotency-Key of another request"),
            (429, f"{MAX_UNDER_WAY} are under way"), body=_NEW,
        ),
        "get": _row("list_batches", "List your batches, the newest first.", (400, "a field is wrong"), parameters=_PAGE),
    },
    "/v1/batches/{id}": {"get": _row("get_batch", "One of your batches: how far it is, and where its answers are.", _GONE, parameters=[_ID])},
    "/v1/batches/{id}/cancel": {
        "post": _row("cancel_batch", "Begin no more lines of a batch; what runs ends.", _GONE, (409, "it has ended"), parameters=[_ID]),
    },
}  # fmt: skip
