"""A job that waits, with the real Dispatcher and the real view between the replica and its workers."""

import asyncio
from contextlib import asynccontextmanager

from cluster.dispatcher import Dispatcher
from cluster.view import ClusterView
from serve_app.cli.jobs import sentences
from tests.cluster.test_dispatcher import Place
from tests.cluster.test_view import Handle
from tests.waiting import until


@asynccontextmanager
async def dispatched(platform):
    """Put a real Dispatcher in the place of the platform's own view."""
    urls = {worker.node.id: worker.node.url for worker in platform.workers}

    async def members():
        return [Place(id_) for id_ in urls]

    async def locate(place):
        return urls[place.id]

    dispatcher = Dispatcher(members, locate, platform.context.nodes.watch)
    dispatcher.start()
    view = ClusterView(lambda: Handle(dispatcher))
    view.start()
    before, platform.context.view = platform.context.view, view
    try:
        await until(lambda: view.age_s < 5 and len(view.snapshot.nodes) == len(urls))
        yield dispatcher
    finally:
        platform.context.view = before
        await view.aclose()
        await dispatcher.aclose()


async def waiting_jobs(platform):
    from ledger.client import job_id

    rows = await platform.context.store._line.query("SELECT id FROM serve_app.job WHERE node IS NULL ORDER BY id")
    return [job_id(row[0]) for row in rows]


async def test_a_waiting_consumer_sees_how_many_go_before_and_how_long_it_will_take(platform_with):
    platform = await platform_with(slots=1)
    async with dispatched(platform) as dispatcher:
        chats = [asyncio.create_task(platform.chat("fake:hang@2"))]
        await until(lambda: platform.workers[0].node.running == 1)
        for count in (1, 2):
            chats.append(asyncio.create_task(platform.chat("fake:hang@2")))
            await until(lambda count=count: dispatcher.status()["waiting"] == {"fake:hang@2": count})
        first, second = await waiting_jobs(platform)
        assert (await platform.job(first))["wait"]["ahead"] == 0
        detail = await platform.job(second)
        assert detail["status"] == "PENDING"
        assert detail["wait"]["ahead"] == 1
        assert 1 <= detail["wait"]["estimated_s"] <= 30
        said = (await platform.http.get(f"/api/computing/jobs/{second}/why/", headers=platform.bearer)).json()
        assert said["wait"]["ahead"] == 1
        assert sentences(said)[-1].startswith("waits now, 1 before it, about ")
        for chat in chats:
            chat.cancel()
        await asyncio.gather(*chats, return_exceptions=True)
        await until(lambda: not dispatcher.status()["waiting"])


async def test_a_job_that_does_not_wait_has_no_wait(platform_with):
    platform = await platform_with()
    async with dispatched(platform):
        job = (await platform.chat()).headers["X-GFE-Job"]
        assert (await platform.job(job))["wait"] is None


async def test_what_a_node_learned_from_its_jobs_reaches_the_replicas(platform_with):
    platform = await platform_with()
    async with dispatched(platform):
        for _ in range(3):
            assert (await platform.chat("fake:words=16")).status_code == 200
        await platform.workers[0].refresh()

        def learned():
            (node,) = platform.context.view.snapshot.nodes.values()
            return next(model for model in node.models if model.name == "fake:words=16").first_token_s

        await until(lambda: learned() is not None)
        assert 0 < learned() < 5
