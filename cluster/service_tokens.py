"""Tokens by which our own services know each other: EdDSA JWTs of a minute, signed by the calling service's key (security reference 4)."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

LIFETIME_S = 60
REUSE_S = 30
LEEWAY_S = 5
MAX_KNOWN = 100


class InvalidToken(Exception):
    """The token is not one that we accept."""


class ServiceTokens:
    """Makes tokens for one issuer; each is used again for `REUSE_S`."""

    def __init__(self, private_key_pem: bytes, issuer: str, clock: Callable[[], float] = time.time) -> None:
        key = load_pem_private_key(private_key_pem, None)
        assert isinstance(key, Ed25519PrivateKey)
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._made: dict[str, tuple[float, str]] = {}

    def mint(self, audience: str) -> str:
        """Make, or use again, a token for an audience."""
        now = self._clock()
        made = self._made.get(audience)
        if made is None or now - made[0] > REUSE_S:
            claims = {"iss": self._issuer, "aud": audience, "iat": int(now), "exp": int(now) + LIFETIME_S, "jti": uuid.uuid4().hex}
            made = (now, jwt.encode(claims, self._key, algorithm="EdDSA"))
            self._made[audience] = made
        return made[1]


class TokenVerifier:
    """Verifies tokens of one audience; a token that was good once is known until it expires."""

    def __init__(self, public_key_pem: bytes, audience: str, clock: Callable[[], float] = time.time) -> None:
        key = load_pem_public_key(public_key_pem)
        assert isinstance(key, Ed25519PublicKey)
        self._key = key
        self._audience = audience
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    def verify(self, token: str) -> str:
        """Tell a token's issuer.

        Raises:
            InvalidToken: Wrong signature, audience or form, or expired.
        """
        now = self._clock()
        known = self._known.get(token)
        if known and known[0] > now:
            return known[1]
        options: Any = {"require": ["iss", "aud", "exp", "jti"]}
        try:
            claims = jwt.decode(token, self._key, algorithms=["EdDSA"], audience=self._audience, leeway=LEEWAY_S, options=options)
        except jwt.PyJWTError as refused:
            raise InvalidToken(str(refused)) from refused
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known[token] = (float(claims["exp"]), str(claims["iss"]))
        return str(claims["iss"])
