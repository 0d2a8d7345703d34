"""`gfe admin secrets`: makes the secrets of an installation of several machines, one folder per service."""

from pathlib import Path

import typer

from serve_app.cli import output


def secrets(
    folder: Path = typer.Argument(help="New folder; keep it closed, and a copy of it where no service runs."),
    database_url_file: Path = typer.Option(
        ..., help="File with the URL of PostgreSQL: postgresql://admin:…@host/gfe, a login that may create roles."
    ),
    ledger_host: list[str] = typer.Option(..., help="Name by which services call the ledger; again for each further one."),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make the secrets for compose or Kubernetes: keys, passwords, certificates; one folder per service."""
    from serve_app.local import fleet_secrets
    from serve_app.local.errors import Refused

    try:
        made = fleet_secrets.make(folder, database_url_file.read_text().strip(), ledger_host)
    except OSError as failed:
        output.refuse(f"{failed.filename}: {failed.strerror}", "name a file that you can read, and a folder that you can write")
    except Refused as refused:
        output.refuse(refused.what, refused.hint)
    lines = [f"{folder / name}: for {name}" for name in made] + [f"{folder / 'authority'}: signs certificates; give it to no service"]
    output.data({"folder": str(folder), "folders": made} if as_json else "\n".join(lines), as_json=as_json)
