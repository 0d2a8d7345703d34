"""Passwords: which are good enough (pure), and how they are kept (Argon2id, a few at a time, off the event loop)."""

import asyncio
import re
import unicodedata
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from zxcvbn import zxcvbn

MIN_LENGTH = 12
MAX_BYTES = 1024
MIN_SCORE = 3
_RATED_LENGTH = 72  # zxcvbn refuses longer texts; what it would say of them follows from their beginning
_SIMILAR_LENGTH = 4
AT_ONCE = 2  # hashes in flight: each takes 19 MiB, and sign-in must not be a way to fill the memory

TOO_SHORT = f"Ensure this field has at least {MIN_LENGTH} characters."
TOO_LONG = f"Ensure this field has no more than {MAX_BYTES} bytes."
TOO_COMMON = "This password is too common."
ALL_DIGITS = "This password is entirely numeric."
TOO_SIMILAR = "The password is too similar to the username."
SIMILAR_TO_EMAIL = "The password is too similar to the email."


def problems_of(password: str, username: str, email: str | None) -> list[str]:
    """List what is wrong with a password, in the words that clients show; empty when it is good."""
    if len(password.encode(errors="surrogatepass")) > MAX_BYTES:
        return [TOO_LONG]
    found = []
    if len(password) < MIN_LENGTH:
        found.append(TOO_SHORT)
    if password.isdecimal():
        found.append(ALL_DIGITS)
    if _is_similar(password, username):
        found.append(TOO_SIMILAR)
    if email and any(_is_similar(password, part) for part in (email, email.partition("@")[0])):
        found.append(SIMILAR_TO_EMAIL)
    if not found and _score(password, [username, email or ""]) < MIN_SCORE:
        found.append(TOO_COMMON)
    return found


def _score(password: str, own: Sequence[str]) -> int:
    return int(zxcvbn(password[:_RATED_LENGTH], user_inputs=[word for word in own if word])["score"])


def _is_similar(password: str, own: str) -> bool:
    """Whether one contains the other, when letters and digits alone count."""
    first, second = _letters(password), _letters(own)
    return (
        len(second) >= _SIMILAR_LENGTH
        and bool(first)
        and (second in first or first in second)
        and len(first) < 2 * len(second) + MIN_LENGTH
    )


def _letters(text: str) -> str:
    return re.sub(r"\W|_", "", unicodedata.normalize("NFKC", text).casefold())


class Passwords:
    """Hashes and verifies, at most `AT_ONCE` at a time. `cost` is for tests: (KiB, passes)."""

    def __init__(self, cost: tuple[int, int] = (19_456, 2)) -> None:
        self._hasher = PasswordHasher(memory_cost=cost[0], time_cost=cost[1], parallelism=1)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Hash a password (NFKC: what is typed the same way is the same)."""
        async with self._room:
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Tell whether a password fits; an account without one takes the same time."""
        async with self._room:
            fits = await asyncio.to_thread(self._fits, hashed or self._nobody, password)
        return fits and hashed is not None

    def _fits(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, _normal(password))
        except (Argon2Error, InvalidHashError):
            return False

    def is_outdated(self, hashed: str) -> bool:
        """Tell whether a hash was made at another cost."""
        return self._hasher.check_needs_rehash(hashed)


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
