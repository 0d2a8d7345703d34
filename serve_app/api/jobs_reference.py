"""The OpenAPI description of the jobs API, `/api/computing/`. Written by hand: its routes read raw bodies."""

from typing import Any

from serve_app.api.jobs_dialect import MAX_NAME, MAX_STOPS, MAX_TOKENS
from serve_app.api.provider_stats import MOST_DAYS, USUAL_DAYS
from serve_app.api.queries import MAX_CURSOR, MAX_PAGE, USUAL_PAGE
from serve_app.store.records import WIRE_STATES

Schema = dict[str, Any]
PROBLEM: Schema = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
TEXTS = {
    400: "a field is wrong", 401: "no credential, or none of ours", 402: "insufficient funds", 403: "somebody else's, or the credential lacks the scope",
    404: "unknown", 409: "it has ended", 413: "the body is too large", 422: "the Idempotency-Key was used with another body",
    429: "too much is open, or too many requests", 503: "a part of the platform does not answer; come back after `Retry-After`",
}  # fmt: skip


def problems(*statuses: int) -> Schema:
    """Describe refusals."""
    return {str(status): {"description": TEXTS[status], **PROBLEM} for status in statuses}


def _answer(status: int, description: str, schema: str, headers: Schema | None = None) -> Schema:
    described: Schema = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    return {str(status): described | ({"headers": headers} if headers else {})}


def _query(name: str, description: str, **schema: Any) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _nullable(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _object(properties: Schema, *optional: str) -> Schema:
    return {"type": "object", "required": [name for name in properties if name not in optional], "properties": properties}


CREDITS = _text("Credits, 2 to 6 decimals.", pattern=r"^-?\d+\.\d{2,6}$", examples=["1.00"])
MOMENT = _text("RFC 3339, UTC.", format="date-time")
COUNT: Schema = {"type": "integer", "minimum": 0}
RATE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
STATUS: Schema = {"type": "string", "enum": list(WIRE_STATES.values())}
PAGE = [
    _query("limit", "Rows per page.", type="integer", minimum=1, maximum=MAX_PAGE, default=USUAL_PAGE),
    _query("cursor", "`next` of the page before.", type="string", maxLength=MAX_CURSOR),
]
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
NEXT: Schema = {"type": ["string", "null"], "description": "The cursor of the next page; null: this is the last one."}
WAIT = _nullable(_object({"ahead": COUNT, "estimated_s": {"type": "number", "minimum": 0}}))
PRICE = _object({"job": CREDITS, "prompt_per_million": CREDITS, "completion_per_million": CREDITS})
ENDS = {
    "jobs": COUNT, "completed": COUNT, "failed": COUNT, "canceled": COUNT, "success_rate": RATE, "completion_tokens": COUNT,
}  # fmt: skip
MEASURED: Schema = {"type": ["number", "null"], "minimum": 0}
COUNTED: Schema = {"type": ["integer", "null"], "minimum": 0}
GPU = _object({
    "name": {"type": "string"}, "uuid": {"type": "string"}, "memory_bytes": COUNT, "free_bytes": COUNTED, "driver": {"type": ["string", "null"]},
    "mig": {"type": ["boolean", "null"]}, "part_of": {"type": ["string", "null"], "description": "Of a MIG device: the uuid of its card."},
    "utilization_percent": COUNTED, "temperature_c": {"type": ["integer", "null"]},
})  # fmt: skip
NODE_MODEL = _object({
    "name": {"type": "string"}, "digest": {"type": "string"}, "size_bytes": COUNT, "context_tokens": COUNT, "loaded": {"type": "boolean"},
    "tokens_per_s": MEASURED, "first_token_s": MEASURED, "first_token_p99_s": MEASURED, "job_s": MEASURED,
    "needed_bytes": COUNTED, "took_bytes": COUNTED, "gpu_bytes": COUNTED,
    "fits": {"type": "boolean"}, "trouble": _text("What is not as it should be with it; empty: nothing."),
})  # fmt: skip
NODE_ROW = _object({
    "id": {"type": "string"}, "name": {"type": "string"}, "kind": {"type": "string", "enum": ["edge", "trusted"]},
    "provider": {"type": ["string", "null"]}, "owner": {"type": ["string", "null"]}, "state": {"type": ["string", "null"]},
    "online": {"type": "boolean"}, "healthy": {"type": "boolean"}, "draining": {"type": "boolean"},
    "reason": _text("Why it is not healthy, or draining; else empty."), "zone": {"type": "string"},
    "operation": _text("What is done with its models now, in words."), "slots": COUNT, "running": COUNT, "runtime": {"type": "string"},
    "gpus": {"type": "array", "items": GPU}, "models": {"type": "array", "items": NODE_MODEL},
})  # fmt: skip
NODE_FIGURES = _object({
    "node_id": {"type": "string"}, "name": {"type": "string"}, "jobs": COUNT, "attempts": COUNT, "broken": COUNT, "success_rate": RATE,
    "completion_tokens": COUNT,
})  # fmt: skip
CANCELED = {**_answer(202, "the job; it stops within a second", "Job"), **problems(401, 403, 404, 409, 503)}

SCHEMAS: Schema = {
    "JobAsked": {
        "type": "object", "required": ["prompt"], "additionalProperties": False,
        "properties": {
            "prompt": _text("What to ask; not blank.", minLength=1, examples=["Why is the sky blue?"]),
            "system": _text("What the model is told before it: its role, its manner."),
            "model": _text("Left out: the platform's default.", maxLength=MAX_NAME),
            "provider": _text("A username or a node's id: it runs there or nowhere.", maxLength=MAX_NAME),
            "webhook": _text("An address that is told of the job's end; see the webhooks."),
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS},
            "options": {
                "type": "object", "additionalProperties": False,
                "properties": {
                    "temperature": {"type": "number", "minimum": 0, "maximum": 2}, "top_p": {"type": "number", "minimum": 0, "maximum": 1},
                    "seed": {"type": "integer"},
                    "stop": {"oneOf": [{"type": "string"}, {"type": "array", "maxItems": MAX_STOPS, "items": {"type": "string"}}]},
                },
            },
        },
    },
    "Submitted": _object({"status": {"const": "submitted"}, "job_id": {"type": "string"}, "held": CREDITS}),
    "Quote": _object({"model": {"type": "string"}, "max_cost": CREDITS, "price": PRICE, "prompt_tokens": COUNT, "max_tokens": COUNT, "wait": WAIT}),
    "JobRow": _object({
        "id": {"type": "string"}, "status": STATUS, "prompt": _text("Its first 80 characters."), "model": {"type": "string"},
        "cost": _nullable(CREDITS), "created_at": MOMENT, "completed_at": _nullable(MOMENT),
    }),
    "JobPage": _object({"results": {"type": "array", "items": {"$ref": "#/components/schemas/JobRow"}}, "next": NEXT}),
    "Job": _object({
        "id": {"type": "string"}, "status": STATUS,
        "result": _nullable({"type": "object", "properties": {"output": {"type": "string"}, "error": {"type": "string"}}}),
        "prompt": {"type": "string"}, "model": {"type": "string"}, "cost": _nullable(CREDITS), "held": CREDITS, "created_at": MOMENT,
        "started_at": _nullable(MOMENT), "completed_at": _nullable(MOMENT),
        "node": _nullable(_object({"id": {"type": "string"}, "name": {"type": "string"}, "provider": {"type": ["string", "null"]}})),
        "usage": _nullable(_object({"prompt_tokens": COUNT, "completion_tokens": {"type": ["integer", "null"]}})),
        "attempts": COUNT, "incomplete": {"type": "boolean"}, "system": {"type": ["string", "null"]}, "wait": WAIT,
    }, "system", "wait"),
    "JobWhy": _object({
        "id": {"type": "string"}, "status": STATUS, "attempts": COUNT, "waiting": {"type": ["integer", "null"], "description": "Jobs that wait for its model."},
        "decisions": {"type": "array", "items": _object({
            "attempt": COUNT, "at": MOMENT, "node": {"type": ["string", "null"]}, "name": {"type": ["string", "null"]},
            "refused": {"type": "object", "description": "Why not these, by node: a sentence each.", "additionalProperties": {"type": "string"}},
            "others": {"type": "integer", "description": "How many more were not taken."},
        })},
        "error": {"type": ["string", "null"]}, "wait": WAIT,
    }),
    "Receipt": _object({
        "receipt": _text("A JWT (typ gfe-receipt+jwt); the ledger's public keys are at /.well-known/jwks.json."),
        "claims": _object({
            "job": {"type": "string"}, "outcome": {"type": "string", "enum": ["succeeded", "incomplete", "canceled", "voided", "expired"]},
            "model": {"type": "string"}, "model_digest": {"type": "string"}, "text_sha256": {"type": "string"},
            "node": {"type": ["string", "null"]}, "node_key": {"type": ["string", "null"]}, "cost": CREDITS, "refunded": CREDITS, "held": CREDITS,
            "settled_at": MOMENT, "agent": {"type": "object"},
        }, "agent"),
    }),
    "Models": _object({
        "models": {"type": "array", "items": _object({
            "name": {"type": "string"}, "providers": {"type": "array", "items": {"type": "string"}}, "nodes": COUNT, "online": {"type": "boolean"},
            "context_tokens": COUNTED | {"description": "The longest context that a node offers it with now; null: no node does."},
            "price": PRICE,
        })},
        "total_nodes": COUNT,
    }),
    "Stats": _object({"active_nodes": COUNT, "total_jobs": COUNT, "completed_jobs": COUNT, "available_models": COUNT}),
    "ProviderStats": _object({
        "days": COUNT, **ENDS, "nodes": _object({"total": COUNT, "online": COUNT}),
        "by_model": {"type": "array", "items": _object({"model": {"type": "string"}, **ENDS})},
        "by_node": {"type": "array", "items": NODE_FIGURES},
    }),
    "WhyNoJobs": _object({
        "node_id": {"type": "string"}, "name": {"type": "string"}, "takes_jobs": {"type": "boolean"},
        "reasons": {"type": "array", "description": "What keeps every job away, one sentence each.", "items": {"type": "string"}},
        "models": {"type": "array", "items": _object({"model": {"type": "string"}, "offered": {"type": "boolean"}, "why": {"type": "string"}})},
        "done": NODE_FIGURES,
    }),
    "NodeRow": NODE_ROW,
    "NodePage": _object({"results": {"type": "array", "items": {"$ref": "#/components/schemas/NodeRow"}}, "next": NEXT}),
}  # fmt: skip
ASKED = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobAsked"}}}}
PATHS: Schema = {
    "/api/computing/submit-job/": {"post": {
        "operationId": "submit_job", "summary": "Submit a job that runs by itself; it waits for a node if it must.", "requestBody": ASKED,
        "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}}],
        "responses": {
            **_answer(201, "it is taken", "Submitted", {"Location": {"schema": {"type": "string"}}}),
            **problems(400, 401, 402, 403, 409, 413, 422, 429, 503),
        },
    }},
    "/api/computing/quote/": {"post": {
        "operationId": "quote_job", "summary": "The most a job can cost, and how long it is likely to wait; nothing is held.", "requestBody": ASKED,
        "responses": {**_answer(200, "the quote", "Quote"), **problems(400, 401, 403, 413, 503)},
    }},
    "/api/computing/jobs/": {"get": {
        "operationId": "list_jobs", "summary": "Your jobs, newest first, without their answers.",
        "parameters": [
            *PAGE, _query("status", "Only those in this state.", **STATUS), _query("model", "Only those of this model.", type="string", maxLength=MAX_NAME),
        ],
        "responses": {**_answer(200, "a page", "JobPage"), **problems(400, 401, 403, 503)},
    }},
    "/api/computing/jobs/{id}/": {
        "get": {
            "operationId": "get_job", "summary": "A job of yours: state, answer, cost.", "parameters": [ID],
            "responses": {**_answer(200, "the job", "Job"), **problems(401, 403, 404, 503)},
        },
        "delete": {"operationId": "delete_job", "summary": "Cancel a job of yours, as `…/cancel/` does.", "parameters": [ID], "responses": CANCELED},
    },
    "/api/computing/jobs/{id}/cancel/": {"post": {
        "operationId": "cancel_job", "summary": "Cancel a job of yours: nothing said yet costs nothing, else the flat price and what was said.",
        "parameters": [ID], "responses": CANCELED,
    }},
    "/api/computing/jobs/{id}/stream/": {"get": {
        "operationId": "stream_job", "summary": "A job's events from a position to its end, as server-sent events: text, beat, end, error.",
        "parameters": [
            ID, _query("from", "The first event that you want.", type="integer", minimum=0, default=0),
            {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer"}},
        ],
        "responses": {"200": {"description": "the events", "content": {"text/event-stream": {}}}, **problems(400, 401, 403, 404, 503)},
    }},
    "/api/computing/jobs/{id}/why/": {"get": {
        "operationId": "explain_job", "summary": "Why a job went where it went, in one sentence per node.", "parameters": [ID],
        "responses": {**_answer(200, "the decisions", "JobWhy"), **problems(401, 403, 404, 503)},
    }},
    "/api/computing/jobs/{id}/receipt/": {"get": {
        "operationId": "get_receipt", "summary": "What a job of yours was and what it cost, signed by the platform and by the edge node that served it.",
        "parameters": [ID],
        "responses": {
            **_answer(200, "the receipt", "Receipt"), **problems(401, 403, 404, 503),
            "409": {"description": "it is not settled yet", **PROBLEM},
        },
    }},
    "/api/computing/models/": {"get": {
        "operationId": "list_offered_models", "summary": "The models that are offered, by whom, at which price. Everybody may ask.", "security": [],
        "responses": {**_answer(200, "the models", "Models"), **problems(503)},
    }},
    "/api/computing/stats/": {"get": {
        "operationId": "get_stats", "summary": "Four figures of the platform. Everybody may ask.", "security": [],
        "responses": {**_answer(200, "the figures", "Stats"), **problems(503)},
    }},
    "/api/computing/nodes/": {"get": {
        "operationId": "list_own_nodes", "summary": "Your nodes, and how each is now.", "parameters": PAGE,
        "responses": {**_answer(200, "a page", "NodePage"), **problems(400, 401, 403, 503)},
    }},
    "/api/computing/nodes/{id}/why/": {"get": {
        "operationId": "explain_node", "summary": "Why a node of yours gets no jobs, one sentence per reason and per model; and what it did of late.",
        "parameters": [ID],
        "responses": {**_answer(200, "the reasons", "WhyNoJobs"), **problems(401, 403, 404, 503)},
    }},
    "/api/computing/provider-stats/": {"get": {
        "operationId": "get_provider_stats", "summary": "What your nodes did; what they earned is told by `/api/payments/earnings/`.",
        "parameters": [_query("days", "Today and the days before it.", type="integer", minimum=1, maximum=MOST_DAYS, default=USUAL_DAYS)],
        "responses": {**_answer(200, "the figures", "ProviderStats"), **problems(400, 401, 403, 503)},
    }},
}  # fmt: skip
