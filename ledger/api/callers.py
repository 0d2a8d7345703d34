"""Who calls a route, and from where: the dependencies that every route of the public app declares."""

import ipaddress
import re
import secrets
from typing import Annotated, Any

from fastapi import Depends, Request

from ledger.audit_log import Origin
from ledger.context import LedgerContext
from ledger.errors import NotAuthenticated, NotPermitted
from ledger.identity.credentials import Principal
from ledger.identity.enrollment import AUDIENCE
from ledger.ids import text_of

MAX_PROGRAM = 300  # characters of a User-Agent that are kept
_PRINTABLE = re.compile(r"[^\x20-\x7e]")


def context_of(request: Request) -> LedgerContext:
    """The service's context."""
    context: LedgerContext = request.app.state.context
    return context


Context = Annotated[LedgerContext, Depends(context_of)]


def address_of(request: Request) -> str:
    """Where a request comes from, as limits count it: an IPv4 address, or the /64 of an IPv6 one."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or "unknown"
    if address.version == 6:
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def origin_of(request: Request, actor: str = "anonymous") -> Origin:
    """What the audit log keeps of a request."""
    request_id = (request.headers.get("x-request-id") or secrets.token_hex(8))[:64]
    program = _PRINTABLE.sub("", request.headers.get("user-agent", ""))[:MAX_PROGRAM]
    return Origin(actor, address_of(request), request_id, program or None)


def anonymous_origin(request: Request) -> Origin:
    """What the audit log keeps of a request without a credential."""
    return origin_of(request)


AnonymousOrigin = Annotated[Origin, Depends(anonymous_origin)]


def credential_of(request: Request) -> str:
    """Read the `Authorization` header; a credential is taken from nowhere else.

    Raises:
        NotAuthenticated: There is none.
    """
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise NotAuthenticated
    return credential.strip()


def caller_with(scope: str) -> Any:
    """A dependency: who calls; their credential must have this scope."""

    async def caller(request: Request, context: Context) -> Principal:
        principal = await context.credentials.verify(credential_of(request))
        if scope not in principal.scopes:
            raise NotPermitted(scope)
        return principal

    caller.scope = scope  # type: ignore[attr-defined]  # read by the test that walks every route
    return Depends(caller)


async def claims_of_agent(request: Request, context: Context) -> dict[str, Any]:
    """A dependency: the claims of an agent's short token; whether it is still the node's, the route judges."""
    return context.signing_keys.verify(credential_of(request), AUDIENCE)


AgentClaims = Annotated[dict[str, Any], Depends(claims_of_agent)]


def of(principal: Principal, request: Request) -> Origin:
    """What the audit log keeps of a request of somebody we know."""
    actor = text_of("user", principal.person)
    return origin_of(request, f"{actor}/key_{principal.id}" if principal.id else actor)
