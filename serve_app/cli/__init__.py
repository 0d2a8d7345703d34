"""`gfe`: one binary. Commands are named as strings and imported when they run, so that help costs nothing."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command as command_of

# name -> (where its function or Typer app is, what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("serve_app.local.commands:up", "Start the whole platform on this machine."),
    "down": ("serve_app.local.commands:down", "Stop it; --purge deletes its data too."),
    "status": ("serve_app.local.commands:status", "Tell what runs; exit 1 unless all is well."),
    "restart": ("serve_app.cli.restart:restart", "Start parts anew while everything runs, as an upgrade does."),
    "logs": ("serve_app.local.commands:logs", "Show the logs of the parts."),
    "chat": ("serve_app.cli.chat:chat", "Talk to a model; tells what it cost."),
    "models": ("serve_app.cli.read:models", "List the models that are offered now."),
    "jobs": ("serve_app.cli.jobs:app", "Submit, list, show, explain and cancel your jobs; receipts, webhooks."),
    "batch": ("serve_app.cli.batch:app", "Have a file of requests answered within a day, at a lower price."),
    "wallet": ("serve_app.cli.wallet:app", "Show your balance and the last entries; what your nodes earned."),
    "nodes": ("serve_app.cli.nodes:app", "List the machines that are here; drain and resume them; why yours get no jobs."),
    "keys": ("serve_app.cli.keys:app", "Make, list and revoke API keys."),
    "join": ("provider_join.cli:join", "Join this machine to an operator's cluster, as its invite says."),
    "leave": ("provider_join.cli:leave", "Finish what runs here, then leave the cluster."),
    "agent": ("provider_join.agent.cli:app", "Share this machine's GPU with the platform, and earn."),
    "doctor": ("serve_app.cli.doctor:doctor", "Check this machine, with what mends each finding."),
    "db": ("serve_app.cli.db:app", "Bring the database to the newest shape."),
    "ledger": ("ledger.cli:app", "Run the ledger, prove its books."),
    "admin": ("ledger.admin_cli:app", "For operators: people, money, prices, models, keys of tokens."),
    "dev": ("serve_app.cli.dev:app", "For development: mail, payments without money."),
}


# Commands that one package adds to another's group.
ADDED: dict[str, dict[str, str]] = {
    "admin": {
        "invite": "serve_app.cli.invite:invite",
        "rotate-secret": "serve_app.cli.rotate:rotate_secret",
        "models": "serve_app.cli.models:app",
        "secrets": "serve_app.cli.secrets:secrets",
    }
}


class LazyGroup(TyperGroup):
    """Knows its commands by name; loads one when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        found = _imported(COMMANDS[cmd_name][0])
        if isinstance(found, typer.Typer):
            for name, where in ADDED.get(cmd_name, {}).items():
                added = _imported(where)
                if isinstance(added, typer.Typer):
                    found.add_typer(added, name=name)
                else:
                    found.command(name=name)(added)
            command = command_of(found)
        else:
            app = typer.Typer(add_completion=False)
            app.command(name=cmd_name)(found)
            command = command_of(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the help lines from the table, without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _imported(where: str) -> Any:
    module_name, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


app = typer.Typer(
    cls=LazyGroup,
    name="gfe",
    help="GPU-For-Everyone: anybody's GPU, one honest market.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def root() -> None:
    """GPU-For-Everyone: anybody's GPU, one honest market."""


def main() -> None:
    """Run the command line. Expected errors are one line and a hint; everything else is a defect and shows its traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
