"""`gfe jobs webhook`: where your programs are told of your jobs' ends."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import Installation, installation

app = typer.Typer(
    help="Tell a program of yours when jobs end: add, list, test, rotate, remove; see what was delivered.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)  # fmt: skip
JSON = typer.Option(False, "--json", help="Print JSON.")
WEBHOOK = typer.Argument(help="The webhook's id, wh_…")
MORE = 100


def _there() -> tuple[Installation, str]:
    found = installation()
    return found, f"{found.api_url}/api/computing/webhooks/"


@app.command("list")
def list_webhooks(*, as_json: bool = JSON) -> None:
    """List your webhooks."""
    found, url = _there()
    rows = found.call("GET", url)["results"]
    if as_json:
        output.data(rows, as_json=True)
        return
    shown = [(row["id"], row["url"], " ".join(row["events"]), row["key"] or "every", _state(row)) for row in rows]
    output.data(output.table(shown, "id", "URL", "events", "key", "state"), as_json=False)


def _state(row: dict[str, Any]) -> str:
    """Say in a few words how an endpoint is."""
    if not row["enabled"]:
        return f"disabled: {row['disabled_reason']}"
    return f"fails since {row['failing_since'][:19]}" if row["failing_since"] else "well"


@app.command()
def add(
    url: str = typer.Argument(help="Where the events go, https://…"),
    event: list[str] | None = typer.Option(None, help="job.succeeded, job.failed or job.canceled; repeat it for more. Left out: all."),
    key: str | None = typer.Option(None, help="Of this API key's jobs alone, by its id as `gfe keys list` shows it."),
    description: str | None = typer.Option(None, help="A few words for yourself."),
    *,
    include_result: bool = typer.Option(False, "--include-result", help="Send the answer's text along."),
    as_json: bool = JSON,
) -> None:
    """Add a webhook; its secret is shown this once."""
    found, there = _there()
    given = {"events": event, "key": key, "description": description, "include_result": include_result}
    made = found.call("POST", there, json={"url": url} | {name: value for name, value in given.items() if value})
    _print_secret(made, as_json=as_json)


@app.command()
def rotate(
    webhook: str | None = typer.Argument(None, help="The webhook's id, wh_…; left out: the secret for the URLs of single jobs."), *, as_json: bool = JSON
) -> None:  # fmt: skip
    """Make a new secret; the old one signs too for 24 hours."""
    found, url = _there()
    _print_secret(found.call("POST", f"{url}{webhook or 'secret'}/rotate/"), as_json=as_json)


def _print_secret(made: dict[str, Any], *, as_json: bool) -> None:
    lines = [made["id"]] if "id" in made else []
    output.data(made if as_json else "\n".join([*lines, made["secret"]]), as_json=as_json)
    if not as_json and "id" in made:
        output.note("keep the secret now: it is not shown again")


@app.command()
def remove(webhook: str = WEBHOOK, *, as_json: bool = JSON) -> None:
    """Remove a webhook; what waits for it is not sent."""
    found, url = _there()
    found.call("DELETE", f"{url}{webhook}/")
    output.data({"id": webhook, "removed": True} if as_json else f"removed {webhook}", as_json=as_json)


@app.command()
def enable(webhook: str = WEBHOOK, *, as_json: bool = JSON) -> None:
    """Enable a webhook that was disabled."""
    found, url = _there()
    row = found.call("PATCH", f"{url}{webhook}/", json={"enabled": True})
    output.data(row if as_json else f"{webhook} is enabled", as_json=as_json)


@app.command("test")
def send_test(webhook: str = WEBHOOK, *, as_json: bool = JSON) -> None:
    """Send a test event; `gfe jobs webhook deliveries` tells what became of it."""
    found, url = _there()
    row = found.call("POST", f"{url}{webhook}/test/")
    output.data(row if as_json else f"queued {row['id']}", as_json=as_json)


@app.command()
def deliveries(
    webhook: str | None = typer.Argument(None, help="The webhook's id, wh_…; left out: all, with those of single jobs."),
    *,
    limit: int = typer.Option(20, min=1, max=MORE, help="Deliveries to show, newest first."),
    as_json: bool = JSON,
) -> None:
    """Show what was delivered, what waits, and what failed."""
    found, url = _there()
    rows = found.call("GET", f"{url}{webhook + '/' if webhook else ''}deliveries/", params={"limit": limit})["results"]
    if as_json:
        output.data(rows, as_json=True)
        return
    shown = [
        (row["id"], row["created_at"][:19], row["type"], row["job"] or "-", row["status"], str(row["attempts"]), _outcome(row))
        for row in rows
    ]
    output.data(output.table(shown, "id", "time", "event", "job", "state", "tries", "what"), as_json=False)


def _outcome(row: dict[str, Any]) -> str:
    if row["status"] == "pending":
        return f"{row['error']} Next try {row['next_attempt_at'][:19]}." if row["error"] else "waits"
    return str(row["error"] or f"answered {row['response_status']}")


@app.command()
def resend(delivery: str = typer.Argument(help="The delivery's id, evt_…"), *, as_json: bool = JSON) -> None:
    """Send a delivery once more, with the same id."""
    found, url = _there()
    row = found.call("POST", f"{url}deliveries/{delivery}/resend/")
    output.data(row if as_json else f"queued {row['id']}", as_json=as_json)
