"""The OpenAPI description of the job APIs. Written by hand: the hot routes read raw bodies, so no framework could derive it."""

from typing import Any

from cluster.dialects.openai import MAX_MESSAGES
from serve_app.api import jobs_reference, live_reference, reference_batches, reference_dialects
from serve_app.api.webhooks_reference import WEBHOOK_PATHS, WEBHOOK_SCHEMAS

_ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}}


def _errors(shape: dict[str, Any], *statuses: tuple[int, str]) -> dict[str, Any]:
    return {str(status): {"description": text, **shape} for status, text in statuses}


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "GPU-For-Everyone: jobs", "version": "1"},
    "security": [{"key": []}],
    "paths": {
        "/v1/chat/completions": {
            "post": {
                "operationId": "create_chat_completion",
                "summary": "Answer a chat, whole or as a stream; `usage` tells cost and job.",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}}},
                "responses": {
                    "200": {"description": "the answer, or its stream", "headers": {"X-GFE-Job": {"schema": {"type": "string"}}}},
                    **_errors(
                        _ERROR, (400, "a field is wrong"), (401, "no key, a mistyped one, a revoked one"), (402, "insufficient funds"),
                        (404, "unknown model"), (413, "body too large"), (422, "Idempotency-Key of another request"), (429, "too much is open or waits"),
                        (502, "the node or its runtime failed"), (503, "ledger, database or cluster does not answer"),
                    ),
                },
            }
        },
        **reference_dialects.PATHS,
        **reference_batches.PATHS,
        "/v1/models": {
            "get": {
                "operationId": "list_models", "summary": "List the models that are offered now.",
                "responses": {"200": {"description": "the models"}, **_errors(_ERROR, (401, "no valid key"))},
            }
        },
        "/v1/models/{id}": {
            "get": {
                "operationId": "get_model", "summary": "Look one model up; ids may contain slashes.",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "the model"}, **_errors(_ERROR, (401, "no valid key"), (404, "unknown model"))},
            }
        },
        **jobs_reference.PATHS,
        **WEBHOOK_PATHS,
        **live_reference.PATHS,
        "/healthz": {"get": {"operationId": "get_liveness", "summary": "This replica lives.", "security": [], "responses": {"200": {"description": "alive"}}}},
        "/readyz": {
            "get": {
                "operationId": "get_readiness", "summary": "Every part is ready, or which one is not.", "security": [],
                "responses": {"200": {"description": "ready"}, "503": {"description": "not ready"}},
            }
        },
    },
    "components": {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "ChatRequest": {
                "type": "object", "required": ["messages"],
                "properties": {
                    "model": {"type": "string"}, "messages": {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": {"type": "object"}},
                    "stream": {"type": "boolean"}, "max_tokens": {"type": "integer", "minimum": 1}, "max_completion_tokens": {"type": "integer", "minimum": 1},
                    "temperature": {"type": "number", "minimum": 0, "maximum": 2}, "top_p": {"type": "number", "minimum": 0, "maximum": 1},
                    "seed": {"type": "integer"}, "stop": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
                    "stream_options": {"type": "object"}, "response_format": {"type": "object"}, "tools": {"type": "array", "items": {"type": "object"}},
                },
            },
            **WEBHOOK_SCHEMAS,
            "OpenAIError": {
                "type": "object", "required": ["error"],
                "properties": {"error": {"type": "object", "required": ["message", "type", "code"], "properties": {"message": {"type": "string"}}}},
            },
            "Problem": {
                "type": "object", "required": ["type", "title", "status", "detail", "code", "error"],
                "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"},
                    "code": {"type": "string"}, "error": {"type": "string"},
                    "errors": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
                },
            },
            **jobs_reference.SCHEMAS,
        },
    },
}  # fmt: skip
