"""The second factor: six digits of an authenticator (RFC 6238), each good once; the secret is stored encrypted."""

import os
import time

import pyotp
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ISSUER = "GPU-For-Everyone"
STEP_S = 30
_NONCE_BYTES = 12


class TotpBox:
    """Encrypts secrets under a key that is derived from the pepper; the owner's id is bound in."""

    def __init__(self, pepper: bytes) -> None:
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=b"gfe totp v1").derive(pepper))

    def close(self, secret: str, owner: bytes) -> bytes:
        """Encrypt."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), owner)

    def open(self, stored: bytes, owner: bytes) -> str:
        """Decrypt."""
        return self._cipher.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], owner).decode()


def new_secret() -> str:
    """Make a secret."""
    return pyotp.random_base32()


def address_of(secret: str, username: str) -> str:
    """Write the `otpauth://` address that an authenticator reads as a picture."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER)


def step_of(secret: str, code: str, last_step: int | None, now: float | None = None) -> int | None:
    """Tell which time step a code belongs to: this one or the ones beside it, and later than the last one used; None when none fits."""
    current = int((time.time() if now is None else now) // STEP_S)
    totp = pyotp.TOTP(secret)
    for step in (current, current - 1, current + 1):
        if (last_step is None or step > last_step) and len(code) == 6 and code.isascii() and code.isdigit():  # noqa: SIM102 - reads as two questions
            if pyotp.utils.strings_equal(totp.generate_otp(step), code):
                return step
    return None
