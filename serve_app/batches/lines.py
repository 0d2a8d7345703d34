"""The lines of a batch as OpenAI writes them: `{custom_id, method, url, body}` in, `{id, custom_id, response, error}` out. Pure."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from cluster.dialects.answer import Refusal
from cluster.dialects.table import DIALECTS
from ledger.client import text_of
from serve_app.api.bodies import MAX_DEPTH, depth_of
from serve_app.store.batches import LineEnd

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
MAX_CUSTOM_ID = 512
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL keeps in no text
_NAMESPACE = uuid.UUID("6b1d4a2e-2f0c-4a53-9f57-0d5f7c1b8e61")


class WrongLine(Exception):
    """A line that is no request of this batch."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code, says)
        self.code = code
        self.says = says


@dataclass(frozen=True, slots=True)
class LineAsked:
    """What a line asks."""

    custom_id: str
    body: dict[str, Any]


def read_line(raw: bytes, endpoint: str) -> LineAsked:
    """Read a line.

    Raises:
        WrongLine: It is not a request for the batch's endpoint.
    """
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as wrong:
        raise WrongLine("invalid_json_line", "This line is not valid JSON.") from wrong
    if not isinstance(said, dict) or depth_of(said) > MAX_DEPTH:
        raise WrongLine("invalid_json_line", f"This line must be a JSON object, nested at most {MAX_DEPTH} levels deep.")
    custom_id = said.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID or _UNWRITABLE.search(custom_id):
        raise WrongLine(
            "invalid_custom_id", f"`custom_id` must be a string of 1 to {MAX_CUSTOM_ID} characters that can be written as UTF-8."
        )
    if said.get("method") != "POST":
        raise WrongLine("invalid_method", "`method` must be `POST`.")
    if said.get("url") != endpoint:
        raise WrongLine("mismatched_url", f"`url` must be the batch's endpoint, `{endpoint}`.")
    if not isinstance(said.get("body"), dict):
        raise WrongLine("invalid_body", "`body` must be an object: the request as it would be sent by itself.")
    return LineAsked(custom_id, said["body"])


def request_key(batch: uuid.UUID, number: int) -> str:
    """Name a line's request: whoever runs it again finds the same job."""
    return f"batch:{batch}:{number}"


def _line_id(batch: uuid.UUID, number: int) -> str:
    return text_of("batch_req", uuid.uuid5(_NAMESPACE, request_key(batch, number)))


def answered(batch: uuid.UUID, number: int, custom_id: str, job: str, body: dict[str, Any]) -> LineEnd:
    """Write a good answer."""
    return _end(batch, number, custom_id, response={"status_code": 200, "request_id": job, "body": body}, error=None)


def refused(batch: uuid.UUID, endpoint: str, number: int, custom_id: str, job: str | None, refusal: Refusal) -> LineEnd:
    """Write an error, as the route by itself would answer it."""
    body = DIALECTS[endpoint].error(refusal)
    response = {"status_code": refusal.status, "request_id": job or _line_id(batch, number), "body": body}
    return _end(batch, number, custom_id, response=response, error=None)


def not_run(batch: uuid.UUID, number: int, custom_id: str | None, code: str, message: str) -> LineEnd:
    """Write that a line was not run, and why."""
    return _end(batch, number, custom_id, response=None, error={"code": code, "message": message, "line": number})


def _end(batch: uuid.UUID, number: int, custom_id: str | None, *, response: dict[str, Any] | None, error: dict[str, Any] | None) -> LineEnd:
    said = {"id": _line_id(batch, number), "custom_id": custom_id, "response": response, "error": error}
    is_good = response is not None and response["status_code"] == 200
    return LineEnd(number, is_good, json.dumps(said, separators=(",", ":")).encode() + b"\n")
