"""Live updates, for the OpenAPI description: the twin of the socket, which OpenAPI cannot describe."""

from typing import Any

_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _errors(shape: dict[str, Any], *statuses: tuple[int, str]) -> dict[str, Any]:
    return {str(status): {"description": text, **shape} for status, text in statuses}


PATHS: dict[str, Any] = {
    "/api/computing/updates/": {
        "get": {
            "operationId": "stream_updates",
            "summary": "What changes of your jobs, as server-sent events: the first page or what was missed, then each change; the twin of /ws/dashboard/.",
            "parameters": [
                {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 0}},
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer"}},
            ],
            "responses": {
                "200": {"description": "the events", "content": {"text/event-stream": {}}},
                **_errors(
                    _PROBLEM, (400, "no number"), (401, "no valid key"), (403, "no scope jobs:read"), (429, "too many are open"),
                    (503, "ledger or database does not answer"),
                ),
            },
        }
    },
}  # fmt: skip
