"""The part of the OpenAPI description that tells of `/api/computing/webhooks/`."""

from typing import Any

from serve_app.webhooks.records import JOB_EVENTS

_TIME = {"type": "string", "format": "date-time"}
_TIME_OR_NULL = {"type": ["string", "null"], "format": "date-time"}
_TEXT, _TEXT_OR_NULL, _FLAG = {"type": "string"}, {"type": ["string", "null"]}, {"type": "boolean"}
_EVENTS = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(JOB_EVENTS)}}

_WEBHOOK = {
    "id": _TEXT, "url": _TEXT, "events": _EVENTS, "key": _TEXT_OR_NULL, "include_result": _FLAG, "description": _TEXT, "enabled": _FLAG,
    "disabled_at": _TIME_OR_NULL, "disabled_reason": _TEXT_OR_NULL, "failing_since": _TIME_OR_NULL, "created_at": _TIME,
}  # fmt: skip
_SECRET = {"secret": _TEXT, "secret_version": {"type": "integer", "minimum": 1}, "secret_rotated_at": _TIME_OR_NULL}
_DELIVERY = {
    "id": _TEXT, "type": _TEXT, "webhook": _TEXT_OR_NULL, "job": _TEXT_OR_NULL, "url": _TEXT, "status": {"type": "string", "enum": ["pending", "delivered", "failed"]},
    "attempts": {"type": "integer", "minimum": 0}, "response_status": {"type": ["integer", "null"]}, "error": _TEXT_OR_NULL, "created_at": _TIME,
    "last_attempt_at": _TIME_OR_NULL, "next_attempt_at": _TIME_OR_NULL, "ended_at": _TIME_OR_NULL,
}  # fmt: skip


def _whole(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _given(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _page(schema: str) -> dict[str, Any]:
    return _whole({"results": {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}, "next": _TEXT_OR_NULL})


_DESCRIPTION = {"type": ["string", "null"], "maxLength": 200}
WEBHOOK_SCHEMAS: dict[str, Any] = {
    "Webhook": _whole(_WEBHOOK),
    "WebhookSecret": _whole(_WEBHOOK | _SECRET),
    "WebhookList": _page("Webhook"),
    "NewWebhook": _given({"url": _TEXT, "events": _EVENTS, "key": {"type": ["string", "null"], "maxLength": 64}, "include_result": _FLAG, "description": _DESCRIPTION}, "url"),
    "WebhookChange": _given({"url": _TEXT, "events": _EVENTS, "include_result": _FLAG, "description": _DESCRIPTION, "enabled": _FLAG}),
    "Secret": _whole(_SECRET),
    "Delivery": _whole(_DELIVERY),
    "DeliveryList": _page("Delivery"),
}  # fmt: skip

# --- paths ------------------------------------------------------------------------------------------------------------------------

_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _refusals(*statuses: tuple[int, str]) -> dict[str, Any]:
    return {str(status): {"description": text, **_PROBLEM} for status, text in statuses}


def _json(text: str, schema: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_PAGE = (
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}},
    {"name": "cursor", "in": "query", "schema": {"type": "string"}},
)  # fmt: skip
_DENIED = ((401, "no valid key"), (403, "the key lacks the scope"), (503, "ledger or database does not answer"))
_UNKNOWN = (404, "unknown, or somebody else's")

WEBHOOK_PATHS: dict[str, Any] = {
    "/api/computing/webhooks/": {
        "get": {
            "operationId": "list_webhooks", "summary": "Your webhooks: where your programs are told of your jobs' ends.",
            "responses": {"200": _json("the webhooks", "WebhookList"), **_refusals(*_DENIED)},
        },
        "post": {
            "operationId": "add_webhook", "summary": "Add a webhook; its secret is in this answer only.",
            "requestBody": _body("NewWebhook"),
            "responses": {"201": _json("the webhook and its secret", "WebhookSecret"), **_refusals((400, "a field is wrong, or the URL is not allowed"), *_DENIED, (409, "as many as allowed, or the same again"), (413, "body too large"))},
        },
    },
    "/api/computing/webhooks/{id}/": {
        "get": {
            "operationId": "get_webhook", "summary": "One of your webhooks.", "parameters": [_ID],
            "responses": {"200": _json("the webhook", "Webhook"), **_refusals(*_DENIED, _UNKNOWN)},
        },
        "patch": {
            "operationId": "change_webhook", "summary": "Change, disable or enable a webhook.", "parameters": [_ID], "requestBody": _body("WebhookChange"),
            "responses": {"200": _json("the webhook", "Webhook"), **_refusals((400, "a field is wrong, or the URL is not allowed"), *_DENIED, _UNKNOWN, (409, "another one has this URL"), (413, "body too large"))},
        },
        "delete": {
            "operationId": "remove_webhook", "summary": "Remove a webhook; what waits for it is not sent.", "parameters": [_ID],
            "responses": {"204": {"description": "removed"}, **_refusals(*_DENIED, _UNKNOWN)},
        },
    },
    "/api/computing/webhooks/{id}/rotate/": {
        "post": {
            "operationId": "rotate_webhook_secret", "summary": "Make a new secret; the old one signs too for 24 hours.", "parameters": [_ID],
            "responses": {"200": _json("the webhook and its new secret", "WebhookSecret"), **_refusals(*_DENIED, _UNKNOWN)},
        }
    },
    "/api/computing/webhooks/{id}/test/": {
        "post": {
            "operationId": "test_webhook", "summary": "Send a `webhook.test`.", "parameters": [_ID],
            "responses": {"202": _json("the delivery, queued", "Delivery"), **_refusals(*_DENIED, _UNKNOWN, (409, "it is disabled"))},
        }
    },
    "/api/computing/webhooks/{id}/deliveries/": {
        "get": {
            "operationId": "list_webhook_deliveries", "summary": "What was delivered to a webhook, newest first.", "parameters": [_ID, *_PAGE],
            "responses": {"200": _json("a page of the log", "DeliveryList"), **_refusals((400, "limit or cursor is wrong"), *_DENIED, _UNKNOWN)},
        }
    },
    "/api/computing/webhooks/deliveries/": {
        "get": {
            "operationId": "list_deliveries", "summary": "What was delivered to all your webhooks and to the URLs of single jobs, newest first.",
            "parameters": [*_PAGE],
            "responses": {"200": _json("a page of the log", "DeliveryList"), **_refusals((400, "limit or cursor is wrong"), *_DENIED)},
        }
    },
    "/api/computing/webhooks/deliveries/{id}/resend/": {
        "post": {
            "operationId": "resend_delivery", "summary": "Send an event once more, with the same id.", "parameters": [_ID],
            "responses": {"202": _json("the delivery, queued", "Delivery"), **_refusals(*_DENIED, _UNKNOWN, (409, "its webhook is disabled"))},
        }
    },
    "/api/computing/webhooks/secret/": {
        "get": {
            "operationId": "get_webhook_secret", "summary": "The secret that signs what goes to the URLs of single jobs.",
            "responses": {"200": _json("the secret", "Secret"), **_refusals(*_DENIED)},
        }
    },
    "/api/computing/webhooks/secret/rotate/": {
        "post": {
            "operationId": "rotate_account_webhook_secret", "summary": "Make that secret a new one; the old one signs too for 24 hours.",
            "responses": {"200": _json("the new secret", "Secret"), **_refusals(*_DENIED)},
        }
    },
}  # fmt: skip
