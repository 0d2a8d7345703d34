"""Who may connect, and how the others are told: before the upgrade, with an HTTP status and a code (security reference 5.2)."""

import asyncio
import contextlib
import socket as sockets

import aiohttp
import pytest

from cluster.edge.protocol import SUBPROTOCOL
from tests.cluster.waiting import until
from tests.edge_agents import Identity, Issuer, connect


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


async def test_no_token_a_strange_token_and_somebody_elses_are_refused(edge):
    identity = edge.enroll()
    good = edge.issuer.token(identity)
    other = Issuer()
    bad = {
        "none": "", "words": "hello", "another ledger's": other.token(identity), "expired": edge.issuer.token(identity, lives_s=-120),
        "for another audience": edge.issuer.token(identity, aud="api"), "without a key": edge.issuer.token(identity, cnf={}),
        "cut": good[:-5], "huge": "x" * 6000,
    }  # fmt: skip
    for what, token in bad.items():
        status, said, headers = await refusal(edge, token)
        assert (status, said["code"]) == (401, "token_not_valid"), what
        assert headers["WWW-Authenticate"] == "Bearer"
    assert edge.metric("refusals_total", code="token_not_valid") == len(bad)


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


async def test_a_node_that_nobody_knows_yet_is_to_come_back(edge):
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
        async with asyncio.timeout(10):
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
        assert len(edge.site._patience._pending) <= 1024
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
