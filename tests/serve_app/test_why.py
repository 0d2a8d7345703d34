"""Every decision can be asked for its reasons."""

import asyncio

from serve_app.cli.jobs import sentences
from tests.ledger.people import bearer, somebody


async def why(platform, job, headers=None):
    answer = await platform.http.get(f"/api/computing/jobs/{job}/why/", headers=headers or platform.bearer)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_job_tells_which_node_it_got_and_why_not_the_others(platform_with):
    platform = await platform_with(nodes=3)
    platform.workers[1].drain("node_1")
    platform.workers[2]._set_node(is_healthy=False, reason="its GPU is gone")
    job = (await platform.chat()).headers["X-GFE-Job"]
    said = await why(platform, job)
    (decision,) = said["decisions"]
    assert (said["status"], said["attempts"], decision["node"], decision["others"]) == ("COMPLETED", 1, "node_local", 0)
    assert decision["refused"] == {"node_1": "it is draining", "node_2": "its GPU is gone"}
    assert sentences(said)[1:] == ["attempt 1: chose n", "  node_1: it is draining", "  node_2: its GPU is gone"]


async def test_a_second_attempt_is_a_second_decision_that_names_the_failure(platform_with):
    platform = await platform_with(nodes=2)
    model = "fake:500"
    answer = await platform.chat(model)
    assert answer.status_code == 502
    said = await why(platform, answer.headers.get("X-GFE-Job") or answer.json()["error"].get("job") or await newest(platform))
    assert said["attempts"] > 1
    first, second = said["decisions"][:2]
    assert {first["node"], second["node"]} == {"node_local", "node_1"}
    assert second["refused"] == {first["node"]: "it failed this job before"}


async def newest(platform):
    from ledger.client import job_id

    rows = await platform.context.store._line.query("SELECT id FROM serve_app.job ORDER BY id DESC LIMIT 1")
    return job_id(rows[0][0])


async def test_a_job_that_waits_says_so(platform_with):
    platform = await platform_with(slots=1)
    first = asyncio.create_task(platform.chat("fake:hang@2"))
    async with asyncio.timeout(60):
        while not platform.workers[0].node.running:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(platform.chat("fake:hang@2"))
    async with asyncio.timeout(60):
        while len(await platform.context.store._line.query("SELECT id FROM serve_app.job")) < 2:
            await asyncio.sleep(0.01)
    said = await why(platform, await newest(platform))
    assert said["status"] == "PENDING"
    assert said["decisions"][0] | {"at": ""} == {
        "attempt": 1, "at": "", "node": None, "name": None, "refused": {"node_local": "it is busy"}, "others": 0,
    }  # fmt: skip
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_nobody_else_is_told(platform_with):
    platform = await platform_with()
    job = (await platform.chat()).headers["X-GFE-Job"]
    ada = await somebody(platform.ledger)
    answer = await platform.http.get(f"/api/computing/jobs/{job}/why/", headers=bearer(ada.tokens["access"]))
    assert answer.status_code == 403
    assert (await platform.http.get("/api/computing/jobs/job_nonsense/why/", headers=platform.bearer)).status_code == 404
