"""The keys that our tokens are signed with: Ed25519, in files, rotated without anybody noticing.

A new key is published first, signs after `PUBLISHED_S` (everybody has fetched it by then), and stays published until every token that its
predecessor signed has expired. `gfe ledger rotate-keys` makes the next one. Verifiers read `/.well-known/jwks.json` (RFC 7517, RFC 8037).
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from ledger.errors import CredentialUnknown
from ledger.secret_files import write_new

FOLDER = "jwt"
PUBLISHED_S = 600
RETIRED_S = 1200
RELOAD_S = 30
LEEWAY_S = 30
_NAME = re.compile(r"(\d{10})-([0-9a-f]{16})\.pem")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: its id, when it was made (seconds since 1970), the key."""

    kid: str
    made_at: int
    private: Ed25519PrivateKey

    @property
    def public(self) -> Ed25519PublicKey:
        """Its public half."""
        return self.private.public_key()


def signer(keys: Sequence[SigningKey], now: float) -> SigningKey:
    """Choose the key that signs: the newest that is published long enough, or the oldest when none is."""
    ordered = sorted(keys, key=lambda key: key.made_at)
    ripe = [key for key in ordered if key.made_at + PUBLISHED_S <= now]
    return ripe[-1] if ripe else ordered[0]


def published(keys: Sequence[SigningKey], now: float) -> list[SigningKey]:
    """Choose the keys that verifiers are told of: all but those whose successor has signed for `RETIRED_S`."""
    ordered = sorted(keys, key=lambda key: key.made_at)
    return [
        key for key, successor in zip(ordered, [*ordered[1:], None], strict=True)
        if successor is None or successor.made_at + PUBLISHED_S + RETIRED_S > now
    ]  # fmt: skip


def make_key(folder: Path, now: float) -> str:
    """Make a key file in a folder of secrets; answer the key's id."""
    home = folder / FOLDER
    home.mkdir(mode=0o700, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    kid = os.urandom(8).hex()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new(home / f"{int(now)}-{kid}.pem", pem, 0o400)
    return kid


class SigningKeys:
    """The keys of a folder of secrets; looked at again every `RELOAD_S`."""

    def __init__(self, folder: Path, issuer: str) -> None:
        self._folder = folder
        self._issuer = issuer
        self._keys: list[SigningKey] = []
        self._read_at = float("-inf")

    def _current(self) -> list[SigningKey]:
        if time.monotonic() - self._read_at > RELOAD_S:
            self._keys = _read(self._folder / FOLDER) or self._keys
            self._read_at = time.monotonic()
        return self._keys

    @property
    def kid(self) -> str:
        """Id of the key that signs now."""
        return signer(self._current(), time.time()).kid

    def sign(self, claims: dict[str, Any], type_: str = "JWT") -> str:
        """Sign claims, with our name as their issuer. `type_` tells what kind of token it is (RFC 8725, 3.11)."""
        key = signer(self._current(), time.time())
        return jwt.encode(claims | {"iss": self._issuer}, key.private, algorithm="EdDSA", headers={"kid": key.kid, "typ": type_})

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """Read the claims of a token of ours.

        Raises:
            CredentialUnknown: It is not ours, for somebody else, or has expired.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = next(key for key in published(self._current(), time.time()) if key.kid == kid)
            claims: dict[str, Any] = jwt.decode(
                token, key.public, algorithms=["EdDSA"], audience=audience, issuer=self._issuer, leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "sub", "iat", "exp", "jti"]},
            )  # fmt: skip
        except (jwt.PyJWTError, StopIteration, ValueError) as refused:
            raise CredentialUnknown from refused
        return claims

    def jwks(self) -> dict[str, Any]:
        """Write the published keys as a JWK set."""
        return {"keys": [_jwk(key) for key in published(self._current(), time.time())]}


def _jwk(key: SigningKey) -> dict[str, str]:
    x = jwt.utils.base64url_encode(key.public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid, "x": x}


def _read(folder: Path) -> list[SigningKey]:
    found = []
    for path in sorted(folder.glob("*.pem")):
        if name := _NAME.fullmatch(path.name):
            private = load_pem_private_key(path.read_bytes(), None)
            if isinstance(private, Ed25519PrivateKey):
                found.append(SigningKey(name[2], int(name[1]), private))
    return found
