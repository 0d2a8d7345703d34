"""`gfe batch`: a file of requests, answered within a day at a lower price."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import Installation, installation

CHAT = "/v1/chat/completions"
JSON = typer.Option(False, "--json", help="Print JSON.")
BATCH = typer.Argument(help="The batch's id, batch_…")

app = typer.Typer(
    help="Have a file of requests answered within a day, at a lower price.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command()
def create(
    file: Path = typer.Argument(
        help="The requests, one JSON object a line: `custom_id`, `method`, `url`, `body`.", exists=True, dir_okay=False
    ),
    endpoint: str = typer.Option(CHAT, help="The route that all lines are for."),
    *,
    as_json: bool = JSON,
) -> None:
    """Send a file of requests and begin to have it answered."""
    found = installation()
    with file.open("rb") as opened:
        sent = found.call("POST", f"{found.api_url}/v1/files", files={"file": (file.name, opened)}, data={"purpose": "batch"})
    body = {"input_file_id": sent["id"], "endpoint": endpoint, "completion_window": "24h"}
    _show(found.call("POST", f"{found.api_url}/v1/batches", json=body), as_json=as_json)


@app.command("list")
def list_(*, as_json: bool = JSON) -> None:
    """List your batches, the newest first."""
    found = installation()
    said = found.call("GET", f"{found.api_url}/v1/batches?limit=100")
    rows = [(one["id"], one["status"], _counts(one), _time(one["created_at"])) for one in said["data"]]
    output.data(said if as_json else output.table(rows, "batch", "status", "answered", "created"), as_json=as_json)


@app.command()
def status(batch: str = BATCH, *, as_json: bool = JSON) -> None:
    """Tell how far a batch is."""
    _show(_find(installation(), batch), as_json=as_json)


@app.command()
def results(
    batch: str = BATCH, *, errors: bool = typer.Option(False, "--errors", help="Print the lines that failed."), as_json: bool = JSON
) -> None:
    """Print a batch's answers, one JSON object a line, in the order of its requests."""
    found = installation()
    said = _find(found, batch)
    file = said["error_file_id" if errors else "output_file_id"]
    if said["status"] in {"validating", "in_progress", "finalizing", "cancelling"}:
        output.refuse(f"{batch} is {said['status']} ({_counts(said)})", f"`gfe batch status {batch}` tells when it has ended")
    text = found.text(f"{found.api_url}/v1/files/{file}/content") if file else ""
    if as_json:
        output.data([json.loads(line) for line in text.splitlines()], as_json=True)
    else:
        output.piece(text)


@app.command()
def cancel(batch: str = BATCH, *, as_json: bool = JSON) -> None:
    """Begin no more lines of a batch; what it has so far stays."""
    found = installation()
    _show(found.call("POST", f"{found.api_url}/v1/batches/{batch}/cancel"), as_json=as_json)


def _find(found: Installation, batch: str) -> dict[str, Any]:
    said: dict[str, Any] = found.call("GET", f"{found.api_url}/v1/batches/{batch}")
    return said


def _show(said: dict[str, Any], *, as_json: bool) -> None:
    output.data(said if as_json else "\n".join(lines_of(said)), as_json=as_json)


def lines_of(said: dict[str, Any]) -> list[str]:
    """Write a batch for a person."""
    rows = [
        ("batch", said["id"]),
        ("status", said["status"]),
        ("endpoint", said["endpoint"]),
        ("answered", _counts(said)),
        ("until", _time(said["expires_at"])),
        ("input", said["input_file_id"]),
        *((name, said[field]) for name, field in (("output", "output_file_id"), ("errors", "error_file_id")) if said[field]),
    ]
    wrong = (said["errors"] or {"data": []})["data"]
    told = [f"line {one['line']}: {one['message']}" if one["line"] else one["message"] for one in wrong]
    return [f"{name:<10}{text}" for name, text in rows] + told


def _counts(said: dict[str, Any]) -> str:
    counts = said["request_counts"]
    return f"{counts['completed']} of {counts['total']}" + (f", {counts['failed']} failed" if counts["failed"] else "")


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
