"""Strangers that connect to an edge gateway, thousands of them, as a process of its own:

    python -m tests.cluster.edge.storm --url ws://… --token GOOD --connects 10000 --held 400

Each says something else that should not be said: nothing, nonsense, headers without end, a token that is none, one of somebody else's key, a
good one far too often. Beside them so many connections are held half-open that trickle a byte now and then, and come again when they are cut.
All claim to come through a proxy of the gateway's. Prints what was answered, as JSON.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AT_ONCE = 64
TRICKLE_S = 0.5
ANSWER_LIMIT_S = 20
STORM_ADDRESS = "203.0.113.66"
FORGED = jwt.encode(
    {"aud": "agent", "sub": "node_good", "exp": 2**31, "jti": "j", "cnf": {"jkt": "x"}},
    Ed25519PrivateKey.generate(),
    "EdDSA",
    {"kid": "k1"},
)
JUNK = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 30,
    b"hello\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 500,
    b"GET / HTTP/1.1\r\n: \r\n\r\n",
)


def upgrade(token="", more=b""):
    """The request of an agent that connects."""
    lines = [
        "GET /ws/computing/ HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: gfe.agent.v1", f"X-Forwarded-For: 198.51.100.1, {STORM_ADDRESS}",
    ]  # fmt: skip
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join(lines).encode() + b"\r\n" + more + b"\r\n"


def requests_of(token):
    """What the connects say, in turns."""
    return (
        ("no token", lambda _: upgrade()),
        ("a word for a token", lambda n: upgrade(f"token-{n}")),
        ("a forged token", lambda _: upgrade(FORGED)),
        ("a good token, too often", lambda _: upgrade(token)),
        ("nonsense", lambda n: JUNK[n // 8 % len(JUNK)]),
        ("a giant header", lambda _: upgrade("x" * 64_000)),
        ("headers without end", lambda _: upgrade("", b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(100)))),
        ("nothing", lambda _: b""),
    )


class Storm:
    """The connections, and what they were told."""

    def __init__(self, url, token):
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port
        self.requests = requests_of(token)
        self.told, self.held, self.held_most, self.reopened = Counter(), 0, 0, 0

    async def connect_all(self, count):
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(n):
            async with gate:
                what, request = self.requests[n % len(self.requests)]
                self.told[f"{what}: {await self.ask(request(n))}"] += 1

        await asyncio.gather(*(one(n) for n in range(count)))

    async def ask(self, request):
        """Connect, say it, and tell the status of the answer."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    if not request:
                        return "-"
                    writer.write(request)
                    return (await reader.readline()).decode("latin1").split(" ")[1]
                finally:
                    writer.transport.abort()
        except (OSError, IndexError):
            return "cut"
        except TimeoutError:
            return "silent"

    async def hold(self):
        """Keep a connection half-open for ever, a byte at a time."""
        request = upgrade("x" * 3000)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self.host, self.port)
                self.held += 1
                self.held_most = max(self.held_most, self.held)
                try:
                    for n in range(len(request)):
                        writer.write(request[n : n + 1])
                        await writer.drain()
                        await asyncio.sleep(TRICKLE_S)
                finally:
                    self.held -= 1
                    writer.transport.abort()
            self.reopened += 1
            await asyncio.sleep(0.1)

    async def run(self, connects, held):
        holding = [asyncio.create_task(self.hold()) for _ in range(held)]
        await asyncio.sleep(1)
        began = time.monotonic()
        await self.connect_all(connects)
        seconds = time.monotonic() - began
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        return {"told": dict(sorted(self.told.items())), "seconds": seconds, "held_most": self.held_most, "reopened": self.reopened}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--connects", type=int, required=True)
    parser.add_argument("--held", type=int, required=True)
    asked = parser.parse_args()
    json.dump(await Storm(asked.url, asked.token).run(asked.connects, asked.held), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
