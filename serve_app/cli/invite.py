"""`gfe admin invite`: registers a machine with the ledger and prints the line that lets it join."""

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import typer

from serve_app.cli import output

if TYPE_CHECKING:
    from serve_app.local.home import Home


def invite(
    name: str = typer.Option(..., help="What people call the machine."),
    owner: str = typer.Option("operator", help="Account that earns with it."),
    *,
    accept_one_user: bool = typer.Option(
        False, "--accept-one-user", help="Invite though Ray runs as the ledger's user: the machine could then take the ledger's secrets."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the line that lets one of your own machines join. It is a secret: whoever has it can run code in the cluster."""
    import platform

    from cluster import invite as invites
    from cluster.ray_start import ray_version
    from serve_app.local.home import Home, read_json

    home = Home.of_environment()
    address, ports = read_json(home.node_address_file), read_json(home.ports_file)
    if not isinstance(ports, dict):
        output.refuse(f"there is no platform in {home.root}", "`gfe up` starts one; GFE_HOME names another installation")
    if not isinstance(address, str):
        output.refuse(
            "this platform listens on loopback only: no other machine can join",
            "gfe down, then GFE_NODE_ADDRESS=<this machine's address in your network> gfe up",
        )
    if not accept_one_user and not _are_apart(home):
        output.refuse(
            "trusted nodes need the ledger under its own user; see docs/operations.md",
            "start the platform as root (gfe down, gfe up), or accept with --accept-one-user that a joined machine can take the ledger's secrets",
        )
    made = invites.Invite(
        head=f"{address}:{ports['gcs']}", node=_registered(name, owner), name=name,
        token=(home.ray_secrets / "ray_token").read_text().strip(), ray=ray_version(),
        python=".".join(platform.python_version_tuple()[:2]), clock=f"{address}:{ports['dashboard_agent']}",
    )  # fmt: skip
    line = f"gfe join --invite {invites.write(made)}"
    if not as_json:
        output.note(f"Paste this on {name}, within your own network. It is a secret, made for that machine alone:\n")
    output.data({"node_id": made.node, "invite": invites.write(made), "command": line} if as_json else line, as_json=as_json)


def _are_apart(home: "Home") -> bool:
    """Tell whether the running ledger is out of reach of what runs in Ray."""
    from serve_app.local import client, users

    return users.are_apart({part["name"]: part["pid"] for part in (client.state_of(home) or {}).get("parts", ())})


def _registered(name: str, owner: str) -> str:
    """Register the node through the ledger's own command; its refusals are ours."""
    command = [sys.executable, "-P", "-m", "serve_app.cli", "admin", "add-node", "--owner", owner, "--json", "--", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        what, _, hint = done.stderr.strip().partition("\n\nhint: ")
        output.refuse(what or "the ledger did not register the machine", hint or None)
    return str(json.loads(done.stdout)["node_id"])
