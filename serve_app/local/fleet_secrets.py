"""Secrets of an installation of several machines: one folder per service, with what that service may read and nothing else.

Each folder becomes one Secret of Kubernetes, or one mounted folder of a container. The ledger's own authority, whose key stands in `authority/`,
signs the certificates by which services and ledger know each other; that folder goes nowhere.
"""

import secrets as chance
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from serve_app.local import database, secrets
from serve_app.local.errors import Refused

AUTHORITY = "internal_ca"
CALLERS = ("serve", "edge", "auditor", "guard", "metrics")  # `metrics`: whoever reads the ledger's metrics, Prometheus say
TLS = ("internal_ca.crt", "internal.crt", "internal.key")
CERTIFICATE_DAYS, AUTHORITY_DAYS = 825, 3650
CLOCKS_DIFFER = timedelta(minutes=10)
FILES: dict[str, tuple[str, ...]] = secrets.READ_BY | {"metrics": ()}  # by folder, beside certificates


def make(folder: Path, admin_url: str, ledger_hosts: Sequence[str]) -> list[str]:
    """Make all of it in a new folder; answer the names of the folders that services get.

    `ledger_hosts`: the names by which services call the ledger's internal port.

    Raises:
        Refused: The folder has something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty", "secrets are made once; name a new folder, or keep what is there")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    drawn = folder / "drawn"
    drawn.mkdir(mode=0o700)
    for file, url in database.urls(admin_url, secrets.make_all(drawn)).items():
        secrets.made_once(drawn / file, url)
    for name, files in FILES.items():
        (folder / name).mkdir(mode=0o700)
        for file in files:
            secrets.made_once(folder / name / file, (drawn / file).read_text())
    (folder / "ray").mkdir(mode=0o700)
    secrets.made_once(folder / "ray" / "auth_token", (drawn / "ray_token").read_text())
    (folder / "signing").mkdir(mode=0o700)
    add_signing_key(folder / "signing")
    shutil.rmtree(drawn)
    _make_certificates(folder, ledger_hosts)
    return sorted({*FILES, "ray", "signing"})


def add_signing_key(folder: Path) -> Path:
    """Make a key that the ledger signs tokens with, named as `ledger/identity/signing_keys.py` reads it."""
    path = folder / f"{int(time.time())}-{chance.token_hex(8)}.pem"
    secrets.made_once(path, secrets.pem_of(Ed25519PrivateKey.generate()))
    return path


def _make_certificates(folder: Path, ledger_hosts: Sequence[str]) -> None:
    authority = folder / "authority"
    authority.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    root = _signed(AUTHORITY, key.public_key(), AUTHORITY, key, AUTHORITY_DAYS, ())
    secrets.made_once(authority / f"{AUTHORITY}.key", secrets.pem_of(key))
    secrets.made_once(authority / f"{AUTHORITY}.crt", _text(root))
    for name in ("ledger", *CALLERS):
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(name, own.public_key(), AUTHORITY, key, CERTIFICATE_DAYS, ledger_hosts if name == "ledger" else ())
        for file, text in zip(TLS, (_text(root), _text(certificate), secrets.pem_of(own)), strict=True):
            secrets.made_once(folder / name / file, text)


def _signed(
    name: str, public: ec.EllipticCurvePublicKey, issuer: str, key: ec.EllipticCurvePrivateKey, days: int, hosts: Sequence[str]
) -> x509.Certificate:
    """Sign a certificate: the authority's own, a server's for these hosts, or a caller's, who has none."""
    now = datetime.now(UTC)
    is_authority = name == issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
    if not is_authority:
        use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
