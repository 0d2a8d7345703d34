"""Which of our own services is calling: tokens of at most a minute, signed by each service's own key."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import jwt

from ledger.errors import NotAuthenticated

AUDIENCE = "ledger-internal"
MAX_LIFETIME_S = 60
LEEWAY_S = 5
KEPT_TOKENS = 100


@dataclass(slots=True)
class ServiceVerifier:
    """Verifies service tokens against the public keys that we were given, by issuer."""

    public_keys: dict[str, bytes]
    _known: dict[str, tuple[float, str]] = field(default_factory=dict)

    @classmethod
    def of_folder(cls, folder: Path) -> "ServiceVerifier":
        """Read `service_<name>.pub.pem` of a folder."""
        return cls(
            {path.name.removeprefix("service_").removesuffix(".pub.pem"): path.read_bytes() for path in folder.glob("service_*.pub.pem")}
        )

    def verify(self, authorization: str | None) -> str:
        """Tell which service sent this `Authorization` header.

        Raises:
            NotAuthenticated: None that we know.
        """
        known = self._known.get(authorization or "")
        if known and known[0] > time.time():
            return known[1]
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated
        try:
            issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss"))
            claims = jwt.decode(
                token, self.public_keys[issuer], algorithms=["EdDSA"], audience=AUDIENCE, leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "iat", "exp", "jti"]},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError) as refused:
            raise NotAuthenticated from refused
        if claims["exp"] - claims["iat"] > MAX_LIFETIME_S:
            raise NotAuthenticated
        if len(self._known) > KEPT_TOKENS:
            self._known.clear()
        self._known[authorization or ""] = (claims["exp"], issuer)
        return issuer
