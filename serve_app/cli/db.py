"""`gfe db`: the database's shape."""

import os

import typer

from serve_app.cli import output

app = typer.Typer(help="Bring the database to the newest shape.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Bring the database to the newest shape."""


@app.command()
def upgrade(*, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Run both sets of migrations under one lock: GFE_DATABASE_URL, or the embedded server of the running installation."""
    from serve_app.local import database, secrets
    from serve_app.local.home import Home

    home = Home.of_environment()
    home.make()
    passwords = secrets.make_all(home.secrets)
    try:
        admin_url = os.environ.get("GFE_DATABASE_URL") or (home.secrets / "admin_database_url").read_text().strip()
        database.upgrade(admin_url, ledger_password=passwords["gfe_ledger"], serve_password=passwords["gfe_serve"])
    except OSError:
        output.refuse(f"there is no database in {home.root}", "`gfe up` makes one; GFE_DATABASE_URL names another server")
    except database.DatabaseUnsuitable as refused:
        output.refuse(refused.what, refused.hint)
    output.data({"upgraded": True} if as_json else "the database is up to date", as_json=as_json)
