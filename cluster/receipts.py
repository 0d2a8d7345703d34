"""Receipts: an agent's signature under what it delivered, made and checked without anybody else (security reference 5.3). Pure."""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HEAD = "gfe.receipt.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an agent vouches for. Counts are the agent's own claims; `reason` is why the answer ended."""

    job: str
    lease: int
    node: str
    model_digest: str
    text_sha256: str
    prompt_tokens: int
    completion_tokens: int
    reason: str

    def signed_bytes(self) -> bytes:
        """Write what is signed: UTF-8 lines, no JSON and so no canonical form of it."""
        lines = (
            HEAD, self.job, str(self.lease), self.node, self.model_digest, self.text_sha256, str(self.prompt_tokens),
            str(self.completion_tokens), self.reason,
        )  # fmt: skip
        return "\n".join(lines).encode()


def text_sha256(content: str, thinking: str) -> str:
    """Hash an answer: all of its content, then all of its thinking, in UTF-8; hex."""
    digest = hashlib.sha256(content.encode(errors="surrogatepass"))
    digest.update(thinking.encode(errors="surrogatepass"))
    return digest.hexdigest()


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> str:
    """Sign a receipt; base64url without padding."""
    return base64.urlsafe_b64encode(key.sign(receipt.signed_bytes())).rstrip(b"=").decode()


def is_signed_by(receipt: Receipt, signature: str, public_key: bytes) -> bool:
    """Tell whether a signature under a receipt is that of a key (32 raw bytes)."""
    try:
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        Ed25519PublicKey.from_public_bytes(public_key).verify(raw, receipt.signed_bytes())
    except (InvalidSignature, ValueError):
        return False
    return True
