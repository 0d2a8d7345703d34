"""Secrets of an installation of containers: one folder per service, with what that service reads and nothing else.

A step that runs first, as root and without a network: it makes what is missing in a folder that no service sees (`kept`), and hands copies
to the users of the services. Run again, it hands out the same. Each folder is a volume of its own.
"""

import argparse
import os
import secrets as chance
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.local import database, secrets, users
from serve_app.local.secrets import READ_BY

KEPT = "kept"
SOCKET = "socket"  # of the ledger's internal operations; its callers are a group
AUDITOR, ADMIN, RUNTIME, PROXY = 60_904, 60_905, 60_906, 60_907
POSTGRES, GRAFANA = 999, 472  # the users of these programs' own images


@dataclass(frozen=True, slots=True)
class Folder:
    """A service's folder: who owns it, and which of the kept files it gets."""

    owner: int
    files: tuple[str, ...] = ()


FOLDERS = {
    "ledger": Folder(users.LEDGER[1], READ_BY["ledger"]),
    "ray": Folder(users.RAY[1], (*READ_BY["serve"], "ray_token")),
    "edge": Folder(users.EDGE[1], READ_BY["edge"]),
    "auditor": Folder(AUDITOR, READ_BY["auditor"]),
    "guard": Folder(users.GUARD[1], READ_BY["guard"]),
    "admin": Folder(ADMIN, READ_BY["database"]),
    "postgres": Folder(POSTGRES, ("password_postgres",)),
    "postgres-data": Folder(POSTGRES),
    "grafana": Folder(GRAFANA, ("password_grafana",)),
    "models": Folder(RUNTIME),
    "proxy": Folder(PROXY),
}
# What an operator brings, and the ledger reads (docs/operations.md).
GIVEN = ("smtp_password", "stripe_api_key", "stripe_webhook_secret", "google_client_secret", "github_client_secret")


def hand_out(root: Path, server: str, given: Mapping[str, str]) -> None:
    """Make what is missing below `root`, and give each service its own; `server`: `host:port` of PostgreSQL."""
    kept = root / KEPT
    kept.mkdir(exist_ok=True)
    kept.chmod(0o700)
    passwords = secrets.make_all(kept)
    secrets.made_once(kept / "password_grafana", chance.token_hex(16))
    for file, url in database.urls(f"postgresql://postgres:{passwords['postgres']}@{server}/gfe", passwords).items():
        secrets.overwrite(kept / file, url)
    for name, folder in FOLDERS.items():
        (root / name).mkdir(exist_ok=True)
        for file in folder.files:
            _give(root / name / file, (kept / file).read_text(), folder.owner)
        _own(root / name, folder.owner, folder.owner, 0o700)
    for name, text in given.items():
        _give(root / "ledger" / name, text, FOLDERS["ledger"].owner)
    (root / SOCKET).mkdir(exist_ok=True)
    _own(root / SOCKET, users.LEDGER[1], users.INTERNAL_GROUP, 0o710)  # its callers may pass, to the socket


def given_in(folder: Path) -> dict[str, str]:
    """Read what the operator brought; other names are none of ours."""
    return {name: (folder / name).read_text().strip() for name in GIVEN if (folder / name).is_file()}


def _give(path: Path, text: str, owner: int) -> None:
    secrets.overwrite(path, text)
    _own(path, owner, owner, 0o400)


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)
    path.chmod(mode)


def main() -> None:
    """Run the step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--server", required=True, help="host:port of PostgreSQL")
    parser.add_argument("--given", type=Path, required=True, help="folder of the operator's own secrets")
    asked = parser.parse_args()
    hand_out(asked.root, asked.server, given_in(asked.given))


if __name__ == "__main__":
    main()
