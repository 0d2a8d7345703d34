"""`gfe wallet`: your balance and the last entries; and what your nodes earned."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import installation

COLUMNS = {"day": "date", "model": "model", "node": "name"}
JSON = typer.Option(False, "--json", help="Print JSON.")
app = typer.Typer(
    help="Show your balance and the last entries; what your nodes earned.", invoke_without_command=True, pretty_exceptions_enable=False
)


@app.callback()
def wallet(context: typer.Context, *, limit: int = typer.Option(10, min=1, max=100, help="Entries to show."), as_json: bool = JSON) -> None:
    """Show your balance and the last entries."""
    if context.invoked_subcommand is not None:
        return
    found = installation()
    said = found.call("GET", f"{found.console_url}/api/payments/wallet/", params={"limit": limit})
    if as_json:
        output.data(said, as_json=True)
        return
    output.data(f"balance {said['balance']}  held {said['held']}  total {said['total']} credits\n", as_json=False)
    rows = [(row["created_at"][:19], row["amount"], row["balance_after"], row["description"]) for row in said["logs"]]
    output.data(output.table(rows, "time", "amount", "after", "what"), as_json=False)


@app.command()
def earnings(
    *,
    by: str = typer.Option("node", help="Sum up by day, model or node."),
    days: int = typer.Option(30, min=1, max=365, help="Today and the days before it."),
    as_json: bool = JSON,
) -> None:
    """Show what your nodes earned, and what of it waits until when."""
    if by not in COLUMNS:
        output.refuse(f"--by {by}: must be {', '.join(COLUMNS)}")
    found = installation()
    said: dict[str, Any] = found.call("GET", f"{found.console_url}/api/payments/earnings/", params={"days": days})
    if as_json:
        output.data(said, as_json=True)
        return
    output.data(
        f"earned {said['total']} in all, {said['period']} by {said['jobs']} jobs in {days} days; "
        f"{said['released']} can be withdrawn, {said['pending']} waits\n",
        as_json=False,
    )
    name = COLUMNS[by]
    rows = [
        (row[name] or row.get("node_id", ""), row["earned"], str(row["jobs"]))
        for row in said[f"by_{by}"]
        if row["jobs"] or row["earned"] != "0.00"
    ]
    output.data(output.table(rows, by, "earned", "jobs"), as_json=False)
    for one in said["escrows"]:
        output.note(f"\n{one['amount']} of {one['name'] or one['node_id'] or 'earlier nodes'} waits{until_of(one)}")


def until_of(escrow: dict[str, Any]) -> str:
    """Say until when."""
    if escrow["last_at"] is None:
        return ": nothing is released while the node is in quarantine or banned"
    return f"; all of it can be withdrawn after {escrow['last_at'][:16]} UTC"
