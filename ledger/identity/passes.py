"""Passes for the dashboard guard: with one an operator's browser enters, once, within seconds; the visit ends with the sign-in.

A pass is a signed word of its own kind: no API takes it for an access token, and the guard takes no access token for a pass. The guard sees
to it that a pass counts once (`serve_app/dashboard_guard/visits.py`).
"""

import secrets
import time
import uuid
from dataclasses import dataclass

from ledger.errors import CredentialUnknown, NotPermitted
from ledger.identity.credentials import Credentials, Principal
from ledger.identity.signing_keys import SigningKeys
from ledger.ids import text_of

LIFETIME_S = 30
AUDIENCE = "dashboard-guard"
TYPE = "guard-pass+jwt"


@dataclass(frozen=True, slots=True)
class Visitor:
    """An operator, and the sign-in that a visit hangs on; `made_at`, `pass_id`: of the pass, when there is one. Seconds since 1970."""

    session: uuid.UUID
    user: str
    username: str
    pass_id: str = ""
    made_at: int = 0


class Passes:
    """Makes passes, and tells the guard whose they are."""

    def __init__(self, credentials: Credentials, keys: SigningKeys) -> None:
        self._credentials = credentials
        self._keys = keys

    def make(self, principal: Principal) -> str:
        """Make a pass for an operator who is signed in.

        Raises:
            NotPermitted: The caller is not signed in, but has a key.
        """
        if principal.session is None:
            raise NotPermitted("operator")
        now = int(time.time())
        claims = {
            "aud": AUDIENCE, "sub": text_of("user", principal.person), "sid": str(principal.session), "jti": secrets.token_hex(16),
            "iat": now, "exp": now + LIFETIME_S,
        }  # fmt: skip
        return self._keys.sign(claims, TYPE)

    async def read(self, word: str) -> Visitor:
        """Tell whose pass this is.

        Raises:
            NotAuthenticated: It is none of ours, or too old, or its sign-in has ended.
            NotPermitted: The sign-in is not an operator's any more.
            LedgerUnavailable: The database does not answer.
        """
        claims = self._keys.verify(word, AUDIENCE)
        if time.time() > claims["exp"]:  # no leeway: whoever made it is on this side too
            raise CredentialUnknown
        found = await self.look(uuid.UUID(claims["sid"]))
        return Visitor(found.session, found.user, found.username, str(claims["jti"]), int(claims["iat"]))

    async def look(self, session: uuid.UUID) -> Visitor:
        """Tell whose sign-in this is; it is open, and an operator's.

        Raises:
            NotAuthenticated: It has ended, or there is none.
            NotPermitted: It is not an operator's.
            LedgerUnavailable: The database does not answer.
        """
        principal = await self._credentials.operator(session)
        return Visitor(session, principal.caller.user, principal.caller.username)
