"""`gfe jobs`: your jobs, one of them, why it went where it went, its receipt, who is told of its end; a job that runs by itself: what it can cost, its begin and its end."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from serve_app.cli import output, receipts, webhooks
from serve_app.cli.http import installation

JSON = typer.Option(False, "--json", help="Print JSON.")
JOB = typer.Argument(help="The job's id, job_…")
PROMPT = typer.Argument(help="What to ask; `-` reads it from standard input.")
MODEL = typer.Option(None, help="The model; left out: the platform's default.")
PROVIDER = typer.Option(None, help="Run it on this provider's machines alone: a username or a node's id.")
MAX_TOKENS = typer.Option(None, min=1, help="Longest answer, in tokens.")


class ShowByDefault(TyperGroup):
    """`gfe jobs job_…` is `gfe jobs show job_…`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the command in where only an id is given."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = typer.Typer(
    cls=ShowByDefault,
    help="Submit, list, show, explain and cancel your jobs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(webhooks.app, name="webhook")
app.command()(receipts.receipt)


@app.command("list")
def list_jobs(
    *,
    limit: int = typer.Option(20, min=1, max=100, help="Jobs to show."),
    status: str | None = typer.Option(None, help="Only those that are PENDING, RUNNING, COMPLETED, FAILED or CANCELED."),
    model: str | None = typer.Option(None, help="Only those of this model."),
    cursor: str | None = typer.Option(None, help="Go on where a list ended: its `next`."),
    as_json: bool = JSON,
) -> None:
    """List your jobs, newest first."""
    found = installation()
    asked = {"limit": limit, "status": status.upper() if status else None, "model": model, "cursor": cursor}
    query = {name: value for name, value in asked.items() if value is not None}
    said: dict[str, Any] = found.call("GET", f"{found.api_url}/api/computing/jobs/", params=query)
    if as_json:
        output.data(said, as_json=True)
        return
    rows = [
        (row["id"], row["status"], row["created_at"][:19], row["model"], row["cost"] or "-", " ".join(row["prompt"].split())[:40])
        for row in said["results"]
    ]
    output.data(output.table(rows, "job", "status", "created", "model", "cost", "prompt"), as_json=False)
    if said["next"]:
        output.note(f"\nhint: `gfe jobs list --cursor {said['next']}` shows older ones")


@app.command()
def submit(
    prompt: str = PROMPT,
    *,
    model: str | None = MODEL,
    provider: str | None = PROVIDER,
    max_tokens: int | None = MAX_TOKENS,
    key: str | None = typer.Option(None, help="Idempotency key: the same key again is the same job."),
    as_json: bool = JSON,
) -> None:
    """Submit a job that runs by itself; it waits for a node if it must."""
    found = installation()
    headers = {"Idempotency-Key": key} if key else {}
    body = _body(prompt, model, provider, max_tokens)
    said = found.call("POST", f"{found.api_url}/api/computing/submit-job/", json=body, headers=headers)
    output.data(said if as_json else said["job_id"], as_json=as_json)
    if not as_json:
        output.note(f"held {said['held']}\n\nhint: `gfe jobs {said['job_id']}` shows how it is")


@app.command()
def quote(
    prompt: str = PROMPT,
    *,
    model: str | None = MODEL,
    provider: str | None = PROVIDER,
    max_tokens: int | None = MAX_TOKENS,
    as_json: bool = JSON,
) -> None:
    """Tell the most that a job can cost and how long it is likely to wait; nothing is held."""
    found = installation()
    said = found.call("POST", f"{found.api_url}/api/computing/quote/", json=_body(prompt, model, provider, max_tokens))
    output.data(said if as_json else quoted(said), as_json=as_json)


@app.command()
def cancel(job: str = JOB, *, as_json: bool = JSON) -> None:
    """Cancel one of your jobs; what was delivered is charged."""
    found = installation()
    said = found.call("POST", f"{found.api_url}/api/computing/jobs/{job}/cancel/")
    output.data(said if as_json else f"{said['id']} was {said['status']} and is being canceled", as_json=as_json)


def _body(prompt: str, model: str | None, provider: str | None, max_tokens: int | None) -> dict[str, Any]:
    text = sys.stdin.read() if prompt == "-" else prompt
    asked = {"prompt": text, "model": model, "provider": provider, "max_tokens": max_tokens}
    return {name: value for name, value in asked.items() if value is not None}


def quoted(said: dict[str, Any]) -> str:
    """Write a quote for a person."""
    wait, price = said["wait"], said["price"]
    expected = "nobody can say: no node takes it now" if wait is None else f"about {wait['estimated_s']:.0f} s, {wait['ahead']} before it"
    per_million = f"{price['prompt_per_million']} and {price['completion_per_million']} per million tokens read and written"
    lines = [
        ("model", said["model"]),
        ("cost", f"at most {said['max_cost']}"),
        ("price", f"{price['job']} per job, {per_million}"),
        ("wait", expected),
    ]
    return "\n".join(f"{name:<8}{text}" for name, text in lines)


@app.command()
def show(job: str = JOB, *, as_json: bool = JSON) -> None:
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
        *([("wait", f"about {said['wait']['estimated_s']:.0f} s, {said['wait']['ahead']} before it")] if said["wait"] else []),
        ("cost", said["cost"] or f"open, at most {said['held']}"),
        ("tokens", f"{usage.get('prompt_tokens', '-')} read, {usage.get('completion_tokens', '-')} written"),
        ("prompt", said["prompt"]),
        *((name, text) for name, text in (said["result"] or {}).items()),
    ]
    output.data("\n".join(f"{name:<8}{text}" for name, text in lines), as_json=False)


@app.command()
def why(job: str = JOB, *, as_json: bool = JSON) -> None:
    """Tell why a job went where it went, in one sentence per node."""
    found = installation()
    said: dict[str, Any] = found.call("GET", f"{found.api_url}/api/computing/jobs/{job}/why/")
    output.data(said if as_json else "\n".join(sentences(said)), as_json=as_json)


def sentences(said: dict[str, Any]) -> list[str]:
    """Write decisions for a person."""
    lines = [f"{said['id']} is {said['status']} after {said['attempts']} attempt{'s' if said['attempts'] != 1 else ''}"]
    for one in said["decisions"]:
        lines.append(
            f"attempt {one['attempt']}: {'chose ' + str(one['name']) if one['node'] else 'no node could take it at once; it waited'}"
        )
        lines += [f"  {node}: {reason}" for node, reason in one["refused"].items()]
        if one["others"]:
            lines.append(f"  and {one['others']} more nodes")
    if said["wait"]:
        lines.append(f"waits now, {said['wait']['ahead']} before it, about {said['wait']['estimated_s']:.0f} s")
    elif said["waiting"] is not None:
        lines.append(f"waits now; {said['waiting']} jobs wait for this model")
    if said["error"]:
        lines.append(f"it ended with: {said['error']}")
    return lines
