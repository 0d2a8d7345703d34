"""The example of a call, in curl, Python and JavaScript: written from one description, so that the three never differ.

A call that sends a body in another's dialect is made with the client that its authors publish, every other one with `httpx` and `fetch`.
"""

import json
from dataclasses import dataclass
from typing import Any

URL = "http://127.0.0.1:8000"
MODEL = "smollm2:135m"
LINE = 60  # characters between brackets that stay on a line
HELLO = [{"role": "user", "content": "Say hello"}]
PYTHON_KEY = 'os.environ["GFE_API_KEY"]'
PYTHON_HEADERS = f'headers={{"Authorization": "Bearer " + {PYTHON_KEY}}}'
JAVASCRIPT_KEY = "process.env.GFE_API_KEY"
JAVASCRIPT_BEARER = f"Authorization: `Bearer ${{{JAVASCRIPT_KEY}}}`"


# --- what is sent -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class File:
    """A file that is sent: its name here."""

    name: str


BODIES: dict[str, dict[str, Any]] = {
    "create_chat_completion": {"model": MODEL, "messages": HELLO, "max_tokens": 20},
    "create_completion": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 20},
    "create_embeddings": {"model": MODEL, "input": ["one", "two"]},
    "create_response": {"model": MODEL, "input": "Say hello", "max_output_tokens": 20},
    "create_file": {"purpose": "batch", "file": File("requests.jsonl")},
    "create_batch": {"input_file_id": "file_…", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
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
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of one route, as its example makes it."""

    operation: str
    method: str
    path: str
    body: dict[str, Any]
    needs_key: bool
    is_stream: bool

    @classmethod
    def of(cls, method: str, path: str, operation: dict[str, Any]) -> "Call":
        """Read it from a route's description."""
        name, answer = operation["operationId"], operation["responses"].get("200", {})
        return cls(
            operation=name,
            method=method,
            path=path,
            body=BODIES.get(name, {}),
            needs_key=operation.get("security") != [],
            is_stream=list(answer.get("content", ())) == ["text/event-stream"],
        )

    @property
    def address(self) -> str:
        """The URL, quoted."""
        return f'"{URL}{self.path}"'

    @property
    def sends_files(self) -> bool:
        """Whether its body is a form."""
        return any(isinstance(value, File) for value in self.body.values())


# --- the clients of the dialects ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a dialect's own client is imported and made."""

    python: tuple[str, str]
    javascript: tuple[str, str]


OPENAI = Client(
    python=("from openai import OpenAI", f'OpenAI(base_url="{URL}/v1", api_key={PYTHON_KEY})'),
    javascript=('import OpenAI from "openai";', f'new OpenAI({{ baseURL: "{URL}/v1", apiKey: {JAVASCRIPT_KEY} }})'),
)
ANTHROPIC = Client(
    python=("from anthropic import Anthropic", f'Anthropic(base_url="{URL}", api_key={PYTHON_KEY})'),
    javascript=('import Anthropic from "@anthropic-ai/sdk";', f'new Anthropic({{ baseURL: "{URL}", apiKey: {JAVASCRIPT_KEY} }})'),
)
OLLAMA = Client(
    python=("from ollama import Client", f'Client(host="{URL}", {PYTHON_HEADERS})'),
    javascript=('import { Ollama } from "ollama";', f'new Ollama({{ host: "{URL}", headers: {{ {JAVASCRIPT_BEARER} }} }})'),
)


@dataclass(frozen=True, slots=True)
class Use:
    """Which method of a client makes a call, and what of its answer is shown: both read alike in Python and JavaScript, but for the case."""

    client: Client
    method: str
    shown: str


USES = {
    "create_chat_completion": Use(OPENAI, "chat.completions.create", "choices[0].message.content"),
    "create_completion": Use(OPENAI, "completions.create", "choices[0].text"),
    "create_embeddings": Use(OPENAI, "embeddings.create", "data[0].embedding"),
    "create_response": Use(OPENAI, "responses.create", "output_text"),
    "create_file": Use(OPENAI, "files.create", "id"),
    "create_batch": Use(OPENAI, "batches.create", "id"),
    "create_message": Use(ANTHROPIC, "messages.create", "content[0].text"),
    "count_tokens": Use(ANTHROPIC, "messages.count_tokens", "input_tokens"),
    "ollama_chat": Use(OLLAMA, "chat", "message.content"),
    "ollama_generate": Use(OLLAMA, "generate", "response"),
    "ollama_embed": Use(OLLAMA, "embed", "embeddings[0]"),
    "ollama_embeddings": Use(OLLAMA, "embeddings", "embedding"),
    "ollama_show": Use(OLLAMA, "show", "capabilities"),
    "ollama_pull": Use(OLLAMA, "pull", "status"),
}


# --- curl -----------------------------------------------------------------------------------------------------------------------------


def curl(call: Call) -> str:
    """Write a call as a command."""
    words = ["curl", *(["-N"] if call.is_stream else []), *([] if call.method == "GET" else ["-X", call.method]), call.address]
    if call.needs_key:
        words.append('-H "Authorization: Bearer $GFE_API_KEY"')
    if call.sends_files:
        words += [f"-F {name}={f'@{value.name}' if isinstance(value, File) else value}" for name, value in call.body.items()]
    elif call.body:
        words.append(f"-d '{json.dumps(call.body, ensure_ascii=False)}'")
    return " ".join(words)


# --- Python ---------------------------------------------------------------------------------------------------------------------------


def python(call: Call) -> str:
    """Write a call as a program in Python."""
    use = USES.get(call.operation)
    if use is None:
        return _by_httpx(call)
    imported, made = use.client.python
    arguments = [f"{name}={_in_python(value)}" for name, value in call.body.items()]
    return "\n".join([
        "import os", "", imported, "", f"client = {made}", f"answer = client.{use.method}({_listed(arguments, '    ')})", f"print(answer.{use.shown})",
    ])  # fmt: skip


def _by_httpx(call: Call) -> str:
    head = [*(["import os", ""] if call.needs_key else []), "import httpx", ""]
    headers = [PYTHON_HEADERS] if call.needs_key else []
    if call.is_stream:
        arguments = [f'"{call.method}"', call.address, *headers, "timeout=None"]
        shown = [
            f"with httpx.stream({_listed(arguments, '    ')}) as answer:",
            "    for line in answer.raise_for_status().iter_lines():",
            "        print(line)",
        ]
    else:
        arguments = [call.address, *headers, *([f"json={_in_python(call.body)}"] if call.body else [])]
        shown = [f"answer = httpx.{call.method.lower()}({_listed(arguments, '    ')})", "print(answer.raise_for_status().text)"]
    return "\n".join(head + shown)


def _in_python(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f'"{name}": {_in_python(inner)}' for name, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_in_python, value)) + "]"
        case File(name):
            return f'open("{name}", "rb")'
        case bool():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


# --- JavaScript -----------------------------------------------------------------------------------------------------------------------


def javascript(call: Call) -> str:
    """Write a call as a module in JavaScript."""
    use = USES.get(call.operation)
    if use is None:
        return _by_fetch(call)
    imported, made = use.client.javascript
    first, *others = use.method.split("_")
    method = first + "".join(map(str.capitalize, others))
    fields = [f"{name}: {_in_javascript(value)}" for name, value in call.body.items()]
    return "\n".join([
        *(['import { createReadStream } from "node:fs";'] if call.sends_files else []), imported, "",
        f"const client = {made};", f"const answer = await client.{method}({{{_listed(fields, '  ', space=' ')}}});", f"console.log(answer.{use.shown});",
    ])  # fmt: skip


def _by_fetch(call: Call) -> str:
    headers = [*([JAVASCRIPT_BEARER] if call.needs_key else []), *(['"Content-Type": "application/json"'] if call.body else [])]
    options = [
        *([] if call.method == "GET" else [f'method: "{call.method}"']),
        *([f"headers: {{ {', '.join(headers)} }}"] if headers else []),
        *([f"body: JSON.stringify({_in_javascript(call.body)})"] if call.body else []),
    ]
    given = f", {{{_listed(options, '  ', space=' ')}}}" if options else ""
    if call.is_stream:
        shown = "for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) process.stdout.write(piece);"
    else:
        shown = "console.log(await answer.text());"
    called = f"const answer = await fetch({call.address}{given});"
    return f"{called}\nif (!answer.ok) throw new Error(await answer.text());\n{shown}"


def _in_javascript(value: Any) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{name}: {_in_javascript(inner)}" for name, inner in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_in_javascript, value)) + "]"
        case File(name):
            return f'createReadStream("{name}")'
        case _:
            return json.dumps(value, ensure_ascii=False)


def _listed(arguments: list[str], indent: str, *, space: str = "") -> str:
    """Write what stands between brackets: on the line where it is short, else below each other."""
    line = ", ".join(arguments)
    if len(line) <= LINE:
        return f"{space}{line}{space}"
    return "".join(f"\n{indent}{argument}," for argument in arguments) + "\n"
