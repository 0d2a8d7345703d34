"""`gfe ledger …`: run the ledger, prepare it, prove its books."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from ledger.internal import AUTHORITY, CERTIFICATE, KEY

if TYPE_CHECKING:
    from ledger.payments.reconcile import Difference
    from ledger.settings import LedgerSettings

NEEDED_SECRETS = ("ledger_database_url", "pay_database_url", "api_key_pepper")
TLS_SECRETS = (AUTHORITY, CERTIFICATE, KEY)
STRIPE_SECRETS = ("stripe_api_key", "stripe_webhook_secret")
app = typer.Typer(help="The ledger: run it, prove its books.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def serve() -> None:
    """Serve the public port and the internal socket until stopped."""
    import uvloop

    from ledger.logs import configure
    from ledger.production import problems_of
    from ledger.serve import serve as run

    settings = _read_settings()
    if found := problems_of(settings):
        lines = "".join(f"\n- {one}" for one in found)
        _fail(f"GFE_ENV is production, and this is not fit for it:{lines}", "set each for real people, or leave GFE_ENV at `dev`")
    _require_secrets(settings)
    configure("ledger")
    uvloop.run(run(settings))


@app.command()
def check(
    *,
    strict: bool = typer.Option(False, "--strict", help="Exit 1 where GFE_ENV is not `production` too: before the world is let in."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Tell which settings are not fit for real people's money; exit 1 when there are any and GFE_ENV is production."""
    from ledger.production import unfit_for_production

    settings = _read_settings()
    found = unfit_for_production(settings)
    if strict and not settings.is_production:
        found.insert(0, f"GFE_ENV is {settings.env}: installations for real people say `production`")
    typer.echo(json.dumps({"env": settings.env, "unfit": found}) if as_json else "\n".join(found) or "fit for production")
    if found and (strict or settings.is_production):
        sys.exit(1)


@app.command()
def bootstrap(
    username: str = typer.Option("first", help="Name of the first consumer."),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make prices, the operator with this machine, and the first consumer with a key; again is harmless."""
    from ledger.bootstrap import bootstrap as run
    from ledger.db import DatabaseUnavailable

    settings = settings_here()
    try:
        done = asyncio.run(run(settings, username))
    except DatabaseUnavailable as failed:
        _fail(str(failed), "`gfe status` tells whether PostgreSQL runs")
    except ValueError as wrong:
        _fail(str(wrong), "choose another --username")
    if as_json:
        typer.echo(json.dumps({"username": done.username, "made_account": done.made_account, "made_key": done.made_key}))
        return
    typer.echo(f"account {done.username}: {'made' if done.made_account else 'was there'}")
    typer.echo(f"key: {'made, in ' + str(settings.secrets_dir / 'first_api_key') if done.made_key else 'was there'}")


@app.command()
def audit(*, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check every rule of the books on one snapshot; exit 1 when one is broken."""
    import psycopg

    from ledger.money.audit import audit_at

    try:
        findings = audit_at(_database_url())
    except psycopg.OperationalError as failed:
        _fail(f"the database does not answer: {str(failed).splitlines()[0]}", "`gfe status` tells whether PostgreSQL runs")
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


@app.command()
def reconcile(
    gateway: str = typer.Option("", help="Name of the gateway; left out: the default one."),
    days: int = typer.Option(30, min=1, max=3650, help="How far back to look."),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare a gateway's report with the books; exit 1 when they differ. Nothing is posted."""
    from ledger.amounts import credits_text
    from ledger.db import DatabaseUnavailable
    from ledger.errors import LedgerError

    settings = settings_here()
    try:
        found = asyncio.run(_reconciled(settings, gateway, days))
    except (LedgerError, DatabaseUnavailable) as failed:
        _fail(str(failed), f"gateways here: {', '.join(settings.gateway_names) or 'none'}; `gfe status` tells whether PostgreSQL runs")
    if as_json:
        lines = [
            {"what": one.what, "subject": one.subject, "at_gateway": credits_text(one.at_gateway), "in_books": credits_text(one.in_books)}
            for one in found
        ]
        typer.echo(json.dumps(lines))
    else:
        for one in found:
            typer.echo(f"{one.what:15} {one.subject}  gateway {credits_text(one.at_gateway)}  books {credits_text(one.in_books)}")
        if not found:
            typer.echo("no differences")
    if found:
        sys.exit(1)


async def _reconciled(settings: "LedgerSettings", gateway: str, days: int) -> "list[Difference]":
    from datetime import UTC, datetime, timedelta

    from ledger.context import LedgerContext
    from ledger.payments.reconcile import reconcile as run

    context = LedgerContext.of_settings(settings)
    try:
        return await run(context.payments, gateway or context.payments.default_gateway, datetime.now(UTC) - timedelta(days=days))
    finally:
        await context.aclose()


def _home() -> Path:
    return Path(os.environ.get("GFE_HOME") or Path.home() / ".local" / "share" / "gfe").expanduser()


def _database_url() -> str:
    """The ledger's login: by GFE_SECRETS_DIR, or that of the installation in GFE_HOME."""
    folder = Path(os.environ.get("GFE_SECRETS_DIR") or _home() / "secrets")
    try:
        return (folder / "ledger_database_url").read_text().strip()
    except OSError:
        _fail(f"there is no ledger below {folder}", "`gfe up` starts one; GFE_HOME names another installation")


def settings_here() -> "LedgerSettings":
    """Read the settings of the environment, or else of the installation in GFE_HOME; a wrong one is a line, not a traceback."""
    settings = _read_settings()
    _require_secrets(settings)
    return settings


def _read_settings() -> "LedgerSettings":
    from pydantic import ValidationError

    from ledger.settings import LedgerSettings

    os.environ.setdefault("GFE_SECRETS_DIR", str(_home() / "secrets"))
    os.environ.setdefault("GFE_LEDGER_SOCKET", str(_home() / "run" / "ledger" / "internal.sock"))
    try:
        return LedgerSettings()
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        name = f"GFE_{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        _fail(f"{name}{first['msg']}", "docs/reference/settings.md tells what each setting means")


def _require_secrets(settings: "LedgerSettings") -> None:
    wanted = [*NEEDED_SECRETS, *(STRIPE_SECRETS if "stripe" in settings.gateway_names else ())]
    wanted += TLS_SECRETS if settings.ledger_internal_port else ()
    wanted += ["google_client_secret"] * bool(settings.google_client_id) + ["github_client_secret"] * bool(settings.github_client_id)
    try:
        for name in wanted:
            settings.secret(name)
    except OSError as missing:
        _fail(f"{missing.filename}: {missing.strerror}", "GFE_SECRETS_DIR names the folder of secrets; `gfe up` makes them")


def _fail(what: str, hint: str) -> NoReturn:
    typer.echo(f"{what}\n\nhint: {hint}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    app()
