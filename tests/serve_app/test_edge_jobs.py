"""Jobs on edge nodes, through everything that is real: ledger, driver, Dispatcher, edge gateway; only the agents are scripted."""

import pytest

from tests.cluster.waiting import until
from tests.edge_agents import words_of
from tests.edge_platform import running_edge_platform


@pytest.fixture
async def world(database, ledger_with):
    ledger = await ledger_with(welcome_credits="10.00")
    async with running_edge_platform(database, ledger) as made:
        yield made


async def test_a_job_runs_on_an_edge_node_and_its_owner_earns(world):
    agent = await world.agent(words=6)
    answer = await world.platform.chat("m")
    assert answer.status_code == 200, answer.text
    job = answer.headers["x-gfe-job"]
    assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of(job, 6))
    assert await world.platform.settled() == "9.00"
    row = await world.platform.job(job)
    assert (row["status"], row["node"]) == ("succeeded", agent.identity.node) or row["status"] == "COMPLETED", row


async def test_an_offer_tells_the_job_and_nobody_elses_secrets(world):
    spies = [await world.agent(words=3) for _ in range(3)]
    answer = await world.platform.chat("m", temperature=0.3)
    assert answer.status_code == 200, answer.text
    offers = [offer for spy in spies for offer in spy.offers]
    assert len(offers) == 1
    [offer] = offers
    assert set(offer) == {"type", "job", "lease", "kind", "model", "model_digest", "request", "max_tokens", "deadline"}
    assert set(offer["request"]) == {"messages", "options"}
    options = offer["request"]["options"]
    assert {name: options[name] for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")} == {
        "temperature": 0.3, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0,
    }  # fmt: skip
    assert isinstance(options["seed"], int)
    assert set(options) == {"temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed"}


async def test_a_revoked_agent_is_cut_within_seconds(world):
    agent = await world.agent(words=3)
    [code] = await agent.owner.tokens()
    await agent.owner.call("POST", f"agent-token/{code['id']}/revoke/")
    await until(lambda: agent.last_close == 4401, 6)
