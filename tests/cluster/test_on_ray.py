"""The Dispatcher and a worker as actors of a real Ray cluster: they start, serve, and come back when they are killed."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from cluster.errors import NodeBusy, NodeLost
from cluster.jobs import Attempt, End, JobKind, Text
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens
from cluster.view import ClusterView
from serve_app.local.secrets import make_service_key
from tests.cluster.ray_head import NODE
from tests.scripted_runtime import Script, serve, words_of
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow]
BACK_LIMIT_S = 60


class OnRay:
    """A replica's place: view, client, and the actors behind them."""

    def __init__(self, view, client, dispatcher, runtime_url):
        self.view, self.client, self.dispatcher, self.runtime_url = view, client, dispatcher, runtime_url
        self.jobs = 0

    @property
    def node(self):
        return self.find(NODE)

    def find(self, id_):
        return self.view.snapshot.nodes.get(id_) if self.view.age_s < 30 else None

    async def ready(self, id_=NODE, unlike=None):
        def is_ready():
            node = self.find(id_)
            return node is not None and node.is_healthy and node.url != unlike

        await until(is_ready, BACK_LIMIT_S)
        return self.find(id_)

    async def run(self, id_=NODE):
        self.jobs += 1
        attempt = Attempt(
            job=f"job_{self.jobs}", number=1, node=id_, kind=JobKind.CHAT, model="fake:words=16", model_digest="", max_tokens=100,
            request={"messages": [{"role": "user", "content": "hello"}]},
        )  # fmt: skip
        events = [event async for event in self.client.run(self.find(id_).url, attempt)]
        assert isinstance(events[-1], End)
        return "".join(event.content for event in events if isinstance(event, Text))


async def pid_of(call):
    said = await call
    return said["pid"] if isinstance(said, dict) else said


@asynccontextmanager
async def on_ray(folder, standby=None):
    from cluster.dispatcher_actor import find, get_or_start
    from cluster.worker_settings import WorkerSettings

    make_service_key(folder, "serve")
    tokens = ServiceTokens((folder / "service_serve.pem").read_bytes(), "serve")
    runner, runtime_url = await serve(Script())
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()
    settings = WorkerSettings(runtime_url=runtime_url, public_key=(folder / "service_serve.pub.pem").read_text(), slots=2)
    dispatcher = await asyncio.to_thread(get_or_start, str(folder / "service_serve.pem"), settings, (), standby)
    view = ClusterView(find)
    view.start()
    try:
        yield OnRay(view, client, dispatcher, runtime_url)
    finally:
        await view.aclose()
        await client.aclose()
        await asyncio.to_thread(end_actors)
        await runner.cleanup()


def end_actors():
    """The next test has another runtime and other keys: its actors are new ones."""
    import ray

    from cluster.connect import NAMESPACE

    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(named["name"], namespace=NAMESPACE), no_restart=True)


async def test_dispatcher_and_worker_start_serve_and_survive_sigkill(ray_head, tmp_path):
    import ray

    from cluster.connect import NAMESPACE

    async with on_ray(tmp_path) as cluster:
        expected = "".join(words_of("hello", 16))
        node = await cluster.ready()
        assert (node.slots, node.runtime) == (2, "ollama 0.32.15")
        assert await cluster.run() == expected

        worker = ray.get_actor(f"worker:{NODE}", namespace=NAMESPACE)
        first_pid = await pid_of(worker.pid.remote())
        os.kill(first_pid, signal.SIGKILL)
        await until(lambda: not cluster.node.is_healthy, BACK_LIMIT_S)
        with pytest.raises((NodeLost, NodeBusy)):
            await cluster.run()
        await cluster.ready(unlike=node.url)
        assert await cluster.run() == expected
        second_pid = await pid_of(worker.pid.remote())
        assert second_pid != first_pid

        epoch = cluster.view._epoch
        os.kill(await pid_of(cluster.dispatcher.status.remote()), signal.SIGKILL)
        assert await cluster.run() == expected  # nobody needs the Dispatcher to run a job
        await until(lambda: cluster.view._epoch != epoch, BACK_LIMIT_S)
        await cluster.ready()
        assert await cluster.run() == expected
        assert await pid_of(worker.pid.remote()) == second_pid  # the new Dispatcher found the worker that was there


async def test_a_node_that_crashes_is_dropped_and_served_again_when_it_rejoins(ray_head, tmp_path):
    async with on_ray(tmp_path) as cluster:
        expected = "".join(words_of("hello", 16))
        process = ray_head.join("node_b")
        first = await cluster.ready("node_b")
        assert await cluster.run("node_b") == expected
        ray_head.crash(process)
        await until(lambda: not (cluster.find("node_b") and cluster.find("node_b").is_healthy), 10)
        assert await cluster.run() == expected
        await until(lambda: cluster.find("node_b") is None, BACK_LIMIT_S)
        process = ray_head.join("node_b")
        await cluster.ready("node_b", unlike=first.url)
        assert await cluster.run("node_b") == expected
        ray_head.crash(process)


async def test_a_node_that_rejoins_before_ray_noticed_its_death_is_served_too(ray_head, tmp_path):
    async with on_ray(tmp_path) as cluster:
        process = ray_head.join("node_c")
        first = await cluster.ready("node_c")
        ray_head.crash(process)
        process = ray_head.join("node_c")
        await cluster.ready("node_c", unlike=first.url)
        assert await cluster.run("node_c") == "".join(words_of("hello", 16))
        ray_head.crash(process)
