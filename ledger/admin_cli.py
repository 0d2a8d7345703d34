"""`gfe admin …`: what operators do from the machine itself. It works on the database as the ledger's own login; all of it is in the audit log."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ledger.cli import settings_here

if TYPE_CHECKING:
    from ledger.context import LedgerContext

app = typer.Typer(
    help="For operators: people, money, prices, models, audits of nodes, keys of tokens.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
JSON = typer.Option(False, "--json", help="Print JSON.")
WHY = typer.Option(..., "--reason", help="Kept in the audit log.")


catalog = typer.Typer(help="Which models may be offered.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(catalog, name="catalog")
audits = typer.Typer(help="What audits found about nodes; quarantines and appeals.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(audits, name="audits")


def _run(work: "Callable[[LedgerContext], Awaitable[Any]]") -> Any:
    """Do something with the ledger's context; an expected failure is a line and a hint."""
    from ledger.context import LedgerContext
    from ledger.db import DatabaseUnavailable
    from ledger.errors import LedgerError

    async def inside() -> Any:
        context = LedgerContext.of_settings(settings_here())
        context.writer.start()
        try:
            return await work(context)
        finally:
            await context.aclose()

    try:
        return asyncio.run(inside())
    except DatabaseUnavailable as failed:
        _fail(str(failed), "`gfe status` tells whether PostgreSQL runs")
    except LedgerError as refused:
        _fail(str(refused), "`gfe admin --help` lists what there is")


def _fail(what: str, hint: str) -> NoReturn:
    typer.echo(f"{what}\n\nhint: {hint}", err=True)
    sys.exit(1)


def _origin() -> Any:
    from ledger.audit_log import Origin

    return Origin(f"cli/{os.environ.get('USER') or os.getuid()}")


def _id(prefix: str, text: str) -> uuid.UUID:
    from ledger.ids import uuid_of

    try:
        return uuid_of(prefix, text)
    except ValueError as wrong:
        _fail(str(wrong), "copy the whole id")


def _say(data: Any, text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)


@app.command("create-operator")
def create_operator(
    username: str = typer.Argument(help="Name of the account; made when there is none."),
    password_file: Path | None = typer.Option(None, help="File with the password of a new account; left out: it is asked for."),
    *,
    as_json: bool = JSON,
) -> None:
    """Make an account an operator's. No API can do this."""
    from ledger.operators import people

    async def work(context: "LedgerContext") -> Any:
        from ledger.identity.passwords import Passwords
        from ledger.identity.people import find_person

        known = await context.database.run(lambda connection: find_person(connection, username))
        password = await asyncio.to_thread(_password, password_file) if known is None or password_file else None
        settings = context.settings
        return await context.database.transact(
            lambda connection: people.create_operator(connection, username, password, Passwords(), settings.open_jobs, _origin())
        )

    made = _run(work)
    _say({"username": made.username}, f"{made.username} is an operator", as_json=as_json)


def _password(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text().rstrip("\n")
        except OSError as failed:
            _fail(f"{path}: {failed.strerror}", "name a file with the password in it")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@app.command("add-node")
def add_node(
    name: str = typer.Argument(help="What people call the machine."),
    owner: str = typer.Option("operator", help="Account that earns with it."),
    *,
    as_json: bool = JSON,
) -> None:
    """Register a machine that is to join the cluster; `gfe admin invite` does this and prints what to paste there."""
    from ledger.operators import people

    node = _run(lambda context: context.database.transact(lambda connection: people.add_node(connection, name, owner, _origin())))
    _say({"node_id": node}, node, as_json=as_json)


@app.command("remove-operator")
def remove_operator(username: str, *, as_json: bool = JSON) -> None:
    """Take the operator's right away; what the account signed in with ends."""
    from ledger.operators import people

    _run(lambda context: context.database.transact(lambda connection: people.remove_operator(connection, username, _origin())))
    _say({"username": username, "operator": False}, f"{username} is no operator any more", as_json=as_json)


@app.command()
def users(query: str = typer.Argument("", help="Beginning of a name or an address."), *, as_json: bool = JSON) -> None:
    """List accounts, newest first."""
    from ledger.amounts import credits_text
    from ledger.ids import text_of
    from ledger.operators import people

    found = _run(lambda context: people.list_people(context.database, query, people.MAX_PAGE, None))
    rows = [
        {
            "id": text_of("user", one.id), "username": one.username, "total": credits_text(one.total), "operator": one.is_operator,
            "blocked": one.blocked_at is not None,
        }
        for one in found
    ]  # fmt: skip
    lines = [
        f"{row['id']}  {row['username']:20}  {row['total']:>14}  {'operator ' if row['operator'] else ''}{'BLOCKED' if row['blocked'] else ''}".rstrip()
        for row in rows
    ]
    _say(rows, "\n".join(lines), as_json=as_json)


@app.command()
def block(user: str = typer.Argument(help="Id of the account, user_…"), reason: str = WHY, *, as_json: bool = JSON) -> None:
    """Block an account: its sign-ins and keys stop working within seconds; its money stays."""
    from ledger.operators import people

    _run(lambda context: people.block(context.database, _id("user", user), None, reason, _origin()))
    _say({"user": user, "blocked": True}, f"{user} is blocked", as_json=as_json)


@app.command()
def unblock(user: str = typer.Argument(help="Id of the account, user_…"), *, as_json: bool = JSON) -> None:
    """Let an account work again."""
    from ledger.operators import people

    _run(lambda context: people.unblock(context.database, _id("user", user), _origin()))
    _say({"user": user, "blocked": False}, f"{user} is not blocked any more", as_json=as_json)


@app.command()
def holds(*, as_json: bool = JSON) -> None:
    """List open holds, oldest first."""
    from ledger.amounts import credits_text
    from ledger.ids import text_of
    from ledger.money import books

    found = _run(lambda context: books.open_holds(context.database, 100, None))
    rows = [
        {"job": text_of("job", one.id), "model": one.model, "amount": credits_text(one.amount), "since": one.at.isoformat()}
        for one in found
    ]
    _say(rows, "\n".join("  ".join(row.values()) for row in rows) or "no hold is open", as_json=as_json)


@app.command()
def withdrawals(status: str = typer.Option("PENDING", help="PENDING, SUCCESS or FAILED."), *, as_json: bool = JSON) -> None:
    """List withdrawals, newest first."""
    from ledger.amounts import credits_text
    from ledger.ids import text_of
    from ledger.money import books
    from ledger.payments.rows import PREFIXES

    found = _run(lambda context: books.withdrawals(context.database, 100, None, status))
    rows = [
        {
            "id": text_of(PREFIXES["WITHDRAWAL"], one.id), "user": one.username, "amount": credits_text(one.amount), "destination": one.destination,
            "approvals": one.approvals,
        }
        for one in found
    ]  # fmt: skip
    lines = [f"{row['id']}  {row['user']:20}  {row['amount']:>14}  {row['destination'] or ''}" for row in rows]
    _say(rows, "\n".join(lines) or f"no withdrawal is {status}", as_json=as_json)


@app.command("refuse-withdrawal")
def refuse_withdrawal(withdrawal: str = typer.Argument(help="Id, wd_…"), reason: str = WHY, *, as_json: bool = JSON) -> None:
    """Refuse a withdrawal: its money goes back to the earnings. Paying one needs an operator's sign-in."""
    from ledger.payments import rows, withdrawals

    nobody = uuid.UUID(int=0)
    done = _run(lambda context: withdrawals.refuse(context.payments, rows.read_id(withdrawal), nobody, reason, _origin()))
    _say({"id": done.text_id, "status": done.status}, f"{done.text_id}: {done.status}", as_json=as_json)


@app.command()
def price(
    job: str = typer.Option(..., help="Credits per job."),
    prompt: str = typer.Option("0", help="Credits per million prompt tokens."),
    completion: str = typer.Option("0", help="Credits per million tokens of the answer."),
    model: str | None = typer.Option(None, help="A model; left out: the default price."),
    *,
    as_json: bool = JSON,
) -> None:
    """Set a price; holds that are open keep the one they were made with."""
    from ledger.amounts import micros_of
    from ledger.audit_log import note
    from ledger.db import Connection
    from ledger.money.prices import set_price

    try:
        micros = [micros_of(text) for text in (job, prompt, completion)]
    except ValueError as wrong:
        _fail(str(wrong), "for example --job 1.00")

    async def work(connection: Connection) -> Any:
        await note(connection, _origin(), "price.set", model or "default", job=micros[0])
        return await set_price(connection, model, *micros)

    made = _run(lambda context: context.database.transact(work))
    _say(
        {"version": made.version, "model": model}, f"version {made.version} is the price of {model or 'every other model'}", as_json=as_json
    )


@catalog.command("list")
def list_catalog(*, as_json: bool = JSON) -> None:
    """List the models that may be offered."""
    from ledger.operators.catalog import list_models

    found = _run(lambda context: context.database.run(list_models))
    rows = [asdict(one.model) | {"added_at": one.added_at.isoformat()} for one in found]
    lines = [
        f"{row['name']:30}  {row['digest'][:12]}  {row['context_tokens']:>8} tokens  {row['license']:20}  {row['source']}" for row in rows
    ]
    _say(rows, "\n".join(lines) or "the catalog is empty", as_json=as_json)


@catalog.command("add")
def add_to_catalog(
    name: str = typer.Argument(help="As Ollama writes it, with its tag."),
    digest: str = typer.Option(..., help="SHA-256 of its GGUF file, as `gfe nodes show --json` tells it."),
    source: str = typer.Option(..., help="Where it comes from."),
    license_: str = typer.Option(..., "--license", help="Under which terms."),
    size: int = typer.Option(..., min=1, help="Bytes of the file."),
    context: int = typer.Option(..., min=1, help="Tokens of context that one job should have."),
    *,
    as_json: bool = JSON,
) -> None:
    """Take a model in, or in place of what its name meant before."""
    from pydantic import ValidationError

    from ledger.api.catalog import NewModel
    from ledger.operators.catalog import CatalogModel, add_model

    try:
        asked = NewModel(name=name, digest=digest, source=source, license=license_, size_bytes=size, context_tokens=context)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        _fail(f"{first['loc'][0]}: {first['msg']}", "gfe admin catalog add --help")
    model = CatalogModel(**asked.model_dump())
    made = _run(lambda context: context.database.transact(lambda connection: add_model(connection, model, _origin())))
    _say({"name": made.model.name, "digest": digest}, f"{made.model.name} may be offered", as_json=as_json)


@catalog.command("remove")
def remove_from_catalog(name: str = typer.Argument(help="As `gfe admin catalog list` writes it."), *, as_json: bool = JSON) -> None:
    """Take a model out: with GFE_CATALOG=approved it is not offered any more, within seconds."""
    from ledger.operators.catalog import remove_model

    _run(lambda context: context.database.transact(lambda connection: remove_model(connection, name, _origin())))
    _say({"name": name, "removed": True}, f"{name} is not in the catalog any more", as_json=as_json)


@audits.command("list")
def list_suspects(*, as_json: bool = JSON) -> None:
    """List nodes in quarantine, banned, with a flag, or with an open appeal; the last changed first."""
    from ledger.verification import reports

    found = _run(lambda context: context.database.run(lambda connection: reports.suspects(connection, 100, None)))
    rows = [
        {
            "node": one.node, "name": one.name, "owner": one.owner, "state": one.state, "reason": one.state_reason, "tier": one.tier,
            "strikes": one.strikes, "count_alarms": one.alarms, "has_open_appeal": one.has_open_appeal,
        }
        for one in found
    ]  # fmt: skip
    lines = [
        f"{row['node']}  {row['owner']:20}  {row['state']:12}  {row['strikes']} strikes  {row['count_alarms']} alarms"
        f"{'  APPEAL' if row['has_open_appeal'] else ''}"
        for row in rows
    ]
    _say(rows, "\n".join(lines) or "nothing speaks against any node", as_json=as_json)


@audits.command()
def lift(
    node: str = typer.Argument(help="Id of the node, node_…"),
    reason: str = typer.Option(..., "--reason", help="Kept in the audit log; the node's owner reads it."),
    *,
    pardon: bool = typer.Option(False, "--pardon", help="Forget what was found; ends a ban too, and gives back what was forfeited."),
    as_json: bool = JSON,
) -> None:
    """Let a node in quarantine work again; its strikes stay, unless it is pardoned."""
    _run(lambda context: context.appeals.lift(node, is_pardoned=pardon, reason=reason, origin=_origin()))
    _say({"node": node, "pardoned": pardon}, f"{node} may work again", as_json=as_json)


@audits.command()
def appeals(*, as_json: bool = JSON) -> None:
    """List the newest appeals that wait for an answer."""
    from ledger.ids import text_of
    from ledger.verification.appeals import ID_PREFIX, list_appeals

    found = _run(lambda context: context.database.run(lambda connection: list_appeals(connection, 100, None, "OPEN")))
    rows = [{"id": text_of(ID_PREFIX, one.id), "node": one.node, "since": one.created_at.isoformat(), "note": one.note} for one in found]
    lines = [f"{row['id']}  {row['node']}  {row['since']}\n    {row['note']}" for row in rows]
    _say(rows, "\n".join(lines) or "no appeal is open", as_json=as_json)


@audits.command()
def decide(
    appeal: str = typer.Argument(help="Id of the appeal, appeal_…"),
    reason: str = typer.Option(..., "--reason", help="The answer that the provider reads."),
    *,
    uphold: bool = typer.Option(..., "--uphold/--refuse", help="Whether the provider is right: then the node is pardoned."),
    as_json: bool = JSON,
) -> None:
    """Decide an appeal."""
    done = _run(lambda context: context.appeals.decide(appeal, is_upheld=uphold, answer=reason, origin=_origin()))
    _say({"id": appeal, "state": done.state}, f"{appeal}: {done.state}", as_json=as_json)


@app.command("audit-log")
def audit_log(count: int = typer.Option(20, min=1, max=1000, help="How many lines, newest first."), *, as_json: bool = JSON) -> None:
    """Show the audit log, and check its hash chain; exit 1 when it is broken."""
    from ledger import audit_log as log

    lines = _run(lambda context: context.database.run(lambda connection: log.read(connection, count, None)))
    broken = _run(lambda context: context.database.run(log.verify))
    rows = [
        {"seq": one.seq, "at": one.at.isoformat(), "actor": one.actor, "action": one.action, "target": one.target, "detail": one.detail}
        for one in lines
    ]
    text = "\n".join(f"{row['seq']:>6}  {row['at']}  {row['actor']:30}  {row['action']:24}  {row['target']}" for row in rows)
    _say(rows, text, as_json=as_json)
    if broken is not None:
        _fail(f"the hash chain is broken in the block that ends with line {broken}", "compare with a backup: somebody changed the log")


@app.command("rotate-keys")
def rotate_keys(*, as_json: bool = JSON) -> None:
    """Make the next key that tokens are signed with: published now, used in ten minutes; the old one stays until its tokens have expired."""
    import time

    from ledger.identity.signing_keys import make_key

    kid = make_key(settings_here().secrets_dir, time.time())
    _say({"kid": kid}, f"key {kid} is published and signs in ten minutes", as_json=as_json)
