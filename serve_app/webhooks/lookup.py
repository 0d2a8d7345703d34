"""Looks a webhook's host up, and holds every address against the guard. What it answers is what is connected to; nothing is looked up twice."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from yarl import URL

from cluster.errors import InvalidRequest
from serve_app.webhooks.guard import Address, Policy, require_address, required_url

LOOKUP_LIMIT_S = 3.0
LOOKUPS_AT_ONCE = 16  # a resolver that hangs holds its thread
MAX_ADDRESSES = 8

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Resolver:
    """Asks the machine's resolver, in threads of its own, once for all who ask for the same name at the same time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="webhook-lookup")
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """List a host's addresses.

        Raises:
            OSError: There are none.
            TimeoutError: The resolver did not say in time.
        """
        asked = self._asked.get((host, port))
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _resolve, host, port)
            self._asked[host, port] = asked
            asked.add_done_callback(lambda done: self._forget(host, port, done))
        async with asyncio.timeout(LOOKUP_LIMIT_S):
            return await asyncio.shield(asked)

    def _forget(self, host: str, port: int, done: "asyncio.Future[list[str]]") -> None:
        self._asked.pop((host, port), None)
        if not done.cancelled():
            done.exception()  # whoever asked may have stopped listening

    def close(self) -> None:
        """Let the threads go; one that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


class Guard:
    """Checks where webhooks go."""

    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def check_url(self, text: str) -> str:
        """Check a URL that is about to be kept; answer it in its one form.

        Raises:
            InvalidRequest: It may not be a webhook's; says why.
        """
        url = required_url(text, self._policy)
        await self.addresses(url)
        return str(url)

    async def addresses(self, url: URL) -> list[Address]:
        """Look a URL's host up, now; every one of its addresses must be allowed, for we cannot choose which one is taken.

        Raises:
            InvalidRequest: One is not allowed, or there is none.
        """
        required_url(str(url), self._policy)
        host = url.raw_host or ""
        try:
            found = [ip_address(text) for text in await self._resolve(host, url.port or 0)]
        except (OSError, ValueError, UnicodeError) as unknown:  # TimeoutError is an OSError
            raise InvalidRequest(
                "This URL cannot be a webhook's: its host is not known, or its addresses were not told in time.", "url"
            ) from unknown
        if not found:
            raise InvalidRequest("This URL cannot be a webhook's: its host has no address.", "url")
        for address in found:
            require_address(url, address, self._policy)
        return found[:MAX_ADDRESSES]
