"""Secrets of webhooks, and what is signed with them (Standard Webhooks). Nothing of a secret is in the database.

A secret is derived from the installation's `webhook_root`, whom it is for, and a version that a rotation raises: whoever has the database alone
can sign nothing. For 24 hours after a rotation both secrets sign, so that a receiver changes over without losing an event.
"""

import base64
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from standardwebhooks.webhooks import Webhook

ROOT_FILE = "webhook_root"
BOTH_FOR = timedelta(hours=24)
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose secret signs: an endpoint's, or an account's for the URLs of its jobs; and which version of it."""

    owner: str
    version: int
    rotated_at: datetime | None

    @classmethod
    def of_endpoint(cls, id_: uuid.UUID, version: int, rotated_at: datetime | None) -> "Signer":
        """The secret of one endpoint."""
        return cls(f"endpoint:{id_}", version, rotated_at)

    @classmethod
    def of_account(cls, user: str, version: int, rotated_at: datetime | None) -> "Signer":
        """The default secret of an account."""
        return cls(f"account:{user}", version, rotated_at)


class Secrets:
    """Derives secrets from the installation's root, and signs with them."""

    def __init__(self, root: bytes) -> None:
        self._root = root

    def __repr__(self) -> str:
        """Never the root."""
        return "Secrets()"

    def secret(self, signer: Signer) -> str:
        """Write the secret that counts now, as it is shown to its owner."""
        return self._derived(signer.owner, signer.version)

    def headers(self, signer: Signer, id_: str, body: str, now: datetime) -> dict[str, str]:
        """Sign an event at the time it is sent; with two secrets shortly after a rotation."""
        versions = [signer.version]
        if signer.rotated_at is not None and signer.version > 1 and now - signer.rotated_at < BOTH_FOR:
            versions.append(signer.version - 1)
        signatures = [Webhook(self._derived(signer.owner, version)).sign(id_, now, body) for version in versions]
        return {"webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": " ".join(signatures)}

    def _derived(self, owner: str, version: int) -> str:
        digest = hmac.new(self._root, f"gfe webhook:{owner}:{version}".encode(), hashlib.sha256).digest()
        return PREFIX + base64.b64encode(digest).decode()
