"""Closes a prompt and its answer so that only the auditor can read them: whoever keeps them for him cannot. Pure but for the key's chance.

X25519 with a key of this message alone, HKDF-SHA256, ChaCha20-Poly1305 (the construction of RFC 9180's base mode, without its framing). The
job's id is bound in, so that what was sealed for one job opens no other. A sealed text is the message's public key, then the ciphertext.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
LABEL = b"gfe.audit.v1"
NONCE = bytes(12)  # each key closes one message


class SealBroken(Exception):
    """It was not sealed to this key, or for another job."""

    def __str__(self) -> str:
        """Say so."""
        return "the sample cannot be opened: it was sealed to another key, or for another job"


def seal(to: bytes, text: bytes, job: str) -> bytes:
    """Close a text to a public key (32 raw bytes)."""
    own = X25519PrivateKey.generate()
    sender = own.public_key().public_bytes_raw()
    key = _key(own.exchange(X25519PublicKey.from_public_bytes(to)), sender, to)
    return sender + ChaCha20Poly1305(key).encrypt(NONCE, text, job.encode())


def unseal(key: X25519PrivateKey, sealed: bytes, job: str) -> bytes:
    """Open what `seal` closed to this key's public half.

    Raises:
        SealBroken: With another key, for another job, or not whole.
    """
    sender = sealed[:KEY_BYTES]
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(sender))
        return ChaCha20Poly1305(_key(shared, sender, key.public_key().public_bytes_raw())).decrypt(NONCE, sealed[KEY_BYTES:], job.encode())
    except (InvalidTag, ValueError) as wrong:
        raise SealBroken from wrong


def _key(shared: bytes, sender: bytes, to: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=LABEL + sender + to).derive(shared)
