"""Agents' tokens: short JWTs that the ledger signs, bound to the agent's key, checked here by public keys alone (security reference 5.1)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import jwt
import structlog

from cluster.edge.facts import AgentClaims, InvalidAgentToken

log = structlog.get_logger()
AUDIENCE = "agent"
LEEWAY_S = 60
KEYS_KEPT_S = 300.0
FETCH_AGAIN_S = 30.0  # at most so often for a key that nobody knows
FETCH_FIRST_S = 1.0  # and so often while no key is known at all
FETCH_LIMIT_S = 3.0
MAX_WAITING = 256  # connections that wait for an answer of the ledger's; the others come again
MAX_KEYS = 16
MAX_TOKEN = 4096
Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


class KeysUnknown(Exception):
    """No key of the ledger's is known: it has not answered yet."""


class AgentVerifier:
    """Verifies by the ledger's published keys (RFC 7517), which `fetch` answers."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._waiting = 0

    async def keep_fresh(self) -> None:
        """Read the keys again and again, for ever: a new one is published long before it signs."""
        while True:
            await self._refresh()
            await asyncio.sleep(KEYS_KEPT_S if self._keys else 1.0)

    async def prepare(self, token: str) -> None:
        """See that the key of a token is known, if the ledger knows it. However many ask, the ledger is asked now and then.

        Raises:
            KeysUnknown: The ledger has not told any key yet, or too many wait for what it says.
        """
        kid = _kid(token)
        if kid not in self._keys and (kid is not None or not self._keys):
            await self._look_for(kid)
        if not self._keys:
            raise KeysUnknown

    async def _look_for(self, kid: str | None) -> None:
        if self._waiting >= MAX_WAITING:
            raise KeysUnknown
        self._waiting += 1
        try:
            async with self._fetching:
                if kid not in self._keys and self._may_ask():
                    await self._refresh()
        finally:
            self._waiting -= 1

    def _may_ask(self) -> bool:
        return time.monotonic() - self._asked_at > (FETCH_AGAIN_S if self._keys else FETCH_FIRST_S)

    async def _refresh(self) -> None:
        self._asked_at = time.monotonic()  # also when it does not answer: then asking more often would help nobody
        try:
            async with asyncio.timeout(FETCH_LIMIT_S):
                found = (await self._fetch()).get("keys")
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as silent:
            log.info("keys_not_read", reason=type(silent).__name__)
            return
        keys = {}
        for one in found[:MAX_KEYS] if isinstance(found, list) else ():
            try:
                key = jwt.PyJWK(one, algorithm="EdDSA")
            except (jwt.PyJWTError, TypeError, AttributeError):
                continue
            if key.key_id:
                keys[key.key_id] = key
        self._keys = keys or self._keys

    def verify(self, token: str) -> AgentClaims:
        """Tell whose token it is.

        Raises:
            InvalidAgentToken: It is not valid.
        """
        key = self._keys.get(_kid(token) or "")
        if key is None:
            raise InvalidAgentToken("nobody knows its key")
        options: Any = {"require": ["aud", "sub", "exp", "jti", "cnf"]}
        try:
            claims = jwt.decode(token, key, algorithms=["EdDSA"], audience=AUDIENCE, leeway=LEEWAY_S, options=options)
            bound = claims["cnf"]["jkt"]
        except (jwt.PyJWTError, KeyError, TypeError) as refused:
            raise InvalidAgentToken(str(refused)) from refused
        return AgentClaims(str(claims["sub"]), str(bound), max(0.0, float(claims["exp"]) - self._clock()))


def _kid(token: str) -> str | None:
    if len(token) > MAX_TOKEN:
        return None
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError):
        return None
    return kid if isinstance(kid, str) else None


def fetch_from(session: aiohttp.ClientSession, url: str) -> Fetch:
    """Read the keys from an address."""

    async def fetch() -> Mapping[str, Any]:
        async with session.get(url) as answer:
            answer.raise_for_status()
            said: Mapping[str, Any] = await answer.json(content_type=None)
            return said

    return fetch
