"""Which runtime a machine uses: the configured one, an Ollama that answers here, or the embedded one (Ollama reference 5)."""

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MINIMUM = (0, 17, 1)  # older ones leak process memory through create (CVE-2026-7482)
DEFAULT_PORT = 11434
PROBE_LIMIT_S = 3.0


class RuntimeKind(StrEnum):
    """Where the runtime comes from."""

    CONFIGURED = "configured"
    FOUND = "ollama"
    EMBEDDED = "embedded"


class RuntimeUnusable(Exception):
    """The runtime that was asked for cannot be used; says why and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.what


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime to use; `url` is None for the embedded one, which gets a port of its own."""

    kind: RuntimeKind
    url: str | None
    version: str | None = None


def version_of(text: str) -> tuple[int, ...] | None:
    """Read a version such as `0.32.15` or `0.32.15-rc1`; None when it is none."""
    numbers = text.split("-", maxsplit=1)[0].split(".")
    return tuple(int(number) for number in numbers) if numbers and all(number.isdigit() for number in numbers) else None


def address_of(environment: Mapping[str, str]) -> str:
    """Where a local Ollama would answer, as `OLLAMA_HOST` says it; bind addresses become loopback."""
    host = environment.get("OLLAMA_HOST", "").strip()
    scheme, _, rest = host.rpartition("://")
    name, _, port = rest.rstrip("/").partition(":")
    if name in {"", "0.0.0.0", "[", "::"}:  # noqa: S104 - recognized in order not to be used
        name = "127.0.0.1"
    return f"{scheme or 'http'}://{name}:{port or DEFAULT_PORT}"


def probe(url: str) -> str | None:
    """Ask for the version; None when nobody answers as Ollama does. Proxies of the environment are not used."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url.rstrip("/") + "/api/version", timeout=PROBE_LIMIT_S) as answer:
            said = json.loads(answer.read(4096))
    except (OSError, ValueError):
        return None
    version = said.get("version") if isinstance(said, dict) else None
    return version if isinstance(version, str) else None


def choose(configured: str | None, configured_version: str | None, local: str, local_version: str | None) -> Choice:
    """Decide, given what answered where. Pure.

    Raises:
        RuntimeUnusable: The configured one does not answer, or one is too old.
    """
    if configured:
        if configured_version is None:
            raise RuntimeUnusable(
                f"nothing that speaks Ollama's API answers at {configured}", "start Ollama there, or unset GFE_OLLAMA_URL"
            )
        _refuse_old(configured, configured_version)
        return Choice(RuntimeKind.CONFIGURED, configured, configured_version)
    if local_version is not None:
        _refuse_old(local, local_version)
        return Choice(RuntimeKind.FOUND, local, local_version)
    return Choice(RuntimeKind.EMBEDDED, None)


def _refuse_old(url: str, version: str) -> None:
    found = version_of(version)
    if found is not None and found < MINIMUM:
        raise RuntimeUnusable(
            f"the Ollama at {url} is {version}; at least {'.'.join(map(str, MINIMUM))} is needed", "upgrade Ollama, then start again"
        )


def choose_for(environment: Mapping[str, str]) -> Choice:
    """Probe and decide for this machine.

    Raises:
        RuntimeUnusable: See `choose`.
    """
    configured = environment.get("GFE_OLLAMA_URL") or None
    local = address_of(environment)
    return choose(configured, probe(configured) if configured else None, local, None if configured else probe(local))
