"""What a replica knows of the cluster, and that it survives a Dispatcher's death."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cluster.dispatcher import Dispatcher
from cluster.errors import ClusterUnreachable, NoCapacity
from cluster.limits import Limits
from cluster.view import ClusterView
from tests.cluster.builders import model, node, wait
from tests.cluster.test_dispatcher import World, ready
from tests.waiting import until


class Handle:
    """A Dispatcher as an actor's handle: calls of a dead one fail."""

    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        self.is_dead = False
        self.calls = 0

    def __getattr__(self, method):
        return Remote(self, method)


class Remote:
    def __init__(self, handle, method):
        self.handle, self.method = handle, method

    async def remote(self, *arguments):
        self.handle.calls += 1
        call = asyncio.ensure_future(getattr(self.handle.dispatcher, self.method)(*arguments))
        while not call.done():
            if self.handle.is_dead:
                call.cancel()
                break
            await asyncio.wait({call}, timeout=0.02)
        if self.handle.is_dead:
            raise ConnectionError("the actor died")
        return call.result()


class Cluster:
    """One world, and a Dispatcher that can die and be started anew."""

    def __init__(self, world):
        self.world = world
        self.handle = None
        self.started = []

    def find(self):
        if self.handle is None:
            raise ValueError("no actor `dispatcher`")
        return self.handle

    def begin(self):
        dispatcher = Dispatcher(self.world.members, self.world.locate, self.world.watch)
        dispatcher.start()
        self.started.append(dispatcher)
        self.handle = Handle(dispatcher)
        return dispatcher

    async def kill(self):
        self.handle.is_dead = True
        await self.handle.dispatcher.aclose()
        self.handle = None


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {
        "LOOK_S": 0.02,
        "RETRY_S": 0.02,
        "COLLECT_S": 0.01,
        "MATCH_S": 0.02,
        "EXCHANGE_LIMIT_S": 0.3,
        "CHANGES_LIMIT_S": 0.2,
    }.items():
        monkeypatch.setattr(f"cluster.dispatcher.{name}", value)
    monkeypatch.setattr("cluster.view.RETRY_S", 0.02)


@pytest.fixture
async def cluster():
    made = Cluster(World())
    yield made
    for dispatcher in made.started:
        await dispatcher.aclose()


@asynccontextmanager
async def viewing(cluster, on_return=lambda _: None, **limits):
    view = ClusterView(cluster.find, limits=Limits(**limits), on_return=on_return)
    view.start()
    try:
        yield view
    finally:
        await view.aclose()


async def test_before_the_dispatcher_was_heard_nobody_knows_anything(cluster):
    async with viewing(cluster) as view:
        with pytest.raises(ClusterUnreachable):
            assert view.snapshot


async def test_the_snapshot_follows_the_nodes(cluster):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a"))
        await until(lambda: view.age_s < 1 and "node_a" in view.snapshot.nodes)
        cluster.world.say(node("node_a", running=1))
        await until(lambda: view.snapshot.nodes["node_a"].running == 1)
        cluster.world.places = []
        await until(lambda: not view.snapshot.nodes)


async def test_a_dead_dispatcher_is_survived_on_the_last_snapshot_and_the_next_one_is_found(cluster):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a"))
        await until(lambda: view.age_s < 1 and view.snapshot.nodes)
        await cluster.kill()
        await until(lambda: view.age_s > 0.5)
        assert "node_a" in view.snapshot.nodes
        cluster.world.join(node("node_b"))
        successor = cluster.begin()
        await until(lambda: "node_b" in view.snapshot.nodes)
        assert view.snapshot.nodes.keys() <= successor.snapshot().nodes.keys()


async def test_a_snapshot_that_is_too_old_is_not_used(cluster):
    async with viewing(cluster, snapshot_s=0.3) as view:
        await ready(cluster.world, cluster.begin(), node("node_a"))
        await until(lambda: view.age_s < 0.1)
        await cluster.kill()
        await until(lambda: view.age_s > 0.3)
        with pytest.raises(ClusterUnreachable, match="Try again in 5 s"):
            assert view.snapshot


async def test_a_job_waits_for_its_slot(cluster):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a", slots=1, running=1))
        waiting = asyncio.create_task(view.wait_for_slot(wait("job_1"), 10))
        await until(lambda: view.age_s < 1 and view.snapshot.waiting == {"m": 1})
        cluster.world.say(node("node_a", slots=1))
        assert (await waiting).id == "node_a"
        await until(lambda: not view.snapshot.waiting)


async def test_what_waits_is_told_to_the_next_dispatcher(cluster):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a", slots=1, running=1))
        waiting = asyncio.create_task(view.wait_for_slot(wait("job_1"), 10))
        await until(lambda: cluster.started[0].status()["waiting"])
        await cluster.kill()
        successor = cluster.begin()
        await until(lambda: successor.status()["waiting"] == {"m": 1})
        cluster.world.say(node("node_a", slots=1))
        assert (await waiting).id == "node_a"


async def test_who_gives_up_is_withdrawn(cluster):
    async with viewing(cluster) as view:
        dispatcher = cluster.begin()
        await ready(cluster.world, dispatcher, node("node_a", slots=1, running=1))
        with pytest.raises(NoCapacity, match=r"no slot came free within 0\.2 s"):
            await view.wait_for_slot(wait("job_1"), 0.2)
        await until(lambda: not dispatcher.status()["waiting"])
        left = asyncio.create_task(view.wait_for_slot(wait("job_2"), 10))
        await until(lambda: dispatcher.status()["waiting"])
        left.cancel()
        await until(lambda: not dispatcher.status()["waiting"])


async def test_a_full_queue_is_said_with_the_time_to_come_back(cluster):
    async with viewing(cluster) as view:
        dispatcher = cluster.begin()
        await ready(cluster.world, dispatcher, node("node_a", slots=1, running=1))
        waiting = [asyncio.create_task(view.wait_for_slot(wait(f"job_{n}"), 10)) for n in range(2)]
        await until(lambda: dispatcher.status()["waiting"] == {"m": 2})
        with pytest.raises(NoCapacity, match="2 jobs wait for m already") as refused:
            await view.wait_for_slot(wait("job_3"), 10)
        assert refused.value.retry_after_s >= 1
        for one in waiting:
            one.cancel()


async def test_a_ticket_that_met_a_busy_node_waits_again_at_the_front(cluster):
    async with viewing(cluster) as view:
        dispatcher = cluster.begin()
        await ready(cluster.world, dispatcher, node("node_a", slots=1))
        first = wait("job_1")
        assert (await view.wait_for_slot(first, 10)).id == "node_a"
        cluster.world.say(node("node_a", slots=1, running=1, admitted=1))
        await until(lambda: view.snapshot.nodes["node_a"].running == 1)
        behind = asyncio.create_task(view.wait_for_slot(wait("job_2"), 10))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 1})
        view.put_back(first)
        again = asyncio.create_task(view.wait_for_slot(first, 10))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 2})
        cluster.world.say(node("node_a", slots=1, admitted=1))
        await until(again.done)
        assert not behind.done()
        behind.cancel()


async def test_many_waits_share_few_calls(cluster):
    async with viewing(cluster) as view:
        dispatcher = cluster.begin()
        await ready(cluster.world, dispatcher, node("node_a", slots=200, running=0))
        await until(lambda: view.age_s < 1)
        before = cluster.handle.calls
        await asyncio.gather(*(view.wait_for_slot(wait(f"job_{n}", f"user_{n}"), 10) for n in range(100)))
        assert cluster.handle.calls - before < 20


async def test_slots_that_were_just_used_count_as_taken_until_the_snapshot_shows_them(cluster):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a"))
        await until(lambda: view.age_s < 1)
        view.note_placed("node_a")
        assert view.taken == ["node_a"]
        cluster.world.say(node("node_a", running=1, admitted=1))
        await until(lambda: view.snapshot.nodes["node_a"].running == 1)
        assert view.taken == []


async def test_who_waited_in_vain_is_told_when_a_slot_is_likely_to_come_free(cluster):
    async with viewing(cluster) as view:
        slow = [replace(model(), job_s=40.0)]
        await ready(cluster.world, cluster.begin(), node("node_a", slots=1, running=1, models=slow))
        with pytest.raises(NoCapacity) as refused:
            await view.wait_for_slot(wait("job_1"), 0.2)
        assert 38 <= refused.value.retry_after_s <= 45
        await cluster.kill()
        with pytest.raises(NoCapacity) as refused:
            await view.wait_for_slot(wait("job_2"), 0.2)
        assert refused.value.retry_after_s == 5


async def test_any_replica_can_tell_where_a_job_stands_and_a_dead_dispatcher_tells_nothing(cluster):
    async with viewing(cluster) as view, viewing(cluster) as other:
        dispatcher = cluster.begin()
        await ready(cluster.world, dispatcher, node("node_a", slots=1, running=1))
        waiting = [asyncio.create_task(view.wait_for_slot(wait(f"job_{n}", f"user_{n}"), 10)) for n in range(2)]
        await until(lambda: dispatcher.status()["waiting"] == {"m": 2})
        standing = await other.wait_of("job_1")
        assert standing.ahead == 1
        assert standing.estimated_s > 0
        assert await other.wait_of("job_9") is None
        await cluster.kill()
        assert await other.wait_of("job_1") is None
        for one in waiting:
            one.cancel()


@pytest.mark.parametrize("is_seen_lost", [True, False])
async def test_who_waits_may_go_to_a_node_that_failed_and_is_back(cluster, is_seen_lost):
    """A worker that is started anew, at another place: what it failed before says nothing of it any more."""
    back = []
    async with viewing(cluster, back.append) as view:
        await ready(cluster.world, cluster.begin(), node("node_a", is_healthy=False))
        await until(lambda: view.age_s < 1 and view.snapshot.nodes)
        unlucky = wait("job_1")
        unlucky = replace(unlucky, request=replace(unlucky.request, broken=frozenset({"node_a"})))
        waiting = asyncio.create_task(view.wait_for_slot(unlucky, 5))
        await until(lambda: view.snapshot.waiting)
        if not is_seen_lost:
            view._snapshot = replace(
                view._snapshot, nodes={"node_a": replace(view._snapshot.nodes["node_a"], is_healthy=True, url="elsewhere")}
            )
        cluster.world.say(node("node_a"))
        assert (await waiting).id == "node_a"
        assert back == ["node_a"]


@pytest.mark.parametrize("verdict", ["broken", "excluded"])
async def test_who_waits_may_go_to_a_node_that_is_pardoned(cluster, verdict):
    async with viewing(cluster) as view:
        await ready(cluster.world, cluster.begin(), node("node_a"))
        await until(lambda: view.age_s < 1 and view.snapshot.nodes)
        unlucky = wait("job_1")
        unlucky = replace(unlucky, request=replace(unlucky.request, **{verdict: frozenset({"node_a"})}))
        waiting = asyncio.create_task(view.wait_for_slot(unlucky, 5))
        await until(lambda: view.snapshot.waiting)
        assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
        view.pardon("node_a")
        assert (await waiting).id == "node_a"
