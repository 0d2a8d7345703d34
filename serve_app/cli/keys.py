"""`gfe keys`: make, list and revoke API keys."""

import typer

from serve_app.cli import output
from serve_app.cli.http import installation

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def create(
    name: str = typer.Option(..., help="What the key is for."),
    scope: list[str] | None = typer.Option(None, help="A scope; repeat it for more. Left out: all that the calling key has."),
    *,
    as_json: bool = JSON,
) -> None:
    """Make a key; it is shown this once."""
    found = installation()
    body = {"name": name} | ({"scopes": scope} if scope else {})
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
    shown = [(row["id"], row["name"], " ".join(row["scopes"]), "revoked" if row["revoked_at"] else "valid") for row in rows]
    output.data(output.table(shown, "id", "name", "scopes", "state"), as_json=False)


@app.command()
def revoke(id_: str = typer.Argument(metavar="ID", help="The key's id, as `gfe keys list` shows it."), *, as_json: bool = JSON) -> None:
    """Revoke a key, at once."""
    found = installation()
    found.call("POST", f"{found.console_url}/api/core/keys/{id_}/revoke/")
    output.data({"id": id_, "revoked": True} if as_json else f"revoked {id_}", as_json=as_json)
