"""A consumer's program is told of its jobs' ends, signed, and as the API tells them."""

import psycopg
import pytest

from cluster.jobs import JobKind
from serve_app.adoption import drain
from serve_app.driving import drive
from serve_app.job import JobRequest
from serve_app.submission import open_job
from serve_app.webhooks import bodies
from tests.contract.test_job_store_contract import new_job
from tests.ledger.people import bearer, somebody
from tests.serve_app.webhooks.desk import add, call, chat, deliveries, logged
from tests.serve_app.webhooks.receiver import said_in, verified


@pytest.mark.usefixtures("delivering_replica")
async def test_a_job_that_ends_is_told_once_signed_and_as_the_api_tells_it(platform, receiver):
    hook = await add(platform, receiver.url)
    job = await chat(platform)
    (got,) = await receiver.heard(1)
    said = verified(hook["secret"], got)
    row = await platform.job(job)
    assert (said["type"], said["data"]["id"], said["data"]["status"], said["data"]["cost"]) == ("job.succeeded", job, "COMPLETED", "1.00")
    assert said["data"].pop("node")["id"] == row["node"]["id"]
    assert said["data"] == {name: row[name] for name in said["data"]} | {"result": None}
    assert "prompt" not in said["data"]
    assert "hello there" not in got[1]
    await logged(platform, 1, status="delivered")
    (line,) = await deliveries(platform, f"{hook['id']}/deliveries/")
    assert (line["id"], line["status"], line["attempts"], line["response_status"], line["job"]) == (
        receiver.ids[0],
        "delivered",
        1,
        200,
        job,
    )
    assert len(receiver.got) == 1


@pytest.mark.usefixtures("delivering_replica")
async def test_failed_and_canceled_jobs_are_told_too_and_only_what_an_endpoint_asks_for(platform, receiver, other):
    await add(platform, receiver.url)
    await add(platform, other.url, events=["job.canceled"])
    failed = await chat(platform, "fake:500")
    await receiver.heard(1)
    async with platform.http.stream(
        "POST", "/v1/chat/completions", json=platform.body("fake:drip=0.1", max_tokens=50, stream=True), headers=platform.bearer
    ) as answer:
        canceled = answer.headers["x-gfe-job"]
        async for _ in answer.aiter_bytes():
            break
    (only,) = await other.heard(1)
    said = [said_in(one) for one in await receiver.heard(2)]
    assert [(one["type"], one["data"]["id"], one["data"]["status"]) for one in said] == [
        ("job.failed", failed, "FAILED"),
        ("job.canceled", canceled, "CANCELED"),
    ]
    assert "scripted failure" in said[0]["data"]["result"]["error"]
    assert said_in(only)["data"]["id"] == canceled


@pytest.mark.usefixtures("delivering_replica")
async def test_a_job_that_broke_in_the_middle_is_told_as_failed_and_incomplete(platform, receiver):
    await add(platform, receiver.url)
    await platform.chat("fake:cut@2", stream=True)
    (got,) = await receiver.heard(1)
    said = said_in(got)
    assert (said["type"], said["data"]["incomplete"], said["data"]["status"]) == ("job.failed", True, "FAILED")


@pytest.mark.usefixtures("delivering_replica")
async def test_the_answer_is_told_only_where_it_is_asked_for(platform, receiver, other, monkeypatch):
    monkeypatch.setattr(bodies, "OUTPUT_CHARS", 4)
    await add(platform, receiver.url, include_result=True)
    await add(platform, other.url)
    job = await chat(platform)
    (with_result,), (without,) = await receiver.heard(1), await other.heard(1)
    output = (await platform.job(job))["result"]["output"]
    assert said_in(with_result)["data"]["result"] == {"output": output[:4], "is_cut": True}
    assert said_in(without)["data"]["result"] is None


@pytest.mark.usefixtures("delivering_replica")
async def test_an_endpoint_of_one_key_hears_of_that_keys_jobs_alone(platform, receiver, other):
    ada = await somebody(platform.ledger)
    key = await ada.key()
    (row,) = (await ada.get("/api/core/keys/")).json()["results"]
    mine = (await call(platform, "POST", headers=bearer(key), json={"url": receiver.url, "key": row["id"]})).json()
    await call(platform, "POST", headers=bearer(key), json={"url": other.url, "key": "00000000"})
    body = platform.body()
    await platform.http.post("/v1/chat/completions", json=body, headers=ada.headers)
    second = await platform.http.post("/v1/chat/completions", json=body, headers=bearer(key))
    (got,) = await receiver.heard(1)
    assert verified(mine["secret"], got)["data"]["id"] == second.headers["x-gfe-job"]
    assert (len(receiver.got), other.got) == (1, [])


@pytest.mark.usefixtures("delivering_replica")
async def test_the_url_of_a_single_job_is_told_of_it_signed_with_the_accounts_secret(platform, receiver):
    url = await platform.context.webhooks.check_url(receiver.url)
    asked = JobRequest(
        kind=JobKind.CHAT,
        model="fake:words=3",
        request={"messages": [{"role": "user", "content": "hello"}]},
        max_tokens=5,
        prompt_bytes=5,
        webhook=url,
    )
    job = await open_job(platform.context, platform.key, asked)
    await drain(drive(platform.context, job))
    (got,) = await receiver.heard(1)
    secret = (await call(platform, "GET", "secret/")).json()["secret"]
    assert verified(secret, got)["data"]["id"] == job.name
    await logged(platform, 1, status="delivered")
    (line,) = await deliveries(platform)
    assert (line["webhook"], line["url"], line["job"]) == (None, receiver.url, job.name)
    rotated = (await call(platform, "POST", "secret/rotate/")).json()
    assert (rotated["secret_version"], rotated["secret"] != secret) == (2, True)


async def test_a_job_that_was_buried_is_told_if_it_had_been_recorded(platform, database, receiver):
    await add(platform, receiver.url)
    user = (await platform.context.callers.require(platform.key, "jobs:read")).user
    recorded, never = new_job(user=user), new_job(user=user)
    await platform.context.writer.create(recorded)
    for one in (recorded, never):
        await platform.context.store.bury(one, platform.context.writer.driver)
    platform.context.writer.live.clear()
    assert [(one["type"], one["status"]) for one in await deliveries(platform)] == [("job.failed", "pending")]


async def test_where_nobody_listens_nothing_is_written(platform, database):
    await chat(platform)
    assert await deliveries(platform) == []
    with psycopg.connect(database.admin_url) as admin:
        assert admin.execute("SELECT count(*) FROM serve_app.webhook_event").fetchone() == (0,)


@pytest.mark.usefixtures("delivering_replica")
async def test_a_submitted_job_names_who_is_told_of_its_end(platform, receiver):
    body = {"prompt": "hello there", "webhook": receiver.url}
    answer = await platform.http.post("/api/computing/submit-job/", json=body, headers=platform.bearer)
    (got,) = await receiver.heard(1)
    assert verified((await call(platform, "GET", "secret/")).json()["secret"], got)["data"]["id"] == answer.json()["job_id"]
    private = await platform.http.post("/api/computing/submit-job/", json=body | {"webhook": "http://10.0.0.1/x"}, headers=platform.bearer)
    assert (private.status_code, list(private.json()["errors"])) == (400, ["webhook"])
