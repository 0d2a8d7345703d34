"""What the routes of accounts take and answer."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ledger.api.shapes import Answer, Credits, Moment

Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Code = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class Asked(BaseModel):
    """A body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class NewAccount(Asked):
    """Who wants an account."""

    username: Annotated[str, Field(max_length=1000)]
    password: Text
    email: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] | None = None
    role: Annotated[str, Field(max_length=100)] = "USER"


class Account(Answer):
    """A new account."""

    id: str
    username: str
    email: str | None
    role: str


class SignInBody(Asked):
    """Who signs in; `code`: the six digits of the second factor, where there is one."""

    username: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
    password: Text
    code: Code | None = None
    deliver: Literal["body", "cookie"] = "body"


class TokenPair(Answer):
    """An access token for ten minutes, and what renews it; with `deliver: cookie` the latter comes as a cookie instead."""

    access: str
    refresh: str | None = None


class RefreshBody(Asked):
    """A refresh token; left out where the cookie carries it."""

    refresh: Text | None = None


class ProfileAnswer(Answer):
    """An account as its owner sees it."""

    id: str
    username: str
    email: str | None
    email_verified: bool
    role: str
    wallet_balance: Credits
    created_at: Moment
    has_password: bool
    has_totp: bool


class ProfileChange(Asked):
    """What may be changed; anything else is refused."""

    email: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] | None = None
    role: Annotated[str, Field(max_length=100)] | None = None

    @model_validator(mode="before")
    @classmethod
    def something(cls, given: Any) -> Any:
        """Refuse a body that says nothing, and a null."""
        if (
            isinstance(given, dict)
            and not any(given.get(name) is not None for name in ("email", "role"))
            and set(given) <= {"email", "role"}
        ):
            raise ValueError("Send `email` or `role`.")
        return given


class PasswordChange(Asked):
    """The old password and the new one."""

    old_password: Text
    new_password: Text


class ResetAsked(Asked):
    """Whose password was forgotten."""

    email: Annotated[str, Field(min_length=1, max_length=254, pattern=r"^[^\x00]*$")]


class Reset(Asked):
    """A code from a mail and the new password."""

    code: Code
    new_password: Text


class CodeBody(Asked):
    """A code: from a mail, or of an authenticator."""

    code: Code


class TotpBegun(Answer):
    """What an authenticator needs; counts once a code was confirmed."""

    secret: str
    otpauth_url: str


class Config(Answer):
    """What the console asks before anything else."""

    api_url: str
    env: str
    welcome_credits: Credits
    job_price: Credits
    default_fee_percent: int
    sign_in_with: list[str]
    payment_gateways: list[str]
    deposit_min: Credits
    deposit_max: Credits
    withdrawal_min: Credits


class JourneyAsked(Asked):
    """Where to go after signing in through another service: a path of the console."""

    return_to: str | None = None


class JourneyBegun(Answer):
    """Where to go now."""

    url: str


class LinkedProvider(Answer):
    """Another service that somebody signs in with."""

    provider: str
    email: str | None
    created_at: str


class LinkedList(Answer):
    """All of them."""

    results: list[LinkedProvider]


class SessionRow(Answer):
    """An open sign-in."""

    id: str
    is_current: bool = Field(description="The one that asks.")
    created_at: Moment
    renewed_at: Moment = Field(description="When it was last used to get a new access token.")
    expires_at: Moment = Field(description="When it ends at the latest.")
    address: str | None = Field(description="Where it began.")
    program: str | None = Field(description="What the program that signed in called itself.")


class SessionPage(Answer):
    """One page of open sign-ins, newest first."""

    results: list[SessionRow]
    next: str | None


class Jwk(Answer):
    """A public key (RFC 8037)."""

    kty: str
    crv: str
    use: str
    alg: str
    kid: str
    x: str


class Jwks(Answer):
    """The keys that our tokens are signed with (RFC 7517)."""

    keys: list[Jwk]
