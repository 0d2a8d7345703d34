"""The Dispatcher over scripted nodes: who is there, who is next; without Ray."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from cluster.dispatcher import Dispatcher
from cluster.errors import NodeLost
from cluster.limits import Limits
from cluster.metrics import NODES_LOST
from cluster.nodes import Node, NodeKind
from cluster.queue import Standing
from tests.cluster.builders import model, node, wait
from tests.waiting import until


@dataclass(frozen=True)
class Place:
    id: str
    at: int = 0


@dataclass
class World:
    """Nodes as the Dispatcher reaches them. Every watcher hears the present state first, then what is said."""

    places: list[Place] = field(default_factory=list)
    now: dict[str, Node] = field(default_factory=dict)
    watchers: dict[str, list[asyncio.Queue]] = field(default_factory=dict)
    retired: list[Place] = field(default_factory=list)
    is_ray_down: bool = False

    async def members(self):
        if self.is_ray_down:
            raise ConnectionError("no Ray")
        return list(self.places)

    async def locate(self, place):
        return f"http://{place.id}/{place.at}"

    async def watch(self, url):
        id_, inbox = url.split("/")[2], asyncio.Queue()
        if id_ in self.now:
            inbox.put_nowait(self.now[id_])
        listeners = self.watchers.setdefault(id_, [])
        listeners.append(inbox)
        try:
            while (said := await inbox.get()) is not None:
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            listeners.remove(inbox)

    async def retire(self, place):
        self.retired.append(place)

    def join(self, one, at=0):
        self.places = [place for place in self.places if place.id != one.id] + [Place(one.id, at)]
        self.say(one)

    def say(self, one):
        self.now[one.id] = one
        for inbox in self.watchers.get(one.id, []):
            inbox.put_nowait(one)

    def end_watch(self, id_, error=None):
        del self.now[id_]
        for inbox in self.watchers[id_]:
            inbox.put_nowait(error)


@pytest.fixture
def world():
    return World()


@asynccontextmanager
async def running(world, **limits):
    dispatcher = Dispatcher(world.members, world.locate, world.watch, world.retire, limits=Limits(**limits), rng=Random(0))
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {
        "LOOK_S": 0.02,
        "RETRY_S": 0.02,
        "COLLECT_S": 0.01,
        "MATCH_S": 0.02,
        "EXCHANGE_LIMIT_S": 0.3,
        "CHANGES_LIMIT_S": 0.3,
    }.items():
        monkeypatch.setattr(f"cluster.dispatcher.{name}", value)


def nodes_of(dispatcher):
    return dispatcher.snapshot().nodes


async def ready(world, dispatcher, one, at=0):
    world.join(one, at)
    await until(lambda: one.id in nodes_of(dispatcher) and nodes_of(dispatcher)[one.id].slots == one.slots)


async def test_a_node_that_joins_is_seen_with_its_url(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        assert nodes_of(dispatcher)["node_a"].url == "http://node_a/0"
        assert dispatcher.status() == {"nodes": 1, "healthy": 1, "waiting": {}, "reasons": {}}


async def test_a_closed_connection_is_news_at_once_and_so_is_its_return(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        for error, reason in ((None, "its connection closed"), (NodeLost("x", "silent for 5 s"), "silent for 5 s")):
            world.end_watch("node_a", error)
            await until(lambda reason=reason: nodes_of(dispatcher)["node_a"].reason == reason)
            assert not nodes_of(dispatcher)["node_a"].is_healthy
            world.say(node())
            await until(lambda: nodes_of(dispatcher)["node_a"].is_healthy)


async def test_a_node_that_left_the_cluster_is_dropped_and_its_worker_retired(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        first = await dispatcher.next_changes("", 0)
        world.places = []
        await until(lambda: not nodes_of(dispatcher))
        changes = await dispatcher.next_changes(first.epoch, first.version)
        assert changes.gone == ("node_a",)
        await until(lambda: world.retired == [Place("node_a")])


@pytest.mark.parametrize(("last", "lost"), [
    (node(), 1), (node(is_draining=True), 0), (node(is_healthy=False), 0),
])  # fmt: skip
async def test_a_node_that_leaves_while_it_is_well_was_lost(world, last, lost):
    """Its machine is gone before its connection ends; who leaves by intent is drained before, and what was lost already counts once."""
    async with running(world) as dispatcher:
        await ready(world, dispatcher, last)
        world.places = []
        await until(lambda: not nodes_of(dispatcher))
        assert dispatcher.figures()[NODES_LOST, (NodeKind.TRUSTED,)] == lost


async def test_a_node_that_came_back_elsewhere_is_followed_there(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        world.join(node(slots=7), at=1)
        await until(lambda: nodes_of(dispatcher).get("node_a", node()).url == "http://node_a/1")
        assert world.retired == [Place("node_a")]


async def test_while_ray_does_not_answer_everything_stays_as_it_was(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        world.is_ray_down = True
        world.say(node(running=1))
        await until(lambda: nodes_of(dispatcher)["node_a"].running == 1)
        assert world.retired == []


async def test_replicas_are_told_what_changed_and_not_the_whole(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node("node_a"))
        await ready(world, dispatcher, node("node_b"))
        full = await dispatcher.next_changes("", 0)
        assert full.is_full
        assert {one.id for one in full.nodes} == {"node_a", "node_b"}
        told = asyncio.create_task(dispatcher.next_changes(full.epoch, full.version))
        world.say(node("node_b", running=1))
        changes = await told
        assert not changes.is_full
        assert [(one.id, one.running) for one in changes.nodes] == [("node_b", 1)]


async def test_a_replica_that_knows_everything_hears_within_the_limit_that_nothing_changed(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        full = await dispatcher.next_changes("", 0)
        nothing = await dispatcher.next_changes(full.epoch, full.version)
        assert (nothing.nodes, nothing.gone, nothing.version) == ((), (), full.version)


async def test_a_new_dispatcher_tells_everything(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        assert (await dispatcher.next_changes("epoch of another", 99)).is_full


async def test_a_free_slot_is_granted_at_once(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node())
        (grant,) = await dispatcher.exchange("replica", [wait("job_1")], [], [])
        assert (grant.job, grant.node.id) == ("job_1", "node_a")


async def test_tickets_count_so_that_no_slot_is_given_twice(world):
    async with running(world, ticket_s=30) as dispatcher:
        await ready(world, dispatcher, node(slots=2))
        grants = await dispatcher.exchange("replica", [wait(f"job_{n}") for n in range(3)], [], [])
        assert [grant.job for grant in grants] == ["job_0", "job_1"]
        assert await dispatcher.exchange("replica", [], [], []) == []
        assert dispatcher.status()["waiting"] == {"m": 1}


async def test_a_ticket_that_was_used_frees_its_place_as_soon_as_the_job_is_done(world):
    async with running(world, ticket_s=30) as dispatcher:
        await ready(world, dispatcher, node(slots=1))
        await dispatcher.exchange("replica", [wait("job_1"), wait("job_2")], [], [])
        world.say(node(slots=1, running=1, admitted=1))
        world.say(node(slots=1, running=0, admitted=1))
        (grant,) = await dispatcher.exchange("replica", [], [], [])
        assert grant.job == "job_2"


async def test_a_ticket_that_nobody_used_runs_out(world):
    async with running(world, ticket_s=0.1) as dispatcher:
        await ready(world, dispatcher, node(slots=1))
        await dispatcher.exchange("replica", [wait("job_1"), wait("job_2")], [], [])
        (grant,) = await dispatcher.exchange("replica", [], [], [])
        assert grant.job == "job_2"


async def test_a_ticket_that_met_a_busy_node_goes_to_the_front(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        earlier = asyncio.create_task(dispatcher.exchange("replica", [wait("job_1")], [], []))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 1})
        waiting = asyncio.create_task(dispatcher.exchange("replica", [], [], [wait("job_3")]))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 2})
        world.say(node(slots=1))
        assert [grant.job for grant in await waiting] == ["job_3"]
        assert await earlier == []


async def test_a_job_that_no_free_node_suits_does_not_hold_up_the_others(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=2))
        waits = [wait("picky", excluded=frozenset({"node_a"})), wait("too_long", tokens=10**6), wait("easy")]
        (grant,) = await dispatcher.exchange("replica", waits, [], [])
        assert grant.job == "easy"
        assert dispatcher.status()["waiting"] == {"m": 2}


async def test_a_full_queue_says_when_to_come_back(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        grants = await dispatcher.exchange("replica", [wait(f"job_{n}", f"user_{n}") for n in range(3)], [], [])
        assert [(grant.job, grant.node) for grant in grants] == [("job_2", None)]
        assert grants[0].refused.retry_after_s >= 1


async def test_withdrawn_jobs_wait_no_more(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        await dispatcher.exchange("replica", [wait("job_1")], [], [])
        await dispatcher.exchange("replica", [], ["job_1"], [])
        assert dispatcher.status()["waiting"] == {}


async def test_what_a_dead_replica_waited_for_takes_no_slot(world):
    async with running(world, absent_s=0.1) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        await dispatcher.exchange("dies", [wait("job_1")], [], [])
        await until(lambda: not dispatcher.status()["waiting"])
        world.say(node(slots=1))
        (grant,) = await dispatcher.exchange("lives", [wait("job_2")], [], [])
        assert grant.job == "job_2"


async def test_a_second_call_of_a_replica_answers_its_first_one(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        first = asyncio.create_task(dispatcher.exchange("replica", [wait("job_1")], [], []))
        await until(lambda: dispatcher.status()["waiting"])
        second = asyncio.create_task(dispatcher.exchange("replica", [wait("job_2")], [], []))
        assert await first == []
        world.say(node(slots=1))
        assert [grant.job for grant in await second] == ["job_1"]


async def test_who_waits_is_part_of_the_news_so_that_nobody_overtakes(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        full = await dispatcher.next_changes("", 0)
        told = asyncio.create_task(dispatcher.next_changes(full.epoch, full.version))
        await dispatcher.exchange("replica", [wait("job_1")], [], [])
        assert (await told).waiting == {"m": 1}


async def test_a_draining_or_sick_node_gets_nothing(world):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, replace(node(), is_draining=True))
        assert await dispatcher.exchange("replica", [wait("job_1")], [], []) == []


async def test_a_waiting_job_is_told_where_it_stands_and_how_long_it_will_take(world):
    async with running(world) as dispatcher:
        learned = replace(model(), job_s=2.0)
        await ready(world, dispatcher, node(slots=1, running=1, models=[learned]))
        await dispatcher.exchange("replica", [wait("job_1", "user_a"), wait("job_2", "user_b")], [], [])
        first, second = await dispatcher.wait_of("job_1"), await dispatcher.wait_of("job_2")
        assert (first.ahead, second.ahead) == (0, 1)
        assert 2.0 <= first.estimated_s <= 2.5
        assert 4.0 <= second.estimated_s <= 5.0
        assert await dispatcher.wait_of("job_of_nobody") is None
        world.say(node(slots=1, running=0, models=[learned]))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 1})
        assert await dispatcher.wait_of("job_1") is None
        assert (await dispatcher.wait_of("job_2")).ahead == 0


async def test_the_queue_takes_more_when_nodes_join_and_less_when_they_stay_away(world, monkeypatch):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        waits = [wait(f"job_{n}", f"user_{n}") for n in range(6)]
        first = await dispatcher.exchange("replica", waits[:3], [], [])
        assert [grant.job for grant in first if grant.refused] == ["job_2"]
        await ready(world, dispatcher, node("node_b", slots=2, running=2))
        assert await dispatcher.exchange("replica", waits[2:5], [], []) == []
        world.say(node("node_b", slots=2, running=2, is_draining=True))
        await until(lambda: nodes_of(dispatcher)["node_b"].is_draining)
        monkeypatch.setattr("cluster.dispatcher.RETURN_S", 0)
        (refused,) = await dispatcher.exchange("replica", waits[5:], [], [])
        assert refused.refused


async def test_lines_of_models_that_share_a_node_take_turns(world):
    async with running(world, ticket_s=30) as dispatcher:
        both = [model("m"), model("n")]
        await ready(world, dispatcher, node(slots=1, running=1, models=both))
        waits = [wait(f"m_{n}", f"user_{n}", is_async=True) for n in range(4)]
        await dispatcher.exchange("replica", [*waits, wait("n_0", "user_9", model="n", is_async=True)], [], [])
        granted = []
        for number in range(2):
            world.say(node(slots=1, running=0, admitted=number, models=both))
            granted += [grant.job for grant in await dispatcher.exchange("replica", [], [], [])]
            world.say(node(slots=1, running=1, admitted=number + 1, models=both))
        assert sorted(granted) == ["m_0", "n_0"]


async def test_whoever_asks_before_submitting_hears_where_the_job_would_stand(world):
    async with running(world) as dispatcher:
        assert await dispatcher.outlook("m") is None
        await ready(world, dispatcher, node(slots=1))
        assert await dispatcher.outlook("m") == Standing(0, 0.0)
        assert await dispatcher.outlook("nobody has it") is None
        world.say(node(slots=1, running=1))
        await until(lambda: nodes_of(dispatcher)["node_a"].running == 1)
        alone = await dispatcher.outlook("m")
        assert (alone.ahead, alone.estimated_s > 0) == (0, True)
        waiting = asyncio.create_task(dispatcher.exchange("replica", [wait("job_1"), wait("job_2", "bob")], [], []))
        await until(lambda: dispatcher.status()["waiting"] == {"m": 2})
        behind = await dispatcher.outlook("m")
        assert (behind.ahead, behind.estimated_s > alone.estimated_s) == (2, True)
        world.say(node(slots=1, running=1, is_draining=True))
        await until(lambda: nodes_of(dispatcher)["node_a"].is_draining)
        assert await dispatcher.outlook("m") is None
        waiting.cancel()


@pytest.mark.parametrize("verdict", ["broken", "excluded"])
async def test_a_job_that_waits_for_long_may_go_to_a_node_that_something_spoke_against_when_it_came(world, monkeypatch, verdict):
    monkeypatch.setattr("cluster.placement.OPEN_S", 0.2)
    monkeypatch.setattr("cluster.placement.EXCLUDED_S", 0.2)
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1))
        unlucky = wait("job_1")
        unlucky = replace(unlucky, request=replace(unlucky.request, **{verdict: frozenset({"node_a"})}))
        answers = [await dispatcher.exchange("replica", [unlucky], [], [])]
        while not any(answers):
            answers.append(await dispatcher.exchange("replica", [], [], []))
            assert len(answers) < 20
        (grant,) = answers[-1]
        assert (grant.job, grant.node.id) == ("job_1", "node_a")


async def test_who_knew_an_earlier_dispatcher_keeps_its_nodes_until_this_one_has_heard_from_everybody(world):
    world.places = [Place("node_a", 0)]
    async with running(world) as dispatcher:
        await until(lambda: world.watchers)
        asked = asyncio.create_task(dispatcher.next_changes("an earlier one", 7))
        assert (await dispatcher.next_changes("", 0)).nodes == (), "who knows nothing yet does not wait"
        assert not asked.done()
        world.say(node())
        assert [one.id for one in (await asked).nodes] == ["node_a"]


async def test_a_new_dispatcher_does_not_wait_for_ever_for_who_says_nothing(world, monkeypatch):
    monkeypatch.setattr("cluster.dispatcher.SETTLE_S", 0.2)
    world.places = [Place("node_a", 0)]
    async with running(world) as dispatcher:
        assert (await dispatcher.next_changes("an earlier one", 7)).nodes == ()


async def test_a_node_without_room_for_anybody_is_not_asked_about(world, monkeypatch):
    asked = []
    monkeypatch.setattr("cluster.dispatcher.choose", lambda *given: asked.append(given))
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=1, running=1))
        await dispatcher.exchange("replica", [wait("job_1")], [], [])
        world.say(node(slots=1, running=1, admitted=5))
        await until(lambda: nodes_of(dispatcher)["node_a"].admitted == 5)
        assert asked == []


async def test_what_the_replicas_hear_comes_newest_first_and_only_once(world):
    async with running(world) as dispatcher:
        for id_ in ("node_a", "node_b", "node_c"):
            await ready(world, dispatcher, node(id_))
        known = await dispatcher.next_changes("", 0)
        for id_ in ("node_c", "node_a"):
            world.say(node(id_, running=1))
            await until(lambda id_=id_: nodes_of(dispatcher)[id_].running == 1)
        changes = await dispatcher.next_changes(known.epoch, known.version)
        assert [one.id for one in changes.nodes] == ["node_a", "node_c"]


async def refusals(dispatcher, *jobs):
    """Let jobs wait; tell which of them were refused at once."""
    grants = await dispatcher.exchange("replica", [wait(job) for job in jobs], [], [])
    return [grant.job for grant in grants if grant.refused]


async def test_a_node_that_is_started_anew_turns_nobody_away_who_can_wait_a_moment(world, monkeypatch):
    async with running(world) as dispatcher:
        await ready(world, dispatcher, node(slots=3))
        for gone in (node(slots=3, is_draining=True), node(slots=3, is_healthy=False)):
            world.say(gone)
            await until(lambda gone=gone: nodes_of(dispatcher)["node_a"].is_healthy == gone.is_healthy)
        assert await refusals(dispatcher, "job_1", "job_2", "job_3", "job_4") == []
        monkeypatch.setattr("cluster.dispatcher.RETURN_S", 0)
        assert await refusals(dispatcher, "job_5") == ["job_5"]  # it does not come back: two wait for a slot at most


async def test_a_new_dispatcher_turns_nobody_away_before_it_has_heard_from_everybody(world):
    async with running(world) as dispatcher:
        world.places = [Place("node_a"), Place("node_b")]
        world.say(node("node_a", slots=1, running=1))
        await until(lambda: "node_a" in nodes_of(dispatcher))
        assert await refusals(dispatcher, "job_1", "job_2", "job_3") == []
        world.say(node("node_b", slots=1, running=1))
        await until(lambda: "node_b" in nodes_of(dispatcher))
        assert await refusals(dispatcher, "job_4", "job_5") == ["job_5"]
