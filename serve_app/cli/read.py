"""`gfe models`, `gfe jobs`, `gfe wallet`: what the APIs tell."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import installation

JSON = typer.Option(False, "--json", help="Print JSON.")


def models(*, as_json: bool = JSON) -> None:
    """List the models that are offered now."""
    found = installation()
    rows = found.call("GET", f"{found.api_url}/v1/models")["data"]
    if as_json:
        output.data(rows, as_json=True)
    elif rows:
        output.data("\n".join(row["id"] for row in rows), as_json=False)
    else:
        output.note("no node offers a model now\n\nhint: `gfe status` tells what the nodes do")


def jobs(job: str = typer.Argument(help="The job's id, job_…"), *, as_json: bool = JSON) -> None:
    """Show one of your jobs."""
    found = installation()
    said: dict[str, Any] = found.call("GET", f"{found.api_url}/api/computing/jobs/{job}/")
    if as_json:
        output.data(said, as_json=True)
        return
    usage = said["usage"] or {}
    lines = [
        ("job", said["id"]),
        ("status", said["status"] + (" (incomplete)" if said["incomplete"] else "")),
        ("model", said["model"]),
        ("node", (said["node"] or {}).get("id") or "-"),
        ("cost", said["cost"] or f"open, at most {said['held']}"),
        ("tokens", f"{usage.get('prompt_tokens', '-')} read, {usage.get('completion_tokens', '-')} written"),
        ("prompt", said["prompt"]),
        *((name, text) for name, text in (said["result"] or {}).items()),
    ]
    output.data("\n".join(f"{name:<8}{text}" for name, text in lines), as_json=False)


def wallet(*, limit: int = typer.Option(10, min=1, max=100, help="Entries to show."), as_json: bool = JSON) -> None:
    """Show your balance and the last entries."""
    found = installation()
    said = found.call("GET", f"{found.console_url}/api/payments/wallet/", params={"limit": limit})
    if as_json:
        output.data(said, as_json=True)
        return
    output.data(f"balance {said['balance']}  held {said['held']}  total {said['total']} credits\n", as_json=False)
    rows = [(row["created_at"][:19], row["amount"], row["balance_after"], row["description"]) for row in said["logs"]]
    output.data(output.table(rows, "time", "amount", "after", "what"), as_json=False)
