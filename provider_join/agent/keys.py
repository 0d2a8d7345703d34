"""The agent's key pair, and what is signed with it: enrollment, tokens, receipts. The private half stays in its file (0600)."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.edge.protocol import SignedReceipt
from cluster.jobs import End, EndReason
from cluster.receipts import Receipt, sign, text_sha256
from provider_join.agent.home import write_closed
from provider_join.agent.session import Held
from provider_join.errors import NotFit

SEED_BYTES = 32


class AgentKey:
    """One Ed25519 key pair."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_text = base64url(private.public_key().public_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> "AgentKey":
        """Read it.

        Raises:
            NotFit: The file is none, or others may read it.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise NotFit(f"others may read this node's key {path}", f"chmod 600 {path}, or enroll again if somebody did")
            return cls(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))
        except (OSError, ValueError) as broken:
            raise NotFit(
                f"the key of this node cannot be read: {path} ({type(broken).__name__})", "enroll again: gfe agent --code …"
            ) from broken

    @classmethod
    def read_or_make(cls, path: Path) -> "AgentKey":
        """Read it, or make one when there is none.

        Raises:
            NotFit: See `read`.
        """
        if not path.exists():
            write_closed(path, Ed25519PrivateKey.generate().private_bytes_raw())
        return cls.read(path)

    def sign(self, *lines: str) -> str:
        """Sign lines of text; base64url without padding."""
        return base64url(self._private.sign("\n".join(lines).encode()))

    def receipt(self, node: str, held: Held, end: End, content: str, thinking: str) -> SignedReceipt:
        """Sign what was delivered."""
        digest = text_sha256(content, thinking)
        reason = "length" if end.reason is EndReason.LENGTH else "stop"
        receipt = Receipt(
            job=held.job, lease=held.lease, node=node, model_digest=held.model_digest, text_sha256=digest,
            prompt_tokens=end.usage.prompt_tokens, completion_tokens=end.usage.completion_tokens, reason=reason,
        )  # fmt: skip
        return SignedReceipt(text_sha256=digest, signature=sign(receipt, self._private))


def base64url(value: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
