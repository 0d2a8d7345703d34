"""Talks to the provider: code for token, token for who it is. Nothing it says is believed before it is checked."""

import json
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
import jwt

from ledger.errors import SignInFailed
from ledger.identity.oauth.journey import Journey
from ledger.identity.oauth.providers import Provider

CALL_LIMIT_S = 5.0
MAX_BYTES = 256 * 1024
KEPT_S = 3600.0  # discovery and keys
REFETCH_S = 30.0  # an unknown key is looked for at most so often
LEEWAY_S = 60
ALGORITHMS = ["RS256", "ES256", "EdDSA"]  # asymmetric only: our client secret must never verify a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Who somebody is at a provider. `email` only where the provider has proven it."""

    provider: str
    subject: str
    email: str | None
    name: str


@dataclass(slots=True)
class _Kept:
    """An answer that is used again."""

    value: dict[str, Any]
    at: float


class Exchange:
    """One HTTP session for all providers, opened at first use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[str, _Kept] = {}

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def authorize_url(self, provider: Provider) -> str:
        """Tell where people say yes.

        Raises:
            SignInFailed: The provider does not answer.
        """
        if provider.kind == "github":
            return f"{provider.base_url}/login/oauth/authorize"
        return str((await self._discovered(provider))["authorization_endpoint"])

    async def identify(self, provider: Provider, code: str, journey: Journey, redirect_uri: str) -> Outside:
        """Trade a code and tell who came with it.

        Raises:
            SignInFailed: The provider does not answer, or what it says does not hold.
        """
        is_github = provider.kind == "github"
        url = f"{provider.base_url}/login/oauth/access_token" if is_github else str((await self._discovered(provider))["token_endpoint"])
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "client_id": provider.client_id,
            "client_secret": provider.client_secret, "code_verifier": journey.verifier,
        }  # fmt: skip
        said = await self._call(provider, "POST", url, data=form)
        if is_github:
            return await self._of_github(provider, str(said.get("access_token") or ""))
        return await self._of_id_token(provider, str(said.get("id_token") or ""), journey.nonce)

    # --- OpenID Connect ------------------------------------------------------------------------------------------------------------

    async def _discovered(self, provider: Provider) -> dict[str, Any]:
        found = await self._get_kept(provider, f"{provider.base_url}/.well-known/openid-configuration")
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if found.get("issuer") != provider.base_url or not all(isinstance(found.get(name), str) for name in needed):
            _refuse(provider, "its discovery document is not its own")
        return found

    async def _of_id_token(self, provider: Provider, token: str, nonce: str) -> Outside:
        key = await self._key(provider, token)
        try:
            claims = jwt.decode(
                token, key.key, algorithms=ALGORITHMS, audience=provider.client_id, issuer=provider.base_url, leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as wrong:
            raise SignInFailed(provider.name, f"its token does not hold ({type(wrong).__name__})") from wrong
        if claims.get("nonce") != nonce or claims.get("azp", provider.client_id) != provider.client_id:
            _refuse(provider, "its token is for another sign-in")
        email = str(claims.get("email") or "") if claims.get("email_verified") is True else ""
        return Outside(
            provider=provider.name, subject=str(claims["sub"])[:255], email=email or None,
            name=str(claims.get("preferred_username") or claims.get("email") or claims.get("name") or "user"),
        )  # fmt: skip

    async def _key(self, provider: Provider, token: str) -> jwt.PyJWK:
        """Find the key that a token names; looked for again when it is new."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as wrong:
            raise SignInFailed(provider.name, "it sent no token") from wrong
        url = str((await self._discovered(provider))["jwks_uri"])
        for max_age_s in (KEPT_S, REFETCH_S):
            for one in (await self._get_kept(provider, url, max_age_s)).get("keys") or ():
                if isinstance(one, dict) and one.get("kid") == header.get("kid"):
                    try:
                        return jwt.PyJWK(one, algorithm=_algorithm(provider, one, header))
                    except jwt.PyJWTError as wrong:
                        raise SignInFailed(provider.name, "its key is of no use") from wrong
        raise SignInFailed(provider.name, "its token is signed with an unknown key")

    # --- GitHub --------------------------------------------------------------------------------------------------------------------

    async def _of_github(self, provider: Provider, token: str) -> Outside:
        if not token:
            _refuse(provider, "it gave no token for the code")
        headers = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"}
        person = await self._call(provider, "GET", f"{provider.api_url}/user", headers=headers)
        addresses = await self._call(provider, "GET", f"{provider.api_url}/user/emails", headers=headers)
        if not isinstance(person.get("id"), int):
            _refuse(provider, "it did not say who it is")
        email = next((one["email"] for one in addresses.get("items", ()) if _is_proven(one)), None)
        return Outside(provider=provider.name, subject=str(person["id"]), email=email, name=str(person.get("login") or "user"))

    # --- HTTP ----------------------------------------------------------------------------------------------------------------------

    async def _get_kept(self, provider: Provider, url: str, max_age_s: float = KEPT_S) -> dict[str, Any]:
        known = self._kept.get(url)
        if known is None or time.monotonic() - known.at > max_age_s:
            known = self._kept[url] = _Kept(await self._call(provider, "GET", url), time.monotonic())
        return known.value

    async def _call(self, provider: Provider, method: str, url: str, **options: Any) -> dict[str, Any]:
        """Call; answers its object (a list comes as `items`)."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=CALL_LIMIT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, headers={"Accept": "application/json", "User-Agent": "GPU-For-Everyone"})
        try:
            async with self._session.request(method, url, allow_redirects=False, **options) as answer:
                raw = await answer.content.read(MAX_BYTES + 1)
                while len(raw) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES + 1 - len(raw))):
                    raw += more
                if answer.status != 200 or len(raw) > MAX_BYTES:
                    _refuse(provider, f"it answers {answer.status}" if answer.status != 200 else "its answer is too long")
                said = json.loads(raw)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as failed:
            raise SignInFailed(provider.name, f"it does not answer ({type(failed).__name__})") from failed
        if isinstance(said, list):
            return {"items": said}
        if not isinstance(said, dict):
            _refuse(provider, "its answer is not an object")
        return said


def _algorithm(provider: Provider, key: dict[str, Any], header: dict[str, Any]) -> str:
    """The algorithm of a key: what the key says, never only what the token says."""
    algorithm = str(key.get("alg") or header.get("alg") or "")
    if algorithm not in ALGORITHMS:
        _refuse(provider, "its token is signed in a way that we do not accept")
    return algorithm


def _is_proven(address: Any) -> bool:
    return isinstance(address, dict) and address.get("primary") is True and address.get("verified") is True and bool(address.get("email"))


def _refuse(provider: Provider, why: str) -> NoReturn:
    raise SignInFailed(provider.name, why)
