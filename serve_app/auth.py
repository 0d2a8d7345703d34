"""Credential to caller. A credential is checked here for its form only; its truth is the ledger's answer."""

import time

from cluster.service_tokens import InvalidToken, TokenVerifier
from ledger.client import Caller, LedgerOperations, NotAuthenticated, NotPermitted, check_api_key

JWT_DOTS = 2  # header, claims, signature (RFC 7519)
OWN_MACHINE = "operator"  # audience of the tokens of `gfe` on the platform's own machine
CACHE_S = 2.0
CACHE_ENTRIES = 10_000


def credential_of(authorization: str | None, api_key: str | None = None) -> str:
    """Read the credential of a request's headers and check its form.

    Raises:
        NotAuthenticated: There is none, it is not a key of ours, or it is mistyped.
    """
    scheme, _, credential = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        credential = api_key or ""
    credential = credential.strip()
    if not credential:
        raise NotAuthenticated
    if credential.count(".") != JWT_DOTS:
        check_api_key(credential)
    return credential


class Callers:
    """Who calls, on routes that place no hold; the ledger's answer is kept for `CACHE_S`."""

    def __init__(self, ledger: LedgerOperations, own_machine: TokenVerifier | None = None) -> None:
        self._ledger = ledger
        self._own_machine = own_machine
        self._known: dict[str, tuple[float, Caller]] = {}

    def is_own_machine(self, credential: str) -> bool:
        """Tell whether `gfe` on the platform's own machine calls: it signs with the service's key, which nobody else can read."""
        if self._own_machine is None:
            return False
        try:
            self._own_machine.verify(credential)
        except InvalidToken:
            return False
        return True

    def forget(self, kind: str, subject: str) -> None:
        """A key, a sign-in or a person was cut: what was known of anybody may be wrong now; asking again is cheap and rare."""
        self._known.clear()

    async def require(self, credential: str, scope: str) -> Caller:
        """Tell who calls.

        Raises:
            NotAuthenticated: Nobody that the ledger knows.
            NotPermitted: The credential lacks the scope.
            LedgerUnavailable: The ledger does not answer.
        """
        known = self._known.get(credential)
        if known is None or time.monotonic() - known[0] > CACHE_S:
            if len(self._known) > CACHE_ENTRIES:
                self._known.clear()
            self._known.pop(credential, None)
            known = (time.monotonic(), await self._ledger.introspect(credential))
            self._known[credential] = known
        if scope not in known[1].scopes:
            raise NotPermitted(scope)
        return known[1]
