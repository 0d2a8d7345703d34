"""`gfe ledger …`: run the ledger, prepare it, prove its books."""

import asyncio
import json
import sys

import typer

app = typer.Typer(help="The ledger: run it, prove its books.", no_args_is_help=True)


@app.command()
def serve() -> None:
    """Serve the public port and the internal socket until stopped."""
    import uvloop

    from ledger.serve import serve as run
    from ledger.settings import LedgerSettings

    uvloop.run(run(LedgerSettings()))


@app.command()
def bootstrap(username: str = typer.Option("first", help="Name of the first consumer.")) -> None:
    """Make prices, the operator with this machine, and the first consumer with a key; again is harmless."""
    from ledger.bootstrap import bootstrap as run
    from ledger.settings import LedgerSettings

    done = asyncio.run(run(LedgerSettings(), username))
    typer.echo(json.dumps({"username": done.username, "made_account": done.made_account, "made_key": done.made_key}))


@app.command()
def audit(*, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check every rule of the books on one snapshot; exit 1 when one is broken."""
    from ledger.money.audit import audit_at

    findings = audit_at(_database_url())
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"rule": found.rule, "held": found.is_held, "violations": [list(map(str, row)) for row in found.violations]}
                    for found in findings
                ]
            )
        )
    else:
        for found in findings:
            typer.echo(f"{'held    ' if found.is_held else 'VIOLATED'}  {found.rule}")
            for row in found.violations:
                typer.echo(f"            {' | '.join(map(str, row))}")
    if not all(found.is_held for found in findings):
        sys.exit(1)


def _database_url() -> str:
    """The ledger's login: by GFE_SECRETS_DIR, or that of the installation in GFE_HOME."""
    import os
    from pathlib import Path

    home = Path(os.environ.get("GFE_HOME") or Path.home() / ".local" / "share" / "gfe").expanduser()
    folder = Path(os.environ.get("GFE_SECRETS_DIR") or home / "secrets")
    try:
        return (folder / "ledger_database_url").read_text().strip()
    except OSError:
        typer.echo(f"there is no ledger below {folder}\n\nhint: `gfe up` starts one; GFE_HOME names another installation", err=True)
        sys.exit(1)


if __name__ == "__main__":
    app()
