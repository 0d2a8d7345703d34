"""`gfe jobs`: one of your jobs, why it went where it went, and who is told of its end."""

from typing import Any

import typer
from typer.core import TyperGroup

from serve_app.cli import output, webhooks
from serve_app.cli.http import installation

JSON = typer.Option(False, "--json", help="Print JSON.")
JOB = typer.Argument(help="The job's id, job_…")


class ShowByDefault(TyperGroup):
    """`gfe jobs job_…` is `gfe jobs show job_…`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the command in where only an id is given."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = typer.Typer(
    cls=ShowByDefault, help="Show your jobs, and why each went where it went.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(webhooks.app, name="webhook")


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
