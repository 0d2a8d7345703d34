"""What every service that calls the ledger is told of it."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.client import LedgerOverTls


class LedgerSettings(BaseSettings):
    """Where the ledger's internal operations are: on this machine, or on another."""

    model_config = SettingsConfigDict(env_prefix="GFE_", frozen=True, extra="ignore")

    secrets_dir: Path = Field(description="Folder with one file per secret.")
    ledger_socket: Path | None = Field(None, description="Unix socket of the ledger's internal operations.")
    ledger_internal_url: str | None = Field(
        None,
        pattern=r"^https://[^/?#@\s]+$",
        description=(
            "The same on another machine, `https://host:port`; then the socket is not used. The secrets `internal_ca.crt`, `internal.crt` "
            "and `internal.key` prove both sides."
        ),
    )

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        """Refuse to have no ledger."""
        if self.ledger_socket is None and self.ledger_internal_url is None:
            raise ValueError("set GFE_LEDGER_SOCKET (a ledger on this machine) or GFE_LEDGER_INTERNAL_URL (one on another)")
        return self

    @property
    def ledger(self) -> Path | LedgerOverTls:
        """Where the ledger is."""
        if self.ledger_internal_url is not None:
            return LedgerOverTls(self.ledger_internal_url, self.secrets_dir)
        assert self.ledger_socket is not None  # `_is_somewhere`
        return self.ledger_socket
