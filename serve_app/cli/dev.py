"""`gfe dev …`: what development needs and production does not have: the mail that was sent, a deposit paid without money."""

import email
import email.policy
import json
from pathlib import Path
from typing import Any

import typer

from serve_app.cli.http import error_of, installation
from serve_app.cli.output import refuse
from serve_app.local.home import Home

app = typer.Typer(help="For development: mail, payments without money.", no_args_is_help=True)
PAY_LIMIT_S = 10


@app.command()
def mail(
    count: int = typer.Option(1, min=1, max=200, help="How many, newest first."),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the newest mail that was written into a file because no mail server is set."""
    files = sorted((Home.of_environment().root / "mail").glob("*.eml"), reverse=True)[:count]
    if not files:
        refuse("no mail was sent yet", "register with an `email`, or ask for a new password")
    read = [_read(path) for path in files]
    if as_json:
        typer.echo(json.dumps(read))
        return
    for one in read:
        typer.echo(f"To: {one['to']}\nSubject: {one['subject']}\n\n{one['text']}")


def _read(path: Path) -> dict[str, str]:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body: Any = message.get_body()
    return {"to": str(message["to"]), "subject": str(message["subject"]), "text": body.get_content() if body else ""}


@app.command()
def pay(
    deposit: str = typer.Argument(help="Id of the deposit, dep_…"),
    *,
    fail: bool = typer.Option(False, "--fail", help="Let the payment fail."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Confirm a deposit of the mock gateway, as its pay page does: the ledger gets the signed event."""
    import httpx2

    outcome = "failed" if fail else "succeeded"
    url = f"{installation().console_url}/api/payments/mock/pay/{deposit}/"
    try:
        answer = httpx2.post(url, data={"outcome": outcome}, timeout=PAY_LIMIT_S, trust_env=False)
    except httpx2.HTTPError as failed:
        refuse(f"{url} does not answer ({type(failed).__name__})", "`gfe status` tells which part is down")
    if answer.is_error:
        refuse(error_of(answer.content)[0], "`gfe wallet` lists deposits; the mock gateway is there in development only")
    typer.echo(json.dumps({"deposit": deposit, "outcome": outcome}) if as_json else f"{deposit}: {outcome}")
