"""What people do with their accounts: register, sign in, refresh, sign out, profile, password, e-mail, second factor."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from ledger.amounts import credits_text, micros_of
from ledger.api.account_shapes import (
    Account,
    CodeBody,
    Config,
    Jwks,
    NewAccount,
    PasswordChange,
    ProfileAnswer,
    ProfileChange,
    RefreshBody,
    Reset,
    ResetAsked,
    SignInBody,
    TokenPair,
    TotpBegun,
)
from ledger.api.callers import AnonymousOrigin, Context, caller_with, of
from ledger.api.cookies import cookie_of, delete_cookie, require_own_page, set_cookie
from ledger.api.routes import both, moment
from ledger.context import LedgerContext
from ledger.errors import NotPermitted, TokenInvalid
from ledger.identity.credentials import Principal
from ledger.identity.people import ACCOUNT_SCOPE, get_profile
from ledger.identity.sessions import Tokens
from ledger.ids import text_of

router = APIRouter(prefix="/api/core", redirect_slashes=False)
well_known = APIRouter(redirect_slashes=False)
Owner = Annotated[Principal, caller_with(ACCOUNT_SCOPE)]
Reader = Annotated[Principal, caller_with("wallet:read")]


def signed_in(caller: Owner) -> Principal:
    """Only a sign-in: keys do not change accounts, whatever their scopes say."""
    if caller.session is None:
        raise NotPermitted(ACCOUNT_SCOPE)
    return caller


SignedIn = Annotated[Principal, Depends(signed_in)]


@both(router, "GET", "/config/", id="get_config", public=True)
async def config(context: Context) -> Config:
    """Tell a console where the job APIs are and what is set here."""
    settings = context.settings
    return Config(
        api_url=settings.api_url, env=settings.env, welcome_credits=credits_text(micros_of(settings.welcome_credits)),
        job_price=credits_text(micros_of(settings.job_price)), default_fee_percent=settings.platform_fee_percent,
        sign_in_with=context.sign_in_providers(), payment_gateways=context.payment_gateways(),
        deposit_min=credits_text(micros_of(settings.deposit_min)), deposit_max=credits_text(micros_of(settings.deposit_max)),
        withdrawal_min=credits_text(micros_of(settings.withdrawal_min)),
    )  # fmt: skip


@both(router, "POST", "/register/", id="register", status=201, refusals=(400, 429, 503), public=True)
async def register(context: Context, body: NewAccount, origin: AnonymousOrigin) -> Account:
    """Make an account; it starts with the welcome credits."""
    person = await context.sign_in.register(body.username, body.password, body.email or None, body.role, origin)
    return Account(id=text_of("user", person.id), username=person.username, email=body.email or None, role=person.role)


@both(router, "POST", "/token/", id="sign_in", model=TokenPair, refusals=(400, 401, 429, 503), public=True)
async def sign_in(context: Context, body: SignInBody, origin: AnonymousOrigin, request: Request) -> JSONResponse:
    """Sign in."""
    if body.deliver == "cookie":
        require_own_page(request, context.settings)
    tokens = await context.sign_in.sign_in(body.username, body.password, body.code, origin)
    return delivered(context, tokens, in_cookie=body.deliver == "cookie")


def delivered(context: LedgerContext, tokens: Tokens, *, in_cookie: bool) -> JSONResponse:
    """Hand tokens over: both in the body, or the refresh token as a cookie."""
    answer = JSONResponse({"access": tokens.access} if in_cookie else {"access": tokens.access, "refresh": tokens.refresh})
    if in_cookie:
        set_cookie(answer, tokens.refresh, context.settings)
    return answer


@both(router, "POST", "/token/refresh/", id="refresh", model=TokenPair, refusals=(400, 401, 403, 503), public=True)
async def refresh(context: Context, origin: AnonymousOrigin, request: Request, body: RefreshBody | None = None) -> JSONResponse:
    """Renew a sign-in: the refresh token is spent, and a new pair comes back."""
    token, in_cookie = _refresh_token(context, request, body)
    tokens = await context.sessions.refresh(token, origin)
    return delivered(context, tokens, in_cookie=in_cookie)


def _refresh_token(context: LedgerContext, request: Request, body: RefreshBody | None) -> tuple[str, bool]:
    """Take the token from the body, or else from the cookie, which must come from a page of ours."""
    if body is not None and body.refresh:
        return body.refresh, False
    token = cookie_of(request, context.settings)
    if not token:
        raise TokenInvalid
    require_own_page(request, context.settings)
    return token, True


@both(router, "POST", "/logout/", id="sign_out", status=204, refusals=(400, 401, 403, 503), public=True)
async def sign_out(context: Context, origin: AnonymousOrigin, request: Request, body: RefreshBody | None = None) -> Response:
    """End a sign-in with all its tokens."""
    token, _ = _refresh_token(context, request, body)
    await context.sessions.close(token, origin)
    context.credentials.forget_sessions()
    answer = Response(status_code=204)
    delete_cookie(answer, context.settings)
    return answer


@both(router, "GET", "/profile/", id="get_profile", refusals=(401, 403, 503))
async def profile(context: Context, caller: Reader) -> ProfileAnswer:
    """The caller's account."""
    found = await context.database.run(lambda connection: get_profile(connection, caller.person))
    balance = await context.holds.available([caller.person])
    return ProfileAnswer(
        id=text_of("user", caller.person), username=found.person.username, email=found.email, email_verified=found.is_email_verified,
        role=found.person.role, wallet_balance=credits_text(balance.get(caller.person, 0)), created_at=moment(found.created_at),
        has_password=found.has_password, has_totp=found.has_totp,
    )  # fmt: skip


@both(router, "PATCH", "/profile/", id="change_profile", refusals=(400, 401, 403, 503))
async def change_profile(context: Context, caller: SignedIn, body: ProfileChange, request: Request) -> ProfileAnswer:
    """Change the address (it has to be proven again) or the role."""
    if body.role is not None:
        await context.sign_in.change_role(caller.who, body.role, of(caller, request))
    if body.email is not None:
        await context.sign_in.change_email(caller.who, body.email, of(caller, request))
    return await profile(context, caller)


@both(router, "POST", "/password/change/", id="change_password", status=204, refusals=(400, 401, 403, 429, 503))
async def change_password(context: Context, caller: SignedIn, body: PasswordChange, request: Request) -> Response:
    """Set another password; all other sign-ins end."""
    await context.sign_in.change_password(caller.who, body.old_password, body.new_password, caller.session, of(caller, request))
    context.credentials.forget_sessions()
    return Response(status_code=204)


@both(router, "POST", "/password/reset/", id="ask_for_reset", status=202, refusals=(400, 429, 503), public=True)
async def ask_for_reset(context: Context, body: ResetAsked, origin: AnonymousOrigin) -> Response:
    """Mail a code for a new password to a proven address. The answer is the same whether there is one."""
    await context.sign_in.ask_for_reset(body.email, origin)
    return Response(status_code=202)


@both(router, "POST", "/password/reset/confirm/", id="reset_password", status=204, refusals=(400, 503), public=True)
async def reset_password(context: Context, body: Reset, origin: AnonymousOrigin) -> Response:
    """Set a new password with a code from a mail; every sign-in ends."""
    await context.sign_in.reset_password(body.code, body.new_password, origin)
    context.credentials.forget_sessions()
    return Response(status_code=204)


@both(router, "POST", "/email/verify/", id="verify_email", status=204, refusals=(400, 503), public=True)
async def verify_email(context: Context, body: CodeBody, origin: AnonymousOrigin) -> Response:
    """Prove an address with a code from a mail."""
    await context.sign_in.verify_email(body.code, origin)
    return Response(status_code=204)


@both(router, "POST", "/email/resend/", id="resend_verification", status=202, refusals=(401, 403, 429, 503))
async def resend_verification(context: Context, caller: SignedIn, request: Request) -> Response:
    """Mail the code once more."""
    await context.sign_in.resend_verification(caller.who, of(caller, request))
    return Response(status_code=202)


@both(router, "POST", "/totp/", id="begin_totp", status=201, refusals=(400, 401, 403, 503))
async def begin_totp(context: Context, caller: SignedIn) -> TotpBegun:
    """Begin a second factor; it counts once `/totp/confirm/` got its first code."""
    secret, address = await context.sign_in.begin_totp(caller.who)
    return TotpBegun(secret=secret, otpauth_url=address)


@both(router, "POST", "/totp/confirm/", id="confirm_totp", status=204, refusals=(400, 401, 403, 503))
async def confirm_totp(context: Context, caller: SignedIn, body: CodeBody, request: Request) -> Response:
    """Switch the second factor on."""
    await context.sign_in.confirm_totp(caller.who, body.code, of(caller, request))
    return Response(status_code=204)


@both(router, "POST", "/totp/remove/", id="remove_totp", status=204, refusals=(400, 401, 403, 503))
async def remove_totp(context: Context, caller: SignedIn, body: CodeBody, request: Request) -> Response:
    """Switch the second factor off."""
    await context.sign_in.remove_totp(caller.who, body.code, of(caller, request))
    return Response(status_code=204)


@both(router, "POST", "/totp/fresh/", id="freshen", status=204, refusals=(400, 401, 403, 429, 503))
async def freshen(context: Context, caller: SignedIn, body: CodeBody) -> Response:
    """Give the second factor again: what moves money out wants it within the last five minutes."""
    assert caller.session is not None
    await context.sign_in.freshen(caller.who, caller.session, body.code)
    return Response(status_code=204)


@well_known.get("/.well-known/jwks.json", operation_id="get_jwks", tags=["public"])
async def jwks(context: Context) -> Jwks:
    """The public keys of our tokens."""
    return Jwks.model_validate(context.signing_keys.jwks())
