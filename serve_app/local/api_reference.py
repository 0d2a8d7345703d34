"""Writes what the APIs are from their descriptions: `python -m serve_app.local.api_reference docs/reference`.

Three files: `api.md` for people, and the OpenAPI descriptions of the job APIs and of the ledger, so that a change of either is seen in review.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.app import described
from serve_app.api.reference import OPENAPI

HEAD = """# The job APIs, route by route

Made by `python -m serve_app.local.api_reference docs/reference`; do not edit.

Every example is a command to paste, with `GFE_API_KEY` in the environment; the tests run them. The same in Python and JavaScript, with the
clients that OpenAI, Ollama and Anthropic publish: [the APIs](../concepts/apis.md). Errors: [errors.md](errors.md). Fields of the dialects are
their authors' to describe; what is served and refused of them stands in [the APIs](../concepts/apis.md) too. For programs:
[jobs.openapi.json](jobs.openapi.json), and for accounts and money [accounts.openapi.json](accounts.openapi.json).
"""
URL = "http://127.0.0.1:8000"
MODEL = "smollm2:135m"
HELLO = [{"role": "user", "content": "Say hello"}]
GROUPS = (
    ("OpenAI", ("/v1/chat", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/models", "/v1/files", "/v1/batches")),
    ("Anthropic", ("/v1/messages",)),
    ("Ollama", ("/api/chat", "/api/generate", "/api/embed", "/api/tags", "/api/ps", "/api/show", "/api/pull", "/api/version")),
    ("Jobs", ("/api/computing/",)),
    ("Health", ("/healthz", "/readyz")),
)
EXAMPLES: dict[str, Any] = {
    "create_chat_completion": {"model": MODEL, "messages": HELLO, "max_tokens": 20},
    "create_completion": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 20},
    "create_embeddings": {"model": MODEL, "input": ["one", "two"]},
    "create_response": {"model": MODEL, "input": "Say hello", "max_output_tokens": 20},
    "create_message": {"model": MODEL, "max_tokens": 20, "messages": HELLO},
    "count_tokens": {"model": MODEL, "messages": HELLO},
    "ollama_chat": {"model": MODEL, "messages": HELLO, "stream": False},
    "ollama_generate": {"model": MODEL, "prompt": "Say hello", "stream": False},
    "ollama_embed": {"model": MODEL, "input": "one"},
    "ollama_embeddings": {"model": MODEL, "prompt": "one"},
    "ollama_show": {"model": MODEL},
    "ollama_pull": {"model": MODEL, "stream": False},
    "submit_job": {"prompt": "Say hello", "max_tokens": 20},
    "quote_job": {"prompt": "Say hello", "max_tokens": 20},
    "add_webhook": {"url": "https://example.org/told"},
    "change_webhook": {"enabled": False},
    "create_batch": {"input_file_id": "file_…", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
}


def operations(prefixes: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """List method, path and description of what begins so."""
    for path, methods in OPENAPI["paths"].items():
        if path.startswith(prefixes):
            for method, operation in methods.items():
                yield method.upper(), path, operation


def example(method: str, path: str, operation: dict[str, Any]) -> str:
    """Write a call as a command."""
    words = ["curl", *([] if method == "GET" else ["-X", method]), f'"{URL}{path}"']
    if operation.get("security") != []:
        words.append('-H "Authorization: Bearer $GFE_API_KEY"')
    if operation["operationId"] == "create_file":
        words.append("-F purpose=batch -F file=@requests.jsonl")
    elif body := EXAMPLES.get(operation["operationId"]):
        words.append(f"-d '{json.dumps(body, ensure_ascii=False)}'")
    return " ".join(words)


def page() -> str:
    """Write the page."""
    parts = [HEAD]
    for title, prefixes in GROUPS:
        parts.append(f"\n## {title}\n")
        for method, path, operation in operations(prefixes):
            parts.append(f"\n### `{method} {path}`\n\n{operation['summary']}\n\n```sh\n{example(method, path, operation)}\n```\n\n")
            told = "; ".join(f"`{parameter['name']}`" for parameter in operation.get("parameters", ()))
            if told:
                parts.append(f"Parameters: {told}\n\n")
            parts.append("| Status | |\n|---|---|\n")
            parts += [f"| {status} | {answer['description']} |\n" for status, answer in operation["responses"].items()]
    return "".join(parts)


def files() -> dict[str, str]:
    """Write all of it, by the file's name."""
    return {
        "api.md": page(),
        "jobs.openapi.json": json.dumps(OPENAPI, indent=1, ensure_ascii=False) + "\n",
        "accounts.openapi.json": json.dumps(described(), indent=1, ensure_ascii=False) + "\n",
    }


if __name__ == "__main__":
    for name, text in files().items():
        (Path(sys.argv[1]) / name).write_text(text)
