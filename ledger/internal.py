"""How our own services reach the ledger's internal operations: a Unix socket of this machine, or TLS from another one.

Over TLS both sides show a certificate of the installation's own authority, which proves the channel; the service token in each request proves
who calls. The three files are secrets of every service that takes part.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

AUTHORITY, CERTIFICATE, KEY = "internal_ca.crt", "internal.crt", "internal.key"


@dataclass(frozen=True, slots=True)
class LedgerOverTls:
    """The ledger of another machine: `https://host:port`, and the folder with our certificate."""

    url: str
    folder: Path


def client_context(folder: Path) -> ssl.SSLContext:
    """Trust the installation's authority alone, and show our certificate.

    Raises:
        OSError: A file is missing, or is no certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(folder / AUTHORITY))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context


def server_options(folder: Path) -> dict[str, object]:
    """Tell uvicorn to show our certificate, and to talk to nobody without one of the same authority."""
    return {
        "ssl_certfile": folder / CERTIFICATE,
        "ssl_keyfile": folder / KEY,
        "ssl_ca_certs": str(folder / AUTHORITY),
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
