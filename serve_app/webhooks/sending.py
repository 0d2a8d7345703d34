"""One attempt to send: a POST to an address that was looked at just now, within a time, without following anything."""

import asyncio
import socket
import ssl
from ipaddress import IPv6Address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from cluster.errors import InvalidRequest
from serve_app.webhooks.guard import Address
from serve_app.webhooks.lookup import Guard
from serve_app.webhooks.records import Answer

ATTEMPT_LIMIT_S = 5.0  # lookup, connection, TLS, request and the answer's head, all together
CONNECT_LIMIT_S = 3.0
READ_AHEAD_BYTES = 4096  # of an answer's body nothing is read but what comes with its head
USER_AGENT = "GPU-For-Everyone-Webhooks/1"


class _Pinned(AbstractResolver):
    """Answers the addresses that were checked, and nothing else."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Answer without asking anybody."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_family_of(address),
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
            if family in {socket.AF_UNSPEC, _family_of(address)}
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _family_of(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET


class Sender:
    """Sends events. `tls` is for tests with certificates of their own."""

    def __init__(self, guard: Guard, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._tls = tls

    async def send(self, url: str, headers: dict[str, str], body: str) -> Answer:
        """Try once. Everything that a receiver can do wrong is an answer."""
        try:
            async with asyncio.timeout(ATTEMPT_LIMIT_S):
                status = await self._post(URL(url), headers, body.encode())
        except TimeoutError:
            return Answer(None, f"It did not answer within {ATTEMPT_LIMIT_S:g} s.")
        except InvalidRequest as refused:
            return Answer(None, refused.detail)
        except aiohttp.ClientConnectorCertificateError:
            return Answer(None, "Its TLS certificate is not valid for this host.")
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError):
            return Answer(None, "It could not be connected to.")
        except (aiohttp.ClientError, OSError, ValueError):
            return Answer(None, "Its answer broke off, or is not HTTP.")
        return Answer(status, error_of(status))

    async def _post(self, url: URL, headers: dict[str, str], body: bytes) -> int:
        """Post; answer the status.

        Raises:
            InvalidRequest: The URL leads where we do not send.
            aiohttp.ClientError: There is no answer.
        """
        addresses = await self._guard.addresses(url)
        connector = aiohttp.TCPConnector(resolver=_Pinned(addresses), use_dns_cache=False, force_close=True, limit=1, ssl=self._tls or True)
        session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S), trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=READ_AHEAD_BYTES,
        )  # fmt: skip
        async with session, session.post(url, data=body, headers=_headers(headers), allow_redirects=False) as response:
            return response.status


def _headers(signed: dict[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", "User-Agent": USER_AGENT} | signed


def error_of(status: int) -> str | None:
    """Say what is wrong with a status; None: delivered."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"It answered {status}; redirects are not followed."
    return f"It answered {status}."
