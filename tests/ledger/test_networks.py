"""From one network come so many nodes on probation and no more, whoever owns them."""

import asyncio

import httpx2
import pytest

from ledger.app import create_public_app
from ledger.identity.networks import network_of
from tests.edge_agent import Agent, account, execute


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"), ("203.0.113.1", "203.0.113.0/24"), ("203.0.114.1", "203.0.114.0/24"), ("10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"), ("2001:db8:1:ffff::/64", "2001:db8:1::/48"), ("2001:db8:2:1::/64", "2001:db8:2::/48"),
        ("127.0.0.1", None), ("127.9.9.9", None), ("::/64", None), ("unknown", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_an_address_counts_with_its_network_and_this_machine_with_none(address, network):
    assert network_of(address) == network


class Town:
    """Agents at addresses of their own before one ledger."""

    def __init__(self, ledger, database):
        self.ledger, self.database, self.app = ledger, database, create_public_app(ledger.context)

    async def agent(self, address, owner=None, **changes):
        """A new agent at an address, with a code."""
        owner = owner or await account(self.ledger, self.database)
        code = (await owner.generate(**changes))["token"]
        transport = httpx2.ASGITransport(self.app, client=(address, 1))
        return Agent(httpx2.AsyncClient(transport=transport, base_url="http://ledger")), code

    async def enroll(self, address, owner=None, **changes):
        """Enroll a new agent; answers it, its code and what the ledger said."""
        agent, code = await self.agent(address, owner, **changes)
        return agent, code, await agent.enroll(code)

    async def statuses(self, *addresses):
        return [(await self.enroll(address))[2].status_code for address in addresses]


@pytest.fixture
async def town(ledger_with, database):
    return Town(await ledger_with(nodes_per_network=2), database)


async def test_the_network_is_full_for_all_accounts_together_and_says_what_to_do(town, database):
    assert await town.statuses("203.0.113.1", "203.0.113.200") == [201, 201]
    _, code, refused = await town.enroll("203.0.113.7")
    said = refused.json()
    assert (refused.status_code, said["code"], refused.headers["content-type"]) == (409, "network_full", "application/problem+json")
    assert all(word in said["detail"] for word in ("2 nodes on probation", "203.0.113.0/24", "Deregister", "GFE_NODES_PER_NETWORK"))
    assert await town.statuses("203.0.112.1", "2001:db8:7::1", "2001:db8:7:ffff::1", "2001:db8:7:1::1") == [201, 201, 201, 409]
    kept = execute(database, "SELECT DISTINCT network::text FROM ledger.node WHERE kind = 'edge' ORDER BY 1")
    assert kept == [("2001:db8:7::/48",), ("203.0.112.0/24",), ("203.0.113.0/24",)]  # and no address
    assert execute(database, "SELECT used_at FROM ledger.enrollment WHERE node_id IS NULL AND used_at IS NOT NULL") == []
    elsewhere = Agent(town.ledger.http)
    assert (await elsewhere.enroll(code)).status_code == 201  # the code is not used up


async def test_this_machine_may_enroll_as_many_as_it_likes(town, database):
    assert await town.statuses(*["127.0.0.1"] * 3, *["::1"] * 3) == [201] * 6
    assert execute(database, "SELECT count(*) FROM ledger.node WHERE network IS NOT NULL") == [(0,)]


async def test_a_lost_reply_is_repeated_from_a_full_network(town):
    first, code, answer = await town.enroll("203.0.113.1")
    assert await town.statuses("203.0.113.2", "203.0.113.3") == [201, 409]
    assert (await first.enroll(code)).json() == answer.json()


async def test_room_comes_back_with_nodes_that_rise_leave_or_are_long_gone(town, database):
    owner = await account(town.ledger, database)
    nodes = [(await town.enroll("203.0.113.1", owner))[2].json()["node_id"] for _ in range(2)]
    changes = ("tier = 'verified'", "last_seen_at = clock_timestamp() - interval '31 days'")
    for change in changes:
        assert await town.statuses("203.0.113.9") == [409]
        execute(database, f"UPDATE ledger.node SET {change} WHERE id = %s", [nodes.pop()])
        assert await town.statuses("203.0.113.9") == [201]
    node = (await town.enroll("198.51.100.1", owner))[2].json()["node_id"]
    assert await town.statuses("198.51.100.2", "198.51.100.3") == [201, 409]
    for token in await owner.tokens():
        if token["node_id"] == node:
            await owner.call("POST", f"agent-token/{token['id']}/revoke/")
    assert await town.statuses("198.51.100.3") == [409]  # cut, but it may come back with a new key
    assert (await town.enroll("198.51.100.9", owner, node_id=node))[2].status_code == 201
    assert (await owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    assert await town.statuses("198.51.100.3") == [201]


async def test_many_at_once_are_not_more(town):
    made = [await town.agent("203.0.113.5") for _ in range(6)]
    answers = await asyncio.gather(*(agent.enroll(code) for agent, code in made))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 4


async def test_zero_is_no_limit(ledger_with, database):
    town = Town(await ledger_with(nodes_per_network=0), database)
    assert await town.statuses(*["203.0.113.1"] * 4) == [201] * 4


async def test_the_address_is_the_one_that_limits_count(town, database):
    """Behind a proxy on this machine the server puts the forwarded address in the client's place; nobody else's header counts."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    app = ProxyHeadersMiddleware(town.app, trusted_hosts="127.0.0.1")
    for proxy, kept in (("127.0.0.1", "198.51.100.0/24"), ("203.0.113.4", "203.0.113.0/24")):
        http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, client=(proxy, 1)), base_url="http://ledger", headers={"x-forwarded-for": "198.51.100.9"}
        )
        owner = await account(town.ledger, database)
        answer = await Agent(http).enroll((await owner.generate())["token"])
        assert execute(database, "SELECT network::text FROM ledger.node WHERE id = %s", [answer.json()["node_id"]]) == [(kept,)]
