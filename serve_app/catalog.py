"""Which models may be offered: the ledger's catalog, as its feed tells it. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from cluster.errors import OperationRefused
from cluster.runtime.dialect import full_name


class CatalogMode(StrEnum):
    """Whether the catalog is a hint or the law."""

    OPEN = "open"
    APPROVED = "approved"


@dataclass(slots=True)
class Catalog:
    """Names and their digests. In `open` mode everything that a node has is offered; in `approved` mode what is listed, matched by digest."""

    mode: CatalogMode = CatalogMode.OPEN
    digests: dict[str, str] = field(default_factory=dict)  # name -> sha256 of the GGUF

    def allows(self, name: str) -> bool:
        """Tell whether a name may be offered."""
        return self.mode is CatalogMode.OPEN or full_name(name) in self.digests

    def digest_of(self, name: str) -> str | None:
        """The digest that a node's model must have; None: any."""
        return None if self.mode is CatalogMode.OPEN else self.digests.get(full_name(name), "")

    def offers(self, name: str, digest: str) -> bool:
        """Tell whether a node's model may be used."""
        wanted = self.digest_of(name)
        return wanted is None or wanted == digest

    def require(self, action: str, name: str) -> None:
        """Check that a model may be fetched to a node.

        Raises:
            OperationRefused: It is not in the catalog.
        """
        if action == "pull" and not self.allows(name):
            raise OperationRefused(f"{name} is not in the catalog", "`gfe admin catalog add` takes it in; GFE_CATALOG=open asks nobody")
