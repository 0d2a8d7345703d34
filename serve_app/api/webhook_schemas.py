"""The shapes of `/api/computing/webhooks/` for the OpenAPI description."""

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
WEBHOOKS: dict[str, Any] = {
    "Webhook": _whole(_WEBHOOK),
    "WebhookSecret": _whole(_WEBHOOK | _SECRET),
    "WebhookList": _page("Webhook"),
    "NewWebhook": _given({"url": _TEXT, "events": _EVENTS, "key": {"type": ["string", "null"], "maxLength": 64}, "include_result": _FLAG, "description": _DESCRIPTION}, "url"),
    "WebhookChange": _given({"url": _TEXT, "events": _EVENTS, "include_result": _FLAG, "description": _DESCRIPTION, "enabled": _FLAG}),
    "Secret": _whole(_SECRET),
    "Delivery": _whole(_DELIVERY),
    "DeliveryList": _page("Delivery"),
}  # fmt: skip
