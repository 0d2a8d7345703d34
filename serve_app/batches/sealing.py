"""Keeps a consumer's credential beside its batch, closed with the installation's key: the database alone opens nothing.

AES-256-GCM; the batch's id is bound in, so that what was sealed for one batch opens no other.
"""

import os
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "batch_key"
NONCE_BYTES = 12


class SealBroken(Exception):
    """It was not sealed with this key, or for another batch."""

    def __str__(self) -> str:
        """Say what it means."""
        return "The credential of this batch cannot be read any more: the installation's key has changed. Create the batch again."


def seal(key: bytes, credential: str, batch: uuid.UUID) -> bytes:
    """Close a credential; `key` is the key file's text: 64 hexadecimal digits."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(bytes.fromhex(key.decode())).encrypt(nonce, credential.encode(), batch.bytes)


def unseal(key: bytes, sealed: bytes, batch: uuid.UUID) -> str:
    """Open what `seal` closed.

    Raises:
        SealBroken: With another key, or for another batch.
    """
    try:
        return AESGCM(bytes.fromhex(key.decode())).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], batch.bytes).decode()
    except InvalidTag as wrong:
        raise SealBroken from wrong
