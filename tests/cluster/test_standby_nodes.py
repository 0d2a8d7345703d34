"""What the decisions of `test_standby.py` become: who is asked, who is told, who has a worker."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from cluster.errors import NodeLost
from cluster.pool import RayNode
from cluster.standby_nodes import StandbyNodes, StandbySettings, names_in
from tests.cluster.builders import node, wait
from tests.cluster.test_dispatcher import World, ready, running
from tests.waiting import until

ALWAYS, FIRST, SECOND = RayNode("node_a", "a", "ray1"), RayNode("node_s1", "s1", "ray2", True), RayNode("node_s2", "s2", "ray3", True)
LISTED = "node_s1 # the first\n\n# none of ours\n  node_s2\n"
IDLE_S, NEVER_IDLE_S = 0.5, 600


class Cluster:
    """Standby nodes of a real Dispatcher; the autoscaler and the nodes are the test's."""

    def __init__(self, file, idle_s, world, dispatcher):
        self.world, self.dispatcher = world, dispatcher
        self.asked, self.told, self.deaf = [], [], 0
        self.nodes = StandbyNodes(StandbySettings(file, idle_s), self, self.ask)

    async def ask(self, names):
        self.asked.append(names)

    async def drain(self, url, id_):
        await self.tell("drain", id_)

    async def resume(self, url, id_):
        await self.tell("resume", id_)

    async def tell(self, what, id_):
        self.told.append((what, id_))
        if self.deaf:
            self.deaf -= 1
            raise NodeLost(id_, "silent")
        self.world.say(node(id_, is_draining=what == "drain"))

    async def wait(self, job):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.dispatcher.exchange("replica", [wait(job, is_async=True)], [], [])

    def state(self, name="node_s1"):
        return self.nodes.states.get(name)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("cluster.standby.GROW_AFTER_S", 0.2)
    monkeypatch.setattr("cluster.standby_nodes.LOOK_S", 0.02)


@pytest.fixture
def cluster_with(tmp_path, quick):
    @asynccontextmanager
    async def start(idle_s=NEVER_IDLE_S):
        world, file = World(), tmp_path / "nodes"
        file.write_text(LISTED)
        async with running(world) as dispatcher:
            cluster = Cluster(file, idle_s, world, dispatcher)
            task = asyncio.create_task(cluster.nodes.look_for_ever(dispatcher))
            try:
                yield cluster
            finally:
                task.cancel()

    return start


def test_the_list_is_an_id_a_line(tmp_path):
    (tmp_path / "nodes").write_text(LISTED)
    assert names_in(tmp_path / "nodes") == ["node_s1", "node_s2"]
    assert names_in(tmp_path / "missing") == []


async def test_a_node_is_asked_for_drained_and_let_go(cluster_with):
    async with cluster_with(IDLE_S) as cluster:
        assert cluster.nodes.running([ALWAYS, FIRST]) == [ALWAYS, FIRST], "what runs already is taken over"
        cluster.world.join(node("node_a", running=2))
        cluster.world.join(node("node_s1", running=2))
        await until(lambda: cluster.asked == [["node_s1"]])
        await cluster.wait("job_1")
        await until(lambda: cluster.asked[-1] == ["node_s1", "node_s2"])
        assert cluster.nodes.running([ALWAYS, SECOND]) == [ALWAYS, SECOND]
        cluster.deaf = 1
        await ready(cluster.world, cluster.dispatcher, node("node_s2"))
        cluster.world.say(node("node_a"))
        await until(lambda: ("drain", "node_s2") in cluster.told)
        await until(lambda: cluster.asked[-1] == ["node_s1"])
        assert cluster.told.count(("drain", "node_s2")) >= 2, "the first call was lost"
        assert cluster.nodes.is_let_go(SECOND)
        assert cluster.nodes.running([ALWAYS, FIRST, SECOND]) == [ALWAYS, FIRST]
        assert {("drain", "node_s2")} == set(cluster.told)


async def test_what_runs_is_found_before_anything_is_asked(cluster_with):
    async with cluster_with() as cluster:
        await asyncio.sleep(0.2)
        assert (cluster.asked, cluster.nodes.states) == ([], {})
        assert cluster.nodes.running([FIRST]) == [FIRST]
        await until(lambda: cluster.asked == [["node_s1"]])


async def test_it_is_asked_again_for_a_head_that_forgot(cluster_with, monkeypatch):
    monkeypatch.setattr("cluster.standby_nodes.ASK_AGAIN_S", 0.1)
    async with cluster_with() as cluster:
        cluster.nodes.running([FIRST])
        await until(lambda: cluster.asked[2:] and all(names == ["node_s1"] for names in cluster.asked))


async def test_an_autoscaler_that_does_not_answer_is_asked_again(cluster_with):
    async with cluster_with() as cluster:
        answers = iter([TimeoutError(), ConnectionError()])
        asked = []

        async def ask(names):
            asked.append(names)
            for broken in answers:
                raise broken

        cluster.nodes._ask = ask
        cluster.nodes.running([FIRST])
        await until(lambda: len(asked) == 3)
        await asyncio.sleep(0.1)
        assert asked == [["node_s1"]] * 3


async def test_without_a_list_every_node_runs(tmp_path):
    nodes = StandbyNodes(None, None, None)
    assert nodes.running([ALWAYS, FIRST]) == [ALWAYS, FIRST]
    assert not nodes.is_let_go(FIRST)
    await nodes.look_for_ever(None)  # ends at once
    assert set(nodes.figures().values()) == {0}
