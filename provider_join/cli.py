"""`gfe join` and `gfe leave`: what is typed on a machine that joins."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from cluster.invite import Invite

JSON = typer.Option(False, "--json", help="Print JSON, one line per step.")


def join(
    invite: str | None = typer.Option(None, help="The invite, as `gfe admin invite` printed it; `-` reads it from standard input."),
    invite_file: Path | None = typer.Option(None, help="A file with the invite in it."),
    address: str | None = typer.Option(None, help="This machine's address in the network of the head; left out: found on the way there."),
    port_base: int = typer.Option(8076, min=1024, max=60_000, help="First of the eight ports that the head calls."),
    slots: int | None = typer.Option(None, min=1, max=1024, help="Jobs at once; left out: what the runtime says."),
    *,
    pull: bool = typer.Option(False, "--pull", help="Let the operator's commands fetch models to this machine."),
    service: bool = typer.Option(False, "--service", help="Write a systemd unit that joins at every start of the machine."),
    as_json: bool = JSON,
) -> None:
    """Join this machine to an operator's cluster and serve until told to stop (Ctrl-C, or `gfe leave`)."""
    from provider_join import join as joining
    from provider_join.errors import JoinError
    from provider_join.home import NodeHome

    home, read = NodeHome.of_environment(), _invite(invite, invite_file)
    if service:
        _write_service(home.root, read, address, port_base, slots, pull=pull)
        return
    if pull:
        os.environ["GFE_NODE_PULL"] = "1"
    ports = joining.Ports() if port_base == joining.PORT_BASE else joining.Ports(base=port_base, window=port_base + 100)

    def tell(step: str) -> None:
        sys.stderr.write((json.dumps({"step": step}) if as_json else f"  {step}") + "\n")

    def joined(offer: Mapping[str, Any]) -> None:
        sys.stdout.write((json.dumps({"joined": True, "node": offer}) if as_json else _words(read, offer)) + "\n")
        sys.stdout.flush()

    try:
        planned = joining.plan(read, home, ports, tell, address=address, slots=slots, environment=os.environ)
        joining.run(planned, tell, joined)
    except JoinError as failed:
        _refuse(failed.what, failed.hint)
    tell("left")


def leave(*, as_json: bool = JSON) -> None:
    """Finish the jobs that run here, then leave the cluster."""
    from provider_join import join as joining
    from provider_join.errors import JoinError
    from provider_join.home import NodeHome

    def tell(step: str) -> None:
        sys.stderr.write(f"  {step}\n")

    try:
        name = joining.leave(NodeHome.of_environment(), tell)
    except JoinError as failed:
        _refuse(failed.what, failed.hint)
    if name is None:
        _refuse("this machine has not joined a cluster", "GFE_NODE_HOME names another node's folder")
    sys.stdout.write((json.dumps({"left": name}) if as_json else f"{name} has left") + "\n")


def _invite(text: str | None, file: Path | None) -> "Invite":
    from cluster.invite import BadInvite, read

    if (text is None) == (file is None):
        _refuse(
            "no invite is named" if text is None else "two invites are named", "gfe join --invite gfe_invite_…   or   --invite-file FILE"
        )
    try:
        if file is not None:
            text = file.read_text()
        assert text is not None
        return read(sys.stdin.read() if text == "-" else text)
    except OSError as missing:
        _refuse(f"{file}: {missing.strerror}", "name a file with the invite in it")
    except BadInvite as bad:
        _refuse(str(bad), "gfe admin invite --name …   on the head's machine prints a new one")


def _write_service(root: Path, invite: "Invite", address: str | None, port_base: int, slots: int | None, *, pull: bool) -> None:
    from cluster.invite import write
    from provider_join import service
    from provider_join.home import NodeHome

    home = NodeHome(root)
    home.make()
    home.keep_secret(home.invite_file, write(invite))
    options = "".join(
        f" --{name} {value}" for name, value in (("address", address), ("port-base", port_base), ("slots", slots)) if value is not None
    )
    options += " --pull" if pull else ""
    folder = service.folder()
    folder.mkdir(parents=True, exist_ok=True)
    unit = folder / service.NAME
    unit.write_text(service.text(head=invite.head, home=root, invite=home.invite_file, options=options))
    sys.stdout.write(f"{unit} is written. Now:\n\n{service.enable_command()}\n")


def _words(invite: "Invite", offer: Mapping[str, Any]) -> str:
    """Say what a node offers, for a person."""
    gpus = ", ".join(f"{gpu['name']} ({gpu['total_bytes'] / 1024**3:.0f} GiB)" for gpu in offer["gpus"]) or "no GPU"
    models = ", ".join(model["name"] for model in offer["models"]) or "no model yet"
    return f"joined: {invite.name} ({invite.node}) offers {offer['slots']} slots on {gpus}; models: {models}"


def _refuse(what: str, hint: str) -> NoReturn:
    sys.stderr.write(f"error: {what}\n\nhint: {hint}\n")
    sys.exit(1)
