"""Who may connect, and how the others are told: before the upgrade, with an HTTP status and a code (security reference 5.2)."""

import asyncio
import contextlib
import socket as sockets

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.edge.addresses import networks_of
from cluster.edge.protocol import SUBPROTOCOL
from tests.edge_agents import Identity, Issuer, connect
from tests.waiting import until


async def refusal(edge, token="", *, headers=None, protocol=SUBPROTOCOL):
    """Ask for an upgrade; answer status, body and headers of the refusal."""
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if protocol:
        asked["Sec-WebSocket-Protocol"] = protocol
    if token:
        asked["Authorization"] = f"Bearer {token}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(edge.agent_url.replace("ws", "http", 1), headers=asked | (headers or {})) as answer,
    ):
        return answer.status, await answer.json(), answer.headers


async def test_row_44_no_token_a_strange_token_and_somebody_elses_are_refused(edge, figure):
    """Row 44 of the fault matrix."""
    identity = edge.enroll()
    good = edge.issuer.token(identity)
    other = Issuer()
    bad = {
        "none": "", "words": "hello", "another ledger's": other.token(identity), "expired": edge.issuer.token(identity, lives_s=-120),
        "for another audience": edge.issuer.token(identity, aud="api"), "without a key": edge.issuer.token(identity, cnf={}),
        "cut": good[:-5], "huge": "x" * 5000,
    }  # fmt: skip
    for what, token in bad.items():
        status, said, headers = await refusal(edge, token)
        assert (status, said["code"]) == (401, "token_not_valid"), what
        assert headers["WWW-Authenticate"] == "Bearer"
    assert edge.metric("refusals_total", code="token_not_valid") == len(bad)
    figure(44, "agents with a token that is none or somebody else's, refused", f"{len(bad)} of {len(bad)}")


async def test_a_token_of_a_key_that_is_not_the_nodes_any_more_is_refused(edge):
    identity = edge.enroll()
    stale = Identity(identity.node)
    assert (await refusal(edge, edge.issuer.token(stale)))[:2] == (
        401,
        {"code": "agent_revoked", "detail": "this agent may not connect any more"},
    )


@pytest.mark.parametrize("state", ["revoked", "banned", "deregistered"])
async def test_a_node_that_is_out_is_refused(edge, state):
    identity = edge.enroll(state=state)
    status, said, _ = await refusal(edge, edge.issuer.token(identity))
    assert (status, said["code"]) == (401, "agent_revoked")


async def test_row_44_a_node_that_nobody_knows_is_refused_and_may_come_back(edge):
    status, _, headers = await refusal(edge, edge.issuer.token(Identity("node_new")))
    assert (status, headers["Retry-After"]) == (503, "2")


async def test_pages_in_a_browser_and_other_protocols_are_refused(edge):
    token = edge.issuer.token(edge.enroll())
    assert (await refusal(edge, token, headers={"Origin": "https://example.org"}))[0] == 403
    for protocol in ("", "chat", "gfe.agent.v2"):
        status, said, headers = await refusal(edge, token, protocol=protocol)
        assert (status, said["code"]) == (426, "subprotocol_needed")
        assert headers["Sec-WebSocket-Protocol"] == SUBPROTOCOL
    socket = await connect(edge.agent_url, token, protocols=("gfe.agent.v2", SUBPROTOCOL))
    assert socket.ws.protocol == SUBPROTOCOL
    await socket.aclose()


async def test_a_node_that_connects_all_the_time_is_told_to_wait_and_others_are_not(edge):
    identity = edge.enroll(state="revoked")  # a good token, and an answer at once
    answers = [await refusal(edge, edge.issuer.token(identity), protocol=SUBPROTOCOL) for _ in range(12)]
    refused = [headers for status, said, headers in answers if (status, said["code"]) == (429, "too_many_connects")]
    assert len(refused) >= 5
    assert all(int(headers["Retry-After"]) >= 1 for headers in refused)
    await edge.ready(edge.enroll("node_other"))


async def test_an_address_without_a_good_token_is_told_to_wait_and_those_with_one_are_not(edge):
    statuses = [(await refusal(edge, "bad"))[0] for _ in range(70)]
    assert set(statuses) == {401, 429}
    await edge.ready(edge.enroll())


async def test_so_many_agents_and_no_more(edge_with):
    edge = await edge_with(max_agents=2)
    for n in range(2):
        await edge.ready(edge.enroll(f"node_{n}"))
    status, said, headers = await refusal(edge, edge.issuer.token(edge.enroll("node_more")))
    assert (status, said["code"], headers["Retry-After"]) == (503, "full", "30")


async def test_who_says_no_hello_is_let_go(edge):
    socket = await edge.socket(edge.enroll())
    assert await socket.closed(10) == 4408


async def test_what_is_said_before_hello_is_answered_and_hello_is_said_once(edge):
    socket = await edge.socket(edge.enroll())
    await socket.send(type="heartbeat", n=1)
    error = await socket.until("error")
    assert (error["code"], error["ref_type"]) == ("not_ready", "heartbeat")
    hello = {"type": "hello", "versions": [1], "agent_version": "1", "boot_id": "b"}
    await socket.send(hello)
    await socket.until("welcome")
    await socket.send(hello)
    assert await socket.closed() == 1008


async def test_no_common_version_says_how_to_upgrade(edge):
    socket = await edge.socket(edge.enroll())
    await socket.send(type="hello", versions=[7], agent_version="9", boot_id="b")
    error = await socket.until("error")
    assert error["code"] == "no_common_version"
    assert "pip install --upgrade" in error["detail"]
    assert await socket.closed() == 4426


async def test_the_highest_common_version_is_chosen(edge):
    socket = await edge.socket(edge.enroll())
    await socket.send(type="hello", versions=[7, 1], agent_version="9", boot_id="b")
    assert (await socket.until("welcome"))["version"] == 1


async def test_a_bad_hello_leaves_the_node_and_others_online(edge):
    """Seed defect D12."""
    identity = edge.enroll()
    good = await edge.ready(identity)
    await until(lambda: edge.node().is_healthy)
    for bad in ({"versions": [9]}, {"versions": []}, {"versions": [1], "resume": "all"}):
        socket = await edge.socket(identity)
        await socket.send({"type": "hello", "agent_version": "1", "boot_id": "b"} | bad)
        await socket.closed()
    await good.send(type="heartbeat", n=1)
    assert edge.node().is_healthy
    assert not good.ws.closed


async def test_a_hello_cannot_name_another_node(edge):
    """Seed defect D14: the node is the token's, whatever is said."""
    mine, other = edge.enroll("node_mine"), edge.enroll("node_other")
    await edge.ready(other)
    socket = await edge.socket(mine)
    await socket.send(type="hello", versions=[1], agent_version="1", boot_id="b", node="node_other", id="node_other")
    assert (await socket.until("welcome"))["node"] == "node_mine"
    assert edge.node("node_other").is_healthy


async def test_slow_headers_are_cut_and_hurt_nobody(edge):
    host, port = edge.agent_url.removeprefix("ws://").split("/")[0].split(":")
    slow = []
    for n in range(50):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /ws/comp" if n % 2 else b"")
        slow.append((reader, writer))
    agent = await edge.honest(edge.enroll(), words=3)
    await edge.run(edge.attempt())
    assert agent.connects == 1
    for reader, writer in slow:
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_connections_that_say_nothing_are_bounded(edge):
    """A thousand more than there may be: the oldest are cut, and an agent still gets in."""
    host, port = edge.agent_url.removeprefix("ws://").split("/")[0].split(":")
    opened = []
    try:
        for _ in range(1500):
            one = sockets.create_connection((host, int(port)))
            one.setblocking(False)
            opened.append(one)
            if len(opened) % 100 == 0:
                await asyncio.sleep(0.01)
        assert len(edge.site._patience) <= 1024
        await edge.honest(edge.enroll(), words=3)
        await edge.run(edge.attempt())
    finally:
        for one in opened:
            one.close()


async def test_a_fresh_token_is_taken_in_band_and_an_expired_one_closes(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    await socket.send(type="auth", token=edge.issuer.token(identity, lives_s=300))
    assert 290 < (await socket.until("auth_ok"))["expires_in_s"] <= 300
    await socket.send(type="auth", token=edge.issuer.token(edge.enroll("node_other")))
    assert await socket.closed() == 4401


async def test_an_agent_whose_token_ran_out_is_let_go(edge):
    socket = await edge.ready(edge.enroll())
    [session] = edge.gateway._sessions
    session.expires_at -= 700
    assert await socket.closed() == 4401


# --- behind a proxy ---------------------------------------------------------------------------------------------------------------------


def behind(address, spoofed=""):
    """What a proxy writes that heard this address; `spoofed`: what was in the request already."""
    return {"headers": {"X-Forwarded-For": f"{spoofed}{address}"}}


async def test_behind_a_trusted_proxy_strangers_have_addresses_of_their_own(edge_with):
    edge = await edge_with(trusted=networks_of("127.0.0.1"))
    flood = [(await refusal(edge, "bad", **behind("203.0.113.9", f"198.51.100.{n}, 127.0.0.1, ")))[0] for n in range(70)]
    assert 429 in flood, "what was in the header before is not believed"
    assert (await refusal(edge, "bad", **behind("203.0.113.10")))[0] == 401
    near = [(await refusal(edge, "bad", **behind(f"2001:db8::{n}")))[0] for n in range(70)]
    assert 429 in near, "a network of IPv6 is one place"
    assert (await refusal(edge, "bad", **behind("2001:db8:0:1::1")))[0] == 401
    await edge.ready(edge.enroll())


async def test_whom_nobody_trusts_cannot_choose_an_address(edge):
    statuses = [(await refusal(edge, "bad", **behind(f"203.0.113.{n}")))[0] for n in range(70)]
    assert 429 in statuses


async def test_addresses_that_are_remembered_are_bounded_and_the_oldest_go(edge_with, monkeypatch):
    monkeypatch.setattr("cluster.edge.buckets.MAX_BUCKETS", 50)
    edge = await edge_with(trusted=networks_of("127.0.0.1"))
    await refusal(edge, "bad", **behind("203.0.113.9"))
    for n in range(120):
        await refusal(edge, "bad", **behind(f"198.51.100.{n}"))
    strangers = edge.site_sockets._strangers
    assert 0 < len(strangers) <= 50  # less where the machine is so slow that the first are forgotten by then
    assert "203.0.113.9" not in strangers._kept
    assert "198.51.100.119" in strangers._kept


# --- the order of checks -----------------------------------------------------------------------------------------------------------------


async def test_a_good_token_is_not_refused_for_what_strangers_do_from_the_same_address(edge):
    for _ in range(100):
        await refusal(edge, "bad")
    assert (await refusal(edge, "bad"))[0] == 429
    for n in range(5):
        await edge.ready(edge.enroll(f"node_{n}"))


async def test_an_agent_that_comes_back_needs_no_more_room(edge_with):
    edge = await edge_with(max_agents=2)
    identities = [edge.enroll(f"node_{n}") for n in range(2)]
    for identity in identities:
        await edge.ready(identity)
    await edge.ready(identities[0])  # its old connection is dead, and nobody has noticed yet
    assert (await refusal(edge, edge.issuer.token(edge.enroll("node_more"))))[0] == 503


async def test_however_many_come_with_a_key_that_nobody_knows_the_ledger_is_asked_now_and_then(edge):
    """Also while it does not answer: and an agent whose key is known is not kept waiting."""
    await edge.ready(edge.enroll())
    verifier, asked, answered = edge.gateway._verifier, [], asyncio.Event()

    async def silent():
        asked.append(1)
        await answered.wait()
        raise OSError

    verifier._fetch, verifier._asked_at = silent, float("-inf")
    waiting = [asyncio.create_task(refusal(edge, strange_token())) for _ in range(20)]
    await until(lambda: asked)
    async with asyncio.timeout(1):
        await edge.ready(edge.enroll("node_other"))
    answered.set()
    assert {(await one)[0] for one in waiting} <= {401, 429}
    for _ in range(20):
        await refusal(edge, strange_token())
    assert len(asked) == 1


async def test_those_who_wait_for_the_ledger_are_bounded(edge, monkeypatch):
    monkeypatch.setattr("cluster.edge.tokens.MAX_WAITING", 5)
    await edge.ready(edge.enroll())
    verifier, answered = edge.gateway._verifier, asyncio.Event()

    async def silent():
        await answered.wait()
        raise OSError

    verifier._fetch, verifier._asked_at = silent, float("-inf")
    waiting = [asyncio.create_task(refusal(edge, strange_token())) for _ in range(20)]
    await until(lambda: sum(one.done() for one in waiting) == 15)
    assert {one.result()[0] for one in waiting if one.done()} == {503}
    answered.set()
    await asyncio.gather(*waiting)


def strange_token():
    """Of a key with a name that the ledger never told."""
    return jwt.encode({"aud": "agent", "sub": "node_edge"}, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": "k9"})


# --- little room -------------------------------------------------------------------------------------------------------------------------


async def raw(edge, *pieces, limit_s=30):
    """Send bytes; answer all that comes until the connection ends."""
    host, port = edge.agent_url.removeprefix("ws://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(limit_s):
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        writer.close()


HEAD = b"GET /ws/computing/ HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000 + b"hello\r\n\r\n",
        b"GET " + b"/a" * 3000 + b" HTTP/1.1\r\n\r\n",
        HEAD + b"X-Big: " + b"x" * 10_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: x\r\n" % n for n in range(100)) + b"\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
    ids=["tls", "http/2", "version", "junk", "long line", "big header", "many headers", "two lengths", "bad chunks"],
)
async def test_nonsense_is_answered_or_not_and_the_connection_is_over(edge, request_, caplog):
    answer = await raw(edge, request_, limit_s=3)
    assert answer == b"" or b" 4" in answer.split(b"\r\n")[0]
    assert not caplog.records, "strangers write nothing into our log"
    await edge.ready(edge.enroll())


@pytest.mark.parametrize(
    "request_", [HEAD + b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_connection_answers_one_request(edge, request_):
    """Who is refused keeps nothing open, and asks nothing more over it."""
    answer = await raw(edge, request_ * 5)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


async def test_a_body_is_not_waited_for(edge):
    answer = await raw(edge, HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 426")


async def test_who_opens_many_connections_shuts_nobody_else_out(edge, monkeypatch):
    """The many are cut, from wherever most came; who came alone has its time."""
    monkeypatch.setattr("cluster.edge.site.MAX_PENDING", 50)
    host, port = edge.agent_url.removeprefix("ws://").split("/")[0].split(":")
    alone = sockets.create_connection((host, int(port)), source_address=("127.0.0.2", 0))
    alone.setblocking(False)
    many = []
    try:
        for n in range(300):
            many.append(sockets.create_connection((host, int(port))))
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: len(edge.site._patience) <= 50)
        alone.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await asyncio.get_running_loop().sock_recv(alone, 1000)).startswith(b"HTTP/1.1 200")
    finally:
        for one in (alone, *many):
            one.close()
    await until(lambda: len(edge.site._patience) == 0, 10)


async def test_connections_that_ended_count_no_more(edge, monkeypatch):
    monkeypatch.setattr("cluster.edge.site.MAX_PENDING", 50)
    host, port = edge.agent_url.removeprefix("ws://").split("/")[0].split(":")
    waiting = sockets.create_connection((host, int(port)))
    waiting.setblocking(False)
    try:
        for _ in range(200):
            await raw(edge, b"junk\r\n\r\n")
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await asyncio.get_running_loop().sock_recv(waiting, 1000)).startswith(b"HTTP/1.1 200")
    finally:
        waiting.close()
