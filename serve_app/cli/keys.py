"""`gfe keys`: make, list and revoke API keys."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import installation

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def create(
    name: str = typer.Option(..., help="What the key is for."),
    scope: list[str] | None = typer.Option(None, help="A scope; repeat it for more. Left out: all that the calling key has."),
    budget_day: str | None = typer.Option(None, help="Credits per day, e.g. 5.00."),
    budget_month: str | None = typer.Option(None, help="Credits per month."),
    budget_total: str | None = typer.Option(None, help="Credits in all."),
    per_minute: int | None = typer.Option(None, help="Jobs per minute."),
    model: list[str] | None = typer.Option(None, help="A model that it may use; repeat it for more. Left out: all."),
    expires_at: str | None = typer.Option(None, help="When it ends, RFC 3339, e.g. 2027-01-01T00:00:00Z."),
    *,
    as_json: bool = JSON,
) -> None:
    """Make a key; it is shown this once."""
    found = installation()
    given = {
        "scopes": scope, "budget_day": budget_day, "budget_month": budget_month, "budget_total": budget_total, "per_minute": per_minute,
        "models": model, "expires_at": expires_at,
    }  # fmt: skip
    body = {"name": name} | {field: value for field, value in given.items() if value}
    made = found.call("POST", f"{found.console_url}/api/core/keys/", json=body)
    output.data(made if as_json else made["key"], as_json=as_json)
    if not as_json:
        output.note("keep it now: it is not shown again")


@app.command("list")
def list_keys(*, as_json: bool = JSON) -> None:
    """List your keys, newest first."""
    found = installation()
    rows = found.call("GET", f"{found.console_url}/api/core/keys/")["results"]
    if as_json:
        output.data(rows, as_json=True)
        return
    shown = [(row["id"], row["name"], " ".join(row["scopes"]), _limits(row), "revoked" if row["revoked_at"] else "valid") for row in rows]
    output.data(output.table(shown, "id", "name", "scopes", "limits", "state"), as_json=False)


def _limits(row: dict[str, Any]) -> str:
    """Write the limits of a key in a few words."""
    budgets = [f"{row[f'budget_{period}']}/{period}" for period in ("day", "month", "total") if row[f"budget_{period}"] is not None]
    per_minute = [f"{row['per_minute']} jobs/min"] if row["per_minute"] else []
    return ", ".join(budgets + per_minute + (row["models"] or [])) or "none"


@app.command()
def rename(
    id_: str = typer.Argument(metavar="ID", help="The key's id, as `gfe keys list` shows it."), name: str = typer.Argument(help="Its new name."), *, as_json: bool = JSON
) -> None:  # fmt: skip
    """Rename a key."""
    found = installation()
    row = found.call("PATCH", f"{found.console_url}/api/core/keys/{id_}/", json={"name": name})
    output.data(row if as_json else f"{id_} is {name}", as_json=as_json)


@app.command()
def revoke(id_: str = typer.Argument(metavar="ID", help="The key's id, as `gfe keys list` shows it."), *, as_json: bool = JSON) -> None:
    """Revoke a key, at once."""
    found = installation()
    found.call("POST", f"{found.console_url}/api/core/keys/{id_}/revoke/")
    output.data({"id": id_, "revoked": True} if as_json else f"revoked {id_}", as_json=as_json)
