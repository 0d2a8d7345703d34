"""Standby nodes over a real autoscaler: `python standby_day.py HEAD FOLDER RAYS_FOLDER`; prints what it saw, a line of JSON each.

A process of its own: the tests' process is connected to another head, and Ray connects once.
"""

import asyncio
import json
import os
import signal
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.connect import NAMESPACE, connect
from cluster.errors import NodeBusy
from cluster.jobs import Attempt, End, JobKind
from cluster.standby_nodes import StandbySettings
from tests.cluster.builders import wait
from tests.cluster.ray_head import NODE
from tests.cluster.test_on_ray import on_ray, pid_of
from tests.waiting import until

STANDBY = "node_s1"
SLOW, QUICK = "fake:drip=5", "fake:words=16"
LIMIT_S = 120
IDLE_S = 3


def say(**seen):
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()


def names_in(folder):
    return sorted(one.name for one in folder.iterdir())


def runs_in_ray(node):
    import ray

    return any(one["Alive"] and one["Labels"].get("gfe.io/node") == node for one in ray.nodes())


async def stands(cluster, state):
    async def is_so():
        said = await cluster.dispatcher.status.remote()
        return said["standby"].get(STANDBY) == state

    async with asyncio.timeout(LIMIT_S):
        while not await is_so():
            await asyncio.sleep(0.2)


def attempt(node, job, model):
    return Attempt(
        job=job, number=1, node=node.id, kind=JobKind.CHAT, model=model, model_digest="", max_tokens=1000,
        request={"messages": [{"role": "user", "content": "hello"}]},
    )  # fmt: skip


@asynccontextmanager
async def filled(cluster, node):
    """All slots of a node taken."""

    async def fill():
        async for _ in cluster.client.run(node.url, attempt(node, f"job_{uuid.uuid4().hex}", SLOW)):
            pass

    tasks = [asyncio.create_task(fill()) for _ in range(node.slots)]
    await until(lambda: cluster.find(node.id).running == node.slots, LIMIT_S)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def waits_and_runs(cluster):
    """A job finds all slots taken, waits, and runs where it is sent."""
    job = f"job_{uuid.uuid4().hex}"
    waiting = wait(job, model=QUICK, is_async=True)
    for _ in range(20):
        found = await cluster.view.wait_for_slot(waiting, LIMIT_S)
        try:
            events = [event async for event in cluster.client.run(found.url, attempt(found, job, QUICK))]
        except NodeBusy:
            cluster.view.put_back(waiting)
            continue
        return found.id, isinstance(events[-1], End)
    raise AssertionError("busy each time")


async def main(address, folder, rays_folder):
    import ray

    from tests.cluster.machines import own_settings

    connect(address)
    listed, notes = folder / "standby", folder / "notes"
    listed.write_text(f"{STANDBY}  # of group gpu-s1\n")
    notes.mkdir()
    async with on_ray(folder, StandbySettings(listed, IDLE_S)) as cluster:
        own = {
            "GFE_NODE_RUNTIME_URL": cluster.runtime_url,
            "GFE_NODE_HOST": "127.0.0.1",
            "GFE_NODE_SLOTS": "2",
            "GFE_NODE_NOTES": str(notes),
        }
        own_settings(rays_folder).write_text(json.dumps(own))
        await cluster.ready()
        await stands(cluster, "off")
        say(step="nobody waits", is_there=runs_in_ray(STANDBY))
        for step in ("first", "again"):
            async with filled(cluster, cluster.node):
                where, is_whole = await waits_and_runs(cluster)
                say(step=step, ran_on=where, is_whole=is_whole, notes=names_in(notes))
                worker = ray.get_actor(f"worker:{STANDBY}", namespace=NAMESPACE)
                before = await pid_of(worker.pid.remote())
                async with filled(cluster, await cluster.ready(STANDBY)):
                    epoch = cluster.view._epoch
                    os.kill(await pid_of(cluster.dispatcher.status.remote()), signal.SIGKILL)
                    await until(lambda epoch=epoch: cluster.view._epoch != epoch, LIMIT_S)
                    await stands(cluster, "running")
                    say(step="a new Dispatcher", is_same_worker=await pid_of(worker.pid.remote()) == before)
            await until(lambda: cluster.find(STANDBY) is None, LIMIT_S)
            await stands(cluster, "off")
            await until(lambda: not runs_in_ray(STANDBY), LIMIT_S)
            say(step="let go", is_other_well=cluster.find(NODE).is_healthy, notes=names_in(notes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(Path, sys.argv[2:])))
