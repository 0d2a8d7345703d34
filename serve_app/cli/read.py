"""`gfe models` and `gfe wallet`: what the APIs tell."""

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
