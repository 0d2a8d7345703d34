"""Secrets of an installation: made once, one file each, readable by their owner alone."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

PUBLIC_KEY = "service_serve.pub.pem"


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


def make_service_key(folder: Path, name: str) -> None:
    """Make the Ed25519 pair of a service: `service_<name>.pem` and `service_<name>.pub.pem`."""
    private = folder / f"service_{name}.pem"
    if not private.exists():
        key = Ed25519PrivateKey.generate()
        made_once(
            private,
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        )
    loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    public = loaded.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    overwrite(folder / f"service_{name}.pub.pem", public.decode())


def make_sealing_key(folder: Path, rays: Path) -> None:
    """Make the X25519 pair that samples for audits are sealed to: Serve gets the public half, the auditor alone the other. Hexadecimal."""
    private = made_once(folder / "auditor_sealing.key", X25519PrivateKey.generate().private_bytes_raw().hex())
    public = X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key()
    overwrite(rays / "auditor_sealing.pub", public.public_bytes_raw().hex())


def make_all(folder: Path, rays: Path | None = None) -> dict[str, str]:
    """Make what is missing; answer the passwords of the database roles by role.

    `rays` is the folder of what Ray's processes may read; None: the same.
    """
    if rays is None:
        rays = folder
    else:
        _move_out(folder, rays)
    made_once(folder / "api_key_pepper", secrets.token_hex(32))
    made_once(rays / "ray_token", secrets.token_hex(32))
    made_once(rays / "batch_key", secrets.token_hex(32))
    make_service_key(folder, "edge")
    make_service_key(folder, "auditor")
    make_sealing_key(folder, rays)
    made_once(rays / "webhook_root", secrets.token_hex(32))
    make_service_key(rays, "serve")
    overwrite(folder / PUBLIC_KEY, (rays / PUBLIC_KEY).read_text())  # the ledger knows Serve by it
    return {
        role: made_once(folder / f"password_{role}", secrets.token_hex(24)) for role in ("postgres", "gfe_ledger", "gfe_pay", "gfe_serve")
    }


def _move_out(folder: Path, rays: Path) -> None:
    """Move what is Ray's out of an installation of the time when there was one folder."""
    for name in ("ray_token", "service_serve.pem"):
        if (folder / name).exists() and not (rays / name).exists():
            (folder / name).rename(rays / name)
    (folder / "serve_database_url").unlink(missing_ok=True)
