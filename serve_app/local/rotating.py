"""Which secrets of an installation can be exchanged, and what has to happen afterwards; made anew while nothing runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve_app.local import client, secrets
from serve_app.local.database import LOGINS
from serve_app.local.errors import Refused
from serve_app.local.home import Home


@dataclass(frozen=True, slots=True)
class Rotation:
    """One secret: the folder it is made in, its files, and what has to be done beside a new start."""

    folder: str  # a property of `Home`
    files: tuple[str, ...]
    afterwards: str = ""


def _key(folder: str, service: str) -> Rotation:
    return Rotation(folder, (f"service_{service}.pem",))


# The public halves, the guard's copy of the token and the URLs with passwords follow from these; `gfe up` tells the database the passwords.
ROTATIONS = {
    "ray-token": Rotation(
        "ray_secrets", ("ray_token",), "joined machines are out: `gfe admin invite` for each that is to come back, and `gfe join` there"
    ),
    "service-serve": _key("ray_secrets", "serve"),
    "service-edge": _key("edge_secrets", "edge"),
    "service-guard": _key("guard_secrets", "guard"),
    "service-auditor": _key("secrets", "auditor"),
    "database-passwords": Rotation("secrets", tuple(f"password_{role}" for role in LOGINS.values())),
}


def rotate(home: Home, names: Sequence[str]) -> list[str]:
    """Exchange these secrets; answer what has to be done beside a new start.

    Raises:
        Refused: A name is not known, there is no installation, or it runs.
    """
    if unknown := [name for name in names if name not in ROTATIONS]:
        raise Refused(f"there is no secret `{unknown[0]}` that can be exchanged", f"known: {', '.join(ROTATIONS)}")
    if not home.secrets.is_dir():
        raise Refused(f"there is no installation in {home.root}", "GFE_HOME names another")
    if client.is_up(home):
        raise Refused("the installation runs, with the old secrets in its memory", "gfe down, then this, then gfe up")
    for name in names:
        folder: Path = getattr(home, ROTATIONS[name].folder)
        for file in ROTATIONS[name].files:
            (folder / file).unlink(missing_ok=True)
    secrets.make_all(home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    return [said for name in names if (said := ROTATIONS[name].afterwards)]
