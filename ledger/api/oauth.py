"""Signing in through another service: away with a POST, back with a GET that sets the refresh cookie. No token is ever in an address."""

import hmac
from typing import Annotated
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ledger.api.account_shapes import CodeBody, JourneyAsked, JourneyBegun, LinkedList, LinkedProvider, TokenPair
from ledger.api.accounts import SignedIn, delivered
from ledger.api.callers import AnonymousOrigin, Context, of
from ledger.api.cookies import delete_journey, journey_of, keep_journey, require_own_page, set_cookie
from ledger.api.routes import both, moment
from ledger.errors import NotFound, SignInFailed, TokenInvalid

router = APIRouter(prefix="/api/core/oauth", redirect_slashes=False)
Text = Annotated[str, Query(max_length=2048)]
log = structlog.get_logger()


@both(router, "GET", "/", id="list_sign_ins", refusals=(401, 403, 503))
async def list_sign_ins(context: Context, caller: SignedIn) -> LinkedList:
    """What the caller signs in with besides a password."""
    found = await context.guests.links(caller.person)
    return LinkedList(results=[LinkedProvider(provider=one.provider, email=one.email, created_at=moment(one.created_at)) for one in found])


@both(router, "POST", "/second-factor/", id="finish_sign_in", model=TokenPair, refusals=(400, 401, 403, 429, 503), public=True)
async def finish(context: Context, body: CodeBody, origin: AnonymousOrigin, request: Request) -> JSONResponse:
    """Give the second factor after coming back from a provider."""
    require_own_page(request, context.settings)
    state = journey_of(request, context.settings)
    if not state:
        raise TokenInvalid
    tokens = await context.guests.finish(state, body.code, origin)
    answer = delivered(context, tokens, in_cookie=True)
    delete_journey(answer, context.settings)
    return answer


@both(router, "POST", "/{provider}/", id="begin_sign_in", model=JourneyBegun, refusals=(400, 404, 429, 503), public=True)
async def begin(context: Context, provider: str, origin: AnonymousOrigin, body: JourneyAsked | None = None) -> JSONResponse:
    """Begin to sign in: go to `url` with the same browser."""
    url, state = await context.guests.begin(provider, body.return_to if body else None, origin)
    answer = JSONResponse({"url": url})
    keep_journey(answer, state, context.settings)
    return answer


@both(router, "POST", "/{provider}/link/", id="link_sign_in", model=JourneyBegun, refusals=(400, 401, 403, 404, 429, 503))
async def link(context: Context, provider: str, caller: SignedIn, request: Request, body: JourneyAsked | None = None) -> JSONResponse:
    """Begin to link a provider to the caller's account: go to `url` with the same browser."""
    url, state = await context.guests.begin(provider, body.return_to if body else None, of(caller, request), caller.person)
    answer = JSONResponse({"url": url})
    keep_journey(answer, state, context.settings)
    return answer


@both(router, "DELETE", "/{provider}/", id="unlink_sign_in", status=204, refusals=(400, 401, 403, 404, 503))
async def unlink(context: Context, provider: str, caller: SignedIn, request: Request) -> Response:
    """Stop signing in with a provider."""
    await context.guests.unlink(caller.person, provider, of(caller, request))
    return Response(status_code=204)


@both(router, "GET", "/{provider}/callback/", id="end_journey", status=303, model=None, refusals=(400, 503), public=True)
async def callback(
    context: Context, provider: str, origin: AnonymousOrigin, request: Request, state: Text = "", code: Text = "", error: Text = ""
) -> Response:
    """Where a provider sends people back to; ends on a page of the console, with `?error=` when it did not work."""
    kept = journey_of(request, context.settings)
    if not kept or not hmac.compare_digest(kept.encode(), state.encode()):
        return _away(context, "/login", error="oauth_state")  # another browser's journey, or none
    if error or not code:
        return _away(context, "/login", error="oauth_denied")
    try:
        arrived = await context.guests.arrive(provider, state, code, origin)
    except (TokenInvalid, NotFound):
        return _away(context, "/login", error="oauth_state")
    except SignInFailed as failed:
        log.warning("oauth_failed", provider=failed.provider, reason=failed.reason)
        return _away(context, "/login", error=failed.outcome)
    if arrived.waits:
        answer = _away(context, "/login", second_factor="1")
        keep_journey(answer, arrived.waits, context.settings)
        return answer
    answer = _away(context, arrived.return_to)
    if arrived.tokens:
        set_cookie(answer, arrived.tokens.refresh, context.settings)
    return answer


def _away(context: Context, path: str, **query: str) -> RedirectResponse:
    """Send the browser to one of our own pages; its journey is over."""
    answer = RedirectResponse(
        f"{path}?{urlencode(query)}" if query else path, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
    delete_journey(answer, context.settings)
    return answer
