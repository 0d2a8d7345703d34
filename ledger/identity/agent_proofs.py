"""What agents show and sign: enrollment codes, public keys, proofs, thumbprints. Pure: no database, no clock.

Binary values travel as base64url without padding, in the one canonical spelling: else one key could be registered under several.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import InvalidRequest
from ledger.key_format import SECRET_LENGTH, base62

CODE_PREFIX = "gfe_enroll_"
SHOWN_LENGTH = len(CODE_PREFIX) + 4
KEY_BYTES, SIGNATURE_BYTES = 32, 64
_CODE = re.compile(CODE_PREFIX + r"[0-9A-Za-z]{43}")


def new_code() -> str:
    """Make an enrollment code: 256 random bits."""
    return CODE_PREFIX + base62(secrets.randbits(256), SECRET_LENGTH)


def is_code(text: str) -> bool:
    """Tell whether a text has the form of an enrollment code."""
    return _CODE.fullmatch(text) is not None


def shown_part(code: str) -> str:
    """Tell the beginning of a code, by which its owner knows it again; the rest keeps more than 230 secret bits."""
    return code[:SHOWN_LENGTH]


def code_mac(pepper: bytes, code: str) -> bytes:
    """Authenticate a code under the pepper; its prefix keeps codes and API keys apart."""
    return hmac.digest(pepper, code.encode(), "sha256")


def nonce_hash(nonce: str) -> bytes:
    """Digest a nonce, as it is stored."""
    return hashlib.sha256(nonce.encode()).digest()


def enroll_text(code: str, public_key: str) -> bytes:
    """Write what an agent signs to enroll."""
    return f"gfe.agent.enroll.v1\n{code}\n{public_key}".encode()


def token_text(node: str, nonce: str, origin: str) -> bytes:
    """Write what an agent signs to get a token. The origin stops a signature from being carried to another platform."""
    return f"gfe.agent.token.v1\n{node}\n{nonce}\n{origin}".encode()


def check_public_key(text: str) -> str:
    """Answer a public key that is one.

    Raises:
        InvalidRequest: It is not base64url, without padding, of 32 bytes that are an Ed25519 key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(text, KEY_BYTES))
    except ValueError as wrong:
        raise InvalidRequest("public_key", "Send the 32 bytes of an Ed25519 public key as base64url without padding.") from wrong
    return text


def is_signed(public_key: str, text: bytes, signature: str) -> bool:
    """Tell whether the key's owner signed this text."""
    try:
        key = Ed25519PublicKey.from_public_bytes(_decoded(public_key, KEY_BYTES))
        key.verify(_decoded(signature, SIGNATURE_BYTES), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def thumbprint(public_key: str) -> str:
    """Tell a key's thumbprint (RFC 7638; OKP members by RFC 8037): SHA-256 of its required members in lexical order."""
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": public_key}, separators=(",", ":"), sort_keys=True)
    return encoded(hashlib.sha256(members.encode()).digest())


def encoded(value: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decoded(text: str, length: int) -> bytes:
    value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if text.isascii() else b""
    if len(value) != length or encoded(value) != text:
        raise ValueError
    return value
