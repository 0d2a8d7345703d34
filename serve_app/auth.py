"""Credential to caller. A credential is checked here for its form only; its truth is the ledger's answer."""

import time

from ledger.client import Caller, LedgerOperations, NotAuthenticated, NotPermitted, check_api_key

JWT_DOTS = 2  # header, claims, signature (RFC 7519)
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

    def __init__(self, ledger: LedgerOperations) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[float, Caller]] = {}

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
