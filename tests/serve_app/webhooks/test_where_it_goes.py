"""A webhook never goes into our own network: not when it is saved, not when its name changes afterwards."""

import dataclasses

import pytest

from cluster.errors import InvalidRequest
from serve_app.webhooks.guard import Policy
from serve_app.webhooks.lookup import Guard
from tests.serve_app.webhooks.desk import add, call, chat, deliver, deliveries, replica


async def test_a_private_address_is_refused_when_it_is_saved(platform):
    for url in (
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1]/",
        "http://example.com/",
        "https://u:p@example.com/",
    ):
        answer = await call(platform, "POST", json={"url": url})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["url"]), url
    assert (await call(platform, "GET")).json()["results"] == []


async def test_a_name_that_leads_to_a_private_address_later_is_refused_at_the_delivery(platform, database):
    told = ["93.184.216.34"]

    async def resolve(host, port):
        return list(told)

    guard = Guard(Policy(), resolve)
    url = await guard.check_url("https://consumer.example/hook")
    platform.context.webhooks = dataclasses.replace(platform.context.webhooks, guard=guard)
    await add(platform, url)
    await chat(platform)
    told[:] = ["93.184.216.34", "10.0.0.7"]
    async with replica(platform, database, guard=guard, runs=False) as deliverer:
        await deliver(deliverer)
    (line,) = await deliveries(platform)
    assert (line["status"], line["response_status"], "not public" in line["error"], "10.0.0.7" in line["error"]) == (
        "pending",
        None,
        True,
        False,
    )
    with pytest.raises(InvalidRequest, match="not public"):
        await guard.check_url(url)


async def test_the_url_of_a_single_job_is_refused_under_the_name_of_its_field(platform):
    with pytest.raises(InvalidRequest, match="not public") as refused:
        await platform.context.webhooks.check_url("https://10.0.0.1/")
    assert refused.value.param == "webhook"
