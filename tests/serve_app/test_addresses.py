"""Whose connection it is: the ledger's public app and the edge gateway answer alike, and nobody chooses an address."""

import asyncio
import socket

import httpx2
import pytest
from fastapi import FastAPI, Request
from pydantic import ValidationError
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from cluster.edge.addresses import MAX_HOPS, client_of, networks_of
from ledger.api.callers import address_of
from ledger.serve import public_server
from ledger.settings import LedgerSettings
from serve_app.edge.settings import EdgeSettings

PROXIES = "127.0.0.1,::1,10.0.0.0/8,2001:db8:1::/48"
CASES = {
    "no proxy": ("203.0.113.9", [], "203.0.113.9"),
    "somebody who is no proxy and says so": ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
    "behind the proxy": ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
    "the proxy itself": ("127.0.0.1", [], "127.0.0.1"),
    "a spoofed beginning": ("127.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
    "a spoofed header of its own": ("127.0.0.1", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
    "who claims to be a proxy of ours": ("127.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
    "who claims one behind itself": ("127.0.0.1", ["198.51.100.1, 10.0.0.7, 203.0.113.9"], "203.0.113.9"),
    "two proxies": ("127.0.0.1", ["203.0.113.9, 10.0.0.7"], "203.0.113.9"),
    "two proxies and a spoofed beginning": ("127.0.0.1", ["127.0.0.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
    "proxies of ours alone": ("127.0.0.1", ["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
    "with a port": ("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
    "of IPv6": ("127.0.0.1", ["2001:db8:2:3:4:5:6:7"], "2001:db8:2:3::/64"),
    "of IPv6 with a port": ("127.0.0.1", ["[2001:db8:2:3:4:5:6:7]:4711"], "2001:db8:2:3::/64"),
    "another address of the same network": ("2001:db8:2:3::ffff", [], "2001:db8:2:3::/64"),
    "a proxy of IPv6": ("2001:db8:1::5", ["203.0.113.9"], "203.0.113.9"),
    "IPv4 in IPv6": ("127.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
}


async def of_the_ledger(peer, forwarded):
    """What the public app counts by, through the server's own middleware."""
    seen = []

    async def app(scope, _receive, _send):
        seen.append(address_of(Request(scope)))

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 1), "headers": headers, "scheme": "http"}
    await ProxyHeadersMiddleware(app, PROXIES.split(","))(scope, None, None)
    return seen[0]


@pytest.mark.parametrize("what", CASES)
async def test_the_right_most_address_that_is_not_ours_counts_on_both_sides(what):
    peer, forwarded, expected = CASES[what]
    assert client_of(peer, forwarded, networks_of(PROXIES)) == expected
    assert await of_the_ledger(peer, forwarded) == expected


@pytest.mark.parametrize("junk", ["", "unknown", "_hidden", "203.0.113.9.1", "999.1.1.1", "[::", "a" * 8000, "\x00"])
def test_what_is_no_address_is_the_proxy_s_that_passed_it_on(junk):
    trusted = networks_of(PROXIES)
    assert client_of("127.0.0.1", [junk], trusted) == "127.0.0.1"
    assert client_of("127.0.0.1", [f"198.51.100.1, {junk}, 10.0.0.7"], trusted) == "10.0.0.7"
    assert client_of(junk, ["203.0.113.9"], trusted) == "unknown"


def test_a_long_chain_ends_somewhere():
    ours = ["203.0.113.9", *["10.0.0.7"] * 3 * MAX_HOPS]
    assert client_of("127.0.0.1", [",".join(ours)], networks_of(PROXIES)) == "10.0.0.7"


def test_without_proxies_the_connection_s_own_address_counts():
    assert client_of("127.0.0.1", ["203.0.113.9"], networks_of("")) == "127.0.0.1"
    assert client_of(None, ["203.0.113.9"], networks_of("127.0.0.1")) == "unknown"
    assert client_of("fe80::1%eth0", [], ()) == "fe80::/64"


@pytest.mark.parametrize("bad", ["*", "10.0.0.1/8", "proxy.example.org", "10.0.0.0/33"])
@pytest.mark.parametrize("settings", [LedgerSettings, EdgeSettings])
def test_what_is_no_network_is_refused_at_the_start(settings, bad, tmp_path):
    with pytest.raises(ValidationError, match="trusted_proxies"):
        settings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s", trusted_proxies=f"127.0.0.1, {bad}")


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1,::1", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1"), ("", "127.0.0.1")])
async def test_the_ledger_s_public_port_believes_whom_it_is_told_to(trusted, expected, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = FastAPI()

    @app.get("/")
    async def whose(request: Request):
        return address_of(request)

    settings = LedgerSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s", ledger_port=port, trusted_proxies=trusted)
    server = public_server(app, settings)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.9"})
        assert answer.json() == expected
    finally:
        server.should_exit = True
        await task
