"""The routes of other people's dialects, for the OpenAPI description: what each field means is theirs to say, what we add and refuse is ours."""

from typing import Any

_ERRORS = {
    400: "a field is wrong; `param` names it", 401: "no key, a mistyped one, a revoked one", 402: "insufficient funds", 404: "unknown model",
    409: "the request with this Idempotency-Key still runs", 413: "body too large", 422: "Idempotency-Key of another request",
    429: "too much is open or waits; `Retry-After` says how long", 499: "the job was canceled meanwhile", 502: "the node or its runtime failed",
    503: "ledger, database or cluster does not answer",
}  # fmt: skip
_TEXT = {"schema": {"type": "string"}}
_KEY = {
    "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A repeat under the same key is answered from the same job and charged once; a stream is read along from its beginning.",
}  # fmt: skip


def _job(operation: str, summary: str, required: list[str], stream: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {}}
    if stream:
        content[stream] = {}
    body = {"type": "object", "required": required, "properties": {"model": {"type": "string"}}}
    headers = {"X-GFE-Job": _TEXT, "X-GFE-Cost": _TEXT, "Idempotent-Replayed": _TEXT}
    responses: dict[str, Any] = {"200": {"description": "the answer, whole or as a stream", "headers": headers, "content": content}}
    responses |= {str(status): {"description": text, "content": {"application/json": {}}} for status, text in _ERRORS.items()}
    return {
        "post": {
            "operationId": operation, "summary": summary, "parameters": [_KEY],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}, "responses": responses,
        }
    }  # fmt: skip


def _look(operation: str, summary: str, method: str = "get") -> dict[str, Any]:
    row: dict[str, Any] = {
        "operationId": operation, "summary": summary,
        "responses": {str(status): {"description": text} for status, text in ((200, "the answer"), (401, "no valid key"))},
    }  # fmt: skip
    if method == "post":
        row["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
        row["responses"] |= {"400": {"description": "a field is wrong"}, "404": {"description": "unknown model"}}
    return {method: row}


_SSE, _NDJSON = "text/event-stream", "application/x-ndjson"
PATHS: dict[str, Any] = {
    "/v1/completions": _job("create_completion", "OpenAI: go on with a prompt.", ["prompt"], _SSE),
    "/v1/embeddings": _job("create_embeddings", "OpenAI: embed texts.", ["input"], None),
    "/v1/responses": _job("create_response", "OpenAI: answer a conversation that the request carries whole.", ["input"], _SSE),
    "/v1/messages": _job("create_message", "Anthropic: answer a conversation.", ["max_tokens", "messages"], _SSE),
    "/v1/messages/count_tokens": _look("count_tokens", "Anthropic: count a prompt's tokens, or estimate them where no tokenizer is.", "post"),
    "/api/chat": _job("ollama_chat", "Ollama: answer a chat; the last line tells job and cost.", ["model"], _NDJSON),
    "/api/generate": _job("ollama_generate", "Ollama: answer a prompt; the last line tells job and cost.", ["model"], _NDJSON),
    "/api/embed": _job("ollama_embed", "Ollama: embed texts.", ["model"], None),
    "/api/embeddings": _job("ollama_embeddings", "Ollama, older: embed one text.", ["model"], None),
    "/api/tags": _look("ollama_tags", "Ollama: every model that is offered now."),
    "/api/ps": _look("ollama_ps", "Ollama: the models that are loaded somewhere."),
    "/api/show": _look("ollama_show", "Ollama: what a model is.", "post"),
    "/api/pull": _look("ollama_pull", "Ollama: what is offered is there already; nothing else is fetched.", "post"),
    "/api/version": {"get": {"operationId": "ollama_version", "security": [], "responses": {"200": {"description": "the version"}},
                             "summary": "Ollama: the version whose contract is kept."}},
}  # fmt: skip
