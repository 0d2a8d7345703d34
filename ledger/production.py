"""What an installation for real people must not have: values that are fine for development. Each is named; the service does not start."""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from ledger.settings import LedgerSettings

MIN_PEPPER_BYTES = 32


def problems_of(settings: LedgerSettings) -> list[str]:
    """List what forbids production; empty elsewhere."""
    return unfit_for_production(settings) if settings.is_production else []


def unfit_for_production(settings: LedgerSettings) -> list[str]:
    """List what would forbid production, whatever this installation is for."""
    return list(_found(settings))


def _found(settings: LedgerSettings) -> Iterator[str]:
    url = urlsplit(settings.public_url)
    if url.scheme != "https":
        yield f"GFE_PUBLIC_URL is {settings.public_url}: people's passwords need https"
    if _is_local(url.hostname or ""):
        yield f"GFE_PUBLIC_URL names {url.hostname}, which nobody else can reach"
    if settings.guard_url is not None and urlsplit(settings.guard_url).scheme != "https":
        yield f"GFE_GUARD_URL is {settings.guard_url}: operators' visits need https"
    if "mock" in settings.gateway_names:
        yield "GFE_PAYMENT_GATEWAYS has `mock`, which credits without money"
    for origin in sorted(settings.origins):
        if "*" in origin or not origin.startswith("https://"):
            yield f"GFE_CONSOLE_ORIGINS has {origin}: exact https origins only"
    if settings.smtp_host is None:
        yield "GFE_SMTP_HOST is not set: mail would be written into files"
    if "localhost" in settings.mail_from:
        yield f"GFE_MAIL_FROM is {settings.mail_from}: nobody can answer it"
    yield from _of_secrets(settings)
    if settings.payout_delay_hours == 0:
        yield "GFE_PAYOUT_DELAY_HOURS is 0: earnings could leave before a wrong charge is seen"


def _of_secrets(settings: LedgerSettings) -> Iterator[str]:
    try:
        if (settings.secrets_dir.stat().st_mode & 0o077) != 0:
            yield f"GFE_SECRETS_DIR {settings.secrets_dir} is open to others: chmod 0700"
        if len(settings.secret("api_key_pepper")) < 2 * MIN_PEPPER_BYTES:
            yield f"the secret `api_key_pepper` is shorter than {MIN_PEPPER_BYTES} bytes"
    except OSError as missing:
        yield f"{missing.filename}: {missing.strerror}"


def _is_local(host: str) -> bool:
    if host in {"", "localhost"} or host.endswith((".localhost", ".local")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
