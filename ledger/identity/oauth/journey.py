"""A sign-in that is on its way through another service: state, PKCE, nonce. Pure but for chance.

Sources: RFC 6749 (4.1), RFC 7636 (PKCE, S256), RFC 9700 (2.1: state bound to the browser), OpenID Connect Core 1.0 (3.1).
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from ledger.identity.oauth.providers import Provider

LIFETIME_S = 600
MAX_RETURN = 200
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")  # of our own site: one slash, printable, no backslash
_UNFIT = re.compile(r"[^A-Za-z0-9@.+_-]+")
MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Journey:
    """What we must remember until somebody comes back. `state` is in the address and in a cookie, and hashed in the database."""

    state: str
    verifier: str
    nonce: str

    @classmethod
    def begin(cls) -> "Journey":
        """Make one that nobody can guess."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(48), secrets.token_urlsafe(24))


def hash_of(state: str) -> bytes:
    """Hash a state as it is stored."""
    return hashlib.sha256(state.encode(errors="surrogatepass")).digest()


def challenge_of(verifier: str) -> str:
    """Derive the challenge of PKCE's S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def address_of(authorize_url: str, provider: Provider, journey: Journey, redirect_uri: str) -> str:
    """Write the address at the provider that begins the journey."""
    query = {
        "response_type": "code", "client_id": provider.client_id, "redirect_uri": redirect_uri, "scope": provider.scope, "state": journey.state,
        "code_challenge": challenge_of(journey.verifier), "code_challenge_method": "S256",
    }  # fmt: skip
    if provider.kind == "openid":
        query["nonce"] = journey.nonce
    return f"{authorize_url}{'&' if '?' in authorize_url else '?'}{urlencode(query)}"


def return_path(asked: str | None) -> str:
    """Where somebody goes afterwards: a path of our own site, whatever was asked."""
    return asked if asked and len(asked) <= MAX_RETURN and _PATH.fullmatch(asked) else "/"


def name_like(wish: str) -> str:
    """Make a username of what another service calls somebody; it may be taken."""
    return _UNFIT.sub("-", wish.partition("@")[0]).strip("-.")[:MAX_NAME] or "user"
