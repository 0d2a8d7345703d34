"""Jobs on edge nodes, through everything that is real: ledger, driver, Dispatcher, edge gateway; only the agents are scripted."""

import asyncio

import pytest

from tests.edge_agents import words_of
from tests.edge_platform import running_edge_platform
from tests.waiting import until


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
    assert {name: options[name] for name in ("repeat_last_n", "presence_penalty", "frequency_penalty")} == {
        "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    assert len(options) == 9


async def test_a_revoked_agent_is_cut_within_seconds(world):
    agent = await world.agent(words=3)
    [code] = await agent.owner.tokens()
    await agent.owner.call("POST", f"agent-token/{code['id']}/revoke/")
    await until(lambda: agent.last_close == 4401, 6)


async def test_an_edge_gateway_that_is_exchanged_in_mid_answer_costs_nothing(world):
    agent = await world.agent(words=40, pace_s=0.05, back_s=0.3)
    asking = asyncio.create_task(world.platform.chat("m", max_tokens=100))
    await until(lambda: agent.offers and len(next(iter(agent.logs.values()))) > 10)
    await world.exchange_edge()
    answer = await asking
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of(answer.headers["x-gfe-job"], 40))
    assert (len(agent.offers), agent.connects) == (1, 2)
    assert await world.platform.settled() == "9.00"


async def test_an_agent_that_goes_to_another_edge_gateway_in_mid_answer_costs_nothing(world):
    other = await world.start_edge()
    context = world.platform.context
    context.settings = context.settings.model_copy(update={"edge_urls": ",".join(edge.node_url for edge in world.edges)})
    agent = await world.agent(words=60, pace_s=0.05)
    asking = asyncio.create_task(world.platform.chat("m", max_tokens=100))
    await until(lambda: agent.offers and len(next(iter(agent.logs.values()))) > 10)
    agent.url = other.agent_url
    agent.socket.abort()
    answer = await asking
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of(answer.headers["x-gfe-job"], 60))
    assert len(agent.offers) == 1
    assert world.seen(agent.identity.node).url == other.node_url


async def test_a_request_that_fits_no_frame_goes_to_another_kind_of_node_or_is_told(world):
    agent = await world.agent(words=3)
    answer = await world.platform.chat("m", text="x" * 300_000, max_tokens=10)
    assert answer.status_code == 429, answer.text
    assert not agent.offers
    assert await world.platform.settled() == "10.00"


async def test_the_owners_own_agent_gets_none_of_the_owners_jobs(world):
    agent = await world.agent(words=3)
    answer = await world.platform.http.post("/v1/chat/completions", json=world.platform.body("m"), headers=agent.owner.headers)
    assert answer.status_code in {402, 429, 503}, answer.text
    assert not agent.offers


async def test_counts_ten_times_too_high_do_not_cost_ten_times_as_much(world):
    agent = await world.agent(words=5, inflates=10)
    answer = await world.platform.chat("m", max_tokens=5)
    assert answer.json()["usage"]["completion_tokens"] <= 5
    assert agent.offers
