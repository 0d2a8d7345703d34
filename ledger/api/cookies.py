"""The two cookies: the refresh token, hidden from scripts and believed only from a page of ours; and a sign-in's journey elsewhere."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ledger.errors import OriginRefused
from ledger.identity.oauth.journey import LIFETIME_S
from ledger.identity.sessions import SLIDING
from ledger.settings import LedgerSettings

CSRF_HEADER = "x-gfe-csrf"
PATH = "/api/core/"
JOURNEY_PATH = "/api/core/oauth/"


def _is_tls(settings: LedgerSettings) -> bool:
    return urlsplit(settings.public_url).scheme == "https"


def _name(settings: LedgerSettings) -> str:
    """Over TLS the browser itself sees to it that nobody else can set it (`__Secure-`; `__Host-` would forbid the path)."""
    return "__Secure-gfe_refresh" if _is_tls(settings) else "gfe_refresh"


def set_cookie(answer: Response, token: str, settings: LedgerSettings) -> None:
    """Hand a refresh token over as a cookie."""
    answer.set_cookie(
        _name(settings), token, max_age=int(SLIDING.total_seconds()), path=PATH, httponly=True, samesite="strict", secure=_is_tls(settings)
    )


def delete_cookie(answer: Response, settings: LedgerSettings) -> None:
    """Take it back."""
    answer.delete_cookie(_name(settings), path=PATH, httponly=True, samesite="strict", secure=_is_tls(settings))


def _journey_name(settings: LedgerSettings) -> str:
    return "__Secure-gfe_oauth" if _is_tls(settings) else "gfe_oauth"


def keep_journey(answer: Response, state: str, settings: LedgerSettings) -> None:
    """Bind a sign-in through another service to this browser; it comes back by a link from there, hence Lax."""
    answer.set_cookie(
        _journey_name(settings), state, max_age=LIFETIME_S, path=JOURNEY_PATH, httponly=True, samesite="lax", secure=_is_tls(settings)
    )


def delete_journey(answer: Response, settings: LedgerSettings) -> None:
    """Forget it."""
    answer.delete_cookie(_journey_name(settings), path=JOURNEY_PATH, httponly=True, samesite="lax", secure=_is_tls(settings))


def journey_of(request: Request, settings: LedgerSettings) -> str | None:
    """Read it."""
    return request.cookies.get(_journey_name(settings))


def cookie_of(request: Request, settings: LedgerSettings) -> str | None:
    """Read it."""
    return request.cookies.get(_name(settings))


def require_own_page(request: Request, settings: LedgerSettings) -> None:
    """Refuse what a foreign page could have sent.

    Raises:
        OriginRefused: The header is missing, or the origin is not on the list.
    """
    if request.headers.get(CSRF_HEADER) != "1" or request.headers.get("origin") not in settings.origins:
        raise OriginRefused
