"""`gfe admin models`: what nodes have, and loading, unloading and pulling it, on the platform's own machine."""

import json
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from serve_app.cli import output
from serve_app.cli.nodes import GIB, model_line, operators

app = typer.Typer(help="Load, unload and pull models on nodes.", no_args_is_help=True, pretty_exceptions_enable=False)
JSON = typer.Option(False, "--json", help="Print JSON, one line per step.")
NODE = typer.Option(..., help="Its id or its name.")
MODEL = typer.Argument(help="As Ollama writes it, e.g. smollm2:135m.")
SILENCE_S = 30.0  # a step comes every two seconds


@app.command("list")
def list_models(node: str | None = typer.Option(None, help="One node, by id or name."), *, as_json: bool = JSON) -> None:
    """List the models that nodes have."""
    found, url = operators()
    rows = [found.call("GET", f"{url}{node}/")] if node else found.call("GET", url)["results"]
    if as_json:
        output.data([{"node": row["name"], "node_id": row["id"], **model} for row in rows for model in row["models"]], as_json=True)
        return
    lines = [f"{row['name']}: {model_line(model)}" for row in rows for model in row["models"]]
    lines += [f"{row['name']}: now {row['operation']}" for row in rows if row["operation"]]
    output.data("\n".join(lines) or "no node has a model", as_json=False)


@app.command()
def load(
    model: str = MODEL,
    node: str = NODE,
    *,
    force: bool = typer.Option(False, "--force", help="Load it even though the memory seems too small."),
    as_json: bool = JSON,
) -> None:
    """Load a model into a node's memory, so that its next job need not wait for that."""
    _operate(node, {"action": "load", "model": model, "force": force}, as_json=as_json)


@app.command()
def unload(model: str = MODEL, node: str = NODE, *, as_json: bool = JSON) -> None:
    """Give a model's memory back, after the jobs that run on it."""
    _operate(node, {"action": "unload", "model": model}, as_json=as_json)


@app.command()
def pull(model: str = MODEL, node: str = NODE, *, as_json: bool = JSON) -> None:
    """Let a node fetch a model, where its operator allows that."""
    _operate(node, {"action": "pull", "model": model}, as_json=as_json)


def _operate(node: str, asked: dict[str, Any], *, as_json: bool) -> None:
    last = ""
    for step in _steps(node, asked):
        if as_json:
            output.data(step, as_json=True)
            sys.stdout.flush()
        if "error" in step:
            _refuse(step)
        if step["status"] == "success":
            break
        if not as_json and (words := words_of(step)) != last:
            last = words
            output.note(f"  {words}")
    else:
        output.refuse(f"{node} has not said how it ended", "`gfe admin models list` shows what is loaded")
    if not as_json:
        output.data(last.strip(), as_json=False)


def _steps(node: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Ask for an operation; yield its steps as they come."""
    import httpx2

    from serve_app.cli.http import error_of

    found, url = operators()
    timeout = httpx2.Timeout(connect=3, read=SILENCE_S, write=30, pool=5)
    headers = {"Authorization": f"Bearer {found.key}"}
    try:
        with httpx2.stream("POST", f"{url}{node}/models/", json=asked, headers=headers, timeout=timeout, trust_env=False) as answer:
            if answer.is_error:
                output.refuse(*error_of(answer.read()))
            for line in answer.iter_lines():
                yield json.loads(line)
    except (httpx2.HTTPError, ValueError) as failed:
        output.refuse(f"{node} does not answer ({type(failed).__name__})", "`gfe nodes` tells which nodes are here")


def words_of(step: dict[str, Any]) -> str:
    """Write a step for people: what is done, and how much of it."""
    done, total = step.get("completed_bytes"), step.get("total_bytes")
    if not total:
        return str(step["status"])
    return f"{step['status']}  {(done or 0) / GIB:.2f} of {total / GIB:.2f} GiB ({100 * (done or 0) // total} %)"


def _refuse(step: dict[str, Any]) -> NoReturn:
    output.refuse(str(step["error"]), step.get("hint") or None)
