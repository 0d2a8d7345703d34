"""`gfe chat`: talk to a model; streams, then tells cost and balance."""

import json
import sys
from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import Installation, error_of, installation


def chat(
    text: str | None = typer.Argument(None, help="What to say; left out: a conversation, ended by Ctrl-D."),
    *,
    model: str | None = typer.Option(None, "--model", "-m", help="Model; left out: the installation's default."),
    max_tokens: int = typer.Option(512, min=1, help="Longest answer, in tokens."),
    as_json: bool = typer.Option(False, "--json", help="Print the whole answer as JSON."),
) -> None:
    """Talk to a model; tells what it cost."""
    found = installation()
    if text is not None:
        _say(found, [{"role": "user", "content": text}], model, max_tokens, as_json=as_json)
        return
    messages: list[dict[str, str]] = []
    is_terminal = sys.stdin.isatty()
    while True:
        line = _ask(is_terminal=is_terminal)
        if line is None:
            return
        if line:
            messages.append({"role": "user", "content": line})
            messages.append({"role": "assistant", "content": _say(found, messages, model, max_tokens, as_json=as_json)})


def _ask(*, is_terminal: bool) -> str | None:
    try:
        return input(">>> " if is_terminal else "").strip()
    except EOFError:
        return None


def _say(found: Installation, messages: list[dict[str, str]], model: str | None, max_tokens: int, *, as_json: bool) -> str:
    """Send the conversation, print the answer as it comes; answer its text."""
    body: dict[str, Any] = {"messages": messages, "max_tokens": max_tokens, "stream": True, "stream_options": {"include_usage": True}}
    if model:
        body["model"] = model
    texts: list[str] = []
    usage: dict[str, Any] = {}
    for chunk in found.events(body):
        if "error" in chunk:
            output.refuse(*error_of(json.dumps(chunk).encode()))
        for choice in chunk["choices"]:
            texts.append(choice["delta"].get("content") or "")
            if not as_json:
                output.piece(texts[-1])
        usage = chunk.get("usage") or usage
    balance = found.call("GET", f"{found.console_url}/api/payments/wallet/", params={"limit": 1})["balance"]
    if as_json:
        output.data({"text": "".join(texts), "usage": usage, "balance": balance}, as_json=True)
    else:
        output.piece("\n")
        output.note(f"{usage.get('cost', '?')} credits · {usage.get('job', '?')} · balance {balance}")
    return "".join(texts)
