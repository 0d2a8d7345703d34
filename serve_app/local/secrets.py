"""Secrets of an installation: made once, one file each, readable by their owner alone."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from serve_app.local.database import LOGINS

PUBLIC_KEY = "service_serve.pub.pem"
EDGE_PUBLIC_KEY = "service_edge.pub.pem"
GUARD_PUBLIC_KEY = "service_guard.pub.pem"
# Where each service is a container or a machine of its own: which of the files of `make_all` and of `database.urls` it reads.
READ_BY = {
    "ledger": (
        "api_key_pepper", PUBLIC_KEY, EDGE_PUBLIC_KEY, "service_auditor.pub.pem", GUARD_PUBLIC_KEY, "ledger_database_url", "pay_database_url",
    ),
    "serve": ("service_serve.pem", PUBLIC_KEY, "batch_key", "webhook_root", "auditor_sealing.pub", "serve_database_url"),
    "edge": ("service_edge.pem", PUBLIC_KEY),
    "auditor": ("service_auditor.pem", "auditor_sealing.key"),
    "guard": ("service_guard.pem", "ray_token"),
    "database": ("admin_database_url", *(f"password_{role}" for role in LOGINS.values())),  # who brings the database to its shape
}  # fmt: skip


def made_once(path: Path, text: str) -> str:
    """Keep `text` in a new file 0600, or answer what an earlier start kept."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return text


def overwrite(path: Path, text: str) -> None:
    """Keep `text` in a file 0600, whatever was there (for what follows from other secrets, such as URLs)."""
    if path.exists() and not path.is_symlink() and path.read_text() == text:
        return  # with the owner that an earlier start gave it
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    made_once(half, text)
    half.replace(path)


def pem_of(key: PrivateKeyTypes) -> str:
    """Write a private key down as PEM, without a password: the file's mode guards it."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def make_service_key(folder: Path, name: str) -> None:
    """Make the Ed25519 pair of a service: `service_<name>.pem` and `service_<name>.pub.pem`."""
    private = folder / f"service_{name}.pem"
    if not private.exists():
        made_once(private, pem_of(Ed25519PrivateKey.generate()))
    loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    public = loaded.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    overwrite(folder / f"service_{name}.pub.pem", public.decode())


def make_sealing_key(folder: Path, rays: Path) -> None:
    """Make the X25519 pair that samples for audits are sealed to: Serve gets the public half, the auditor alone the other. Hexadecimal."""
    private = made_once(folder / "auditor_sealing.key", X25519PrivateKey.generate().private_bytes_raw().hex())
    public = X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key()
    overwrite(rays / "auditor_sealing.pub", public.public_bytes_raw().hex())


def make_all(folder: Path, rays: Path | None = None, edges: Path | None = None, guards: Path | None = None) -> dict[str, str]:
    """Make what is missing; answer the passwords of the database roles by role.

    `rays` is the folder of what Ray's processes may read, `edges` that of the edge gateway (None: the same), `guards` that of the
    dashboard guard (None: that of Ray).
    """
    if rays is None:
        rays = folder
    else:
        _move_out(folder, rays)
    edges, guards = edges or folder, guards or rays
    guards.mkdir(mode=0o700, exist_ok=True)  # an older installation has none
    made_once(folder / "api_key_pepper", secrets.token_hex(32))
    overwrite(guards / "ray_token", made_once(rays / "ray_token", secrets.token_hex(32)))
    made_once(rays / "batch_key", secrets.token_hex(32))
    _move(folder, edges, "service_edge.pem")
    make_service_key(edges, "edge")
    make_service_key(guards, "guard")
    make_service_key(folder, "auditor")
    make_sealing_key(folder, rays)
    made_once(rays / "webhook_root", secrets.token_hex(32))
    make_service_key(rays, "serve")
    for home, key in ((rays, PUBLIC_KEY), (edges, EDGE_PUBLIC_KEY), (guards, GUARD_PUBLIC_KEY)):
        overwrite(folder / key, (home / key).read_text())  # the ledger knows its callers by them
    overwrite(edges / PUBLIC_KEY, (rays / PUBLIC_KEY).read_text())  # and the edge gateway knows Serve
    return {role: made_once(folder / f"password_{role}", secrets.token_hex(24)) for role in ("postgres", *LOGINS.values())}


def _move_out(folder: Path, rays: Path) -> None:
    """Move what is Ray's out of an installation of the time when there was one folder."""
    for name in ("ray_token", "service_serve.pem"):
        _move(folder, rays, name)
    (folder / "serve_database_url").unlink(missing_ok=True)


def _move(folder: Path, other: Path, name: str) -> None:
    if (folder / name).exists() and not (other / name).exists():
        (folder / name).rename(other / name)
