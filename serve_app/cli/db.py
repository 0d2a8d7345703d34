"""`gfe db`: the database's shape, its backup, and back."""

import os
from pathlib import Path

import typer

from serve_app.cli import output

app = typer.Typer(help="The database: its shape, its backup, and back.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The database: its shape, its backup, and back."""


@app.command()
def upgrade(*, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Run both sets of migrations under one lock: GFE_DATABASE_URL, or the embedded server of the running installation."""
    from serve_app.local import database, secrets
    from serve_app.local.home import Home

    home = Home.of_environment()
    home.make()
    passwords = secrets.make_all(home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    try:
        admin_url = os.environ.get("GFE_DATABASE_URL") or (home.secrets / "admin_database_url").read_text().strip()
        database.upgrade(admin_url, passwords)
    except OSError:
        output.refuse(f"there is no database in {home.root}", "`gfe up` makes one; GFE_DATABASE_URL names another server")
    except database.DatabaseUnsuitable as refused:
        output.refuse(refused.what, refused.hint)
    output.data({"upgraded": True} if as_json else "the database is up to date", as_json=as_json)


def _admin_url() -> str:
    from serve_app.local.home import Home

    home = Home.of_environment()
    try:
        return os.environ.get("GFE_DATABASE_URL") or (home.secrets / "admin_database_url").read_text().strip()
    except OSError:
        output.refuse(f"there is no database in {home.root}", "`gfe up` makes one; GFE_DATABASE_URL names another server")


@app.command()
def backup(
    target: Path = typer.Argument(help="File to write."), *, as_json: bool = typer.Option(False, "--json", help="Print JSON.")
) -> None:
    """Write the whole database into one file, while everything runs. Keep the secrets' folder beside it: keys are stored under its pepper."""
    from serve_app.local import backup as copies
    from serve_app.local.errors import Refused
    from serve_app.local.home import Home

    try:
        size = copies.backup(_admin_url(), target)
        copies.remember(Home.of_environment(), target, size)
    except Refused as refused:
        output.refuse(refused.what, refused.hint)
    output.data({"file": str(target), "bytes": size} if as_json else f"{target}: {size} bytes", as_json=as_json)


@app.command()
def restore(
    source: Path = typer.Argument(help="File that `gfe db backup` wrote."),
    into: str = typer.Option("gfe_restored", help="Name of the new database; an existing one is never touched."),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Read a backup into a new database and prove its books; exit 1 when they do not hold."""
    import psycopg

    from serve_app.local import backup as copies
    from serve_app.local import secrets
    from serve_app.local.errors import Refused
    from serve_app.local.home import Home

    try:
        home = Home.of_environment()
        passwords = secrets.make_all(home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
        url = copies.restore(_admin_url(), source, into, passwords=passwords)
        is_held, said = copies.audit(url)
    except Refused as refused:
        output.refuse(refused.what, refused.hint)
    except psycopg.OperationalError as failed:
        output.refuse(f"the database does not answer: {str(failed).splitlines()[0]}", "`gfe status` tells whether PostgreSQL runs")
    output.data({"database": into, "held": is_held} if as_json else f"{said}restored into {into}", as_json=as_json)
    if not is_held:
        output.refuse(f"the books in {into} do not hold", "keep the file, and look at an older one")
