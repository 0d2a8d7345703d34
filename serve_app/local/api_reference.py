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
from serve_app.local.api_examples import Call, curl, javascript, python

HEAD = """# The job APIs, route by route

Made by `python -m serve_app.local.api_reference docs/reference`; do not edit.

Every example can be pasted, with `GFE_API_KEY` in the environment; the tests run them all. Those in Python need what they import:
`pip install openai anthropic ollama httpx`. Those in JavaScript are modules for Node 22 or newer: `npm install openai @anthropic-ai/sdk ollama`;
`fetch` needs nothing, is in Node since 18, and in browsers, where `process` is not. `{id}` is the name of what you mean: the answer that made it
tells it, and the lists do.

How to read streams and send requests again: [the APIs](../concepts/apis.md); what is served and refused of the dialects' fields stands there too,
what they mean is their authors' to describe. Errors: [errors.md](errors.md). For programs: [jobs.openapi.json](jobs.openapi.json), and for
accounts and money [accounts.openapi.json](accounts.openapi.json).
"""
# GitHub reads Markdown inside a fold as it is, Python-Markdown (MkDocs) by `markdown` and its extension `md_in_html`.
FOLD = """<details markdown="1"><summary>Python, JavaScript</summary>

```python
{python}
```

```javascript
{javascript}
```

</details>

"""
GROUPS = (
    ("OpenAI", ("/v1/chat", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/models", "/v1/files", "/v1/batches")),
    ("Anthropic", ("/v1/messages",)),
    ("Ollama", ("/api/chat", "/api/generate", "/api/embed", "/api/tags", "/api/ps", "/api/show", "/api/pull", "/api/version")),
    ("Jobs", ("/api/computing/",)),
    ("Health", ("/healthz", "/readyz")),
)


def operations(prefixes: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """List method, path and description of what begins so."""
    for path, methods in OPENAPI["paths"].items():
        if path.startswith(prefixes):
            for method, operation in methods.items():
                yield method.upper(), path, operation


def page() -> str:
    """Write the page."""
    parts = [HEAD]
    for title, prefixes in GROUPS:
        parts.append(f"\n## {title}\n")
        for method, path, operation in operations(prefixes):
            call = Call.of(method, path, operation)
            parts.append(f"\n### `{method} {path}`\n\n{operation['summary']}\n\n```sh\n{curl(call)}\n```\n\n")
            parts.append(FOLD.format(python=python(call), javascript=javascript(call)))
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
