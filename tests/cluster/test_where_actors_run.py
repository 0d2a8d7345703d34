"""On a real Ray cluster of two nodes: control stays on the head, a worker on its node, and Ray's dashboard names both for people."""

import asyncio
import json
import os
import signal
import time
import urllib.request

import pytest

from serve_app.local import ports
from serve_app.settings import ServeSettings
from tests.cluster.ray_head import NODE
from tests.cluster.test_on_ray import BACK_LIMIT_S, on_ray
from tests.waiting import until

pytestmark = [
    pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # importing Ray Serve warns of pydantic
]  # fmt: skip
OTHER = "node_d"
REPLICAS = 4
WITHOUT_NODE_S = 6  # longer than Ray needs to start an actor again elsewhere (measured: 1 s)


def asked(head, path):
    """What Ray's dashboard says."""
    token = (head.folder / "token").read_text()
    request = urllib.request.Request(f"http://127.0.0.1:{head.ports[1]}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read())["data"]


def living(head):
    """Living actors as (class, node, row)."""
    names = {row["NodeID"]: row["Labels"].get("gfe.io/node") for row in ray_nodes()}
    rows = asked(head, "/logical/actors")["actors"].values()
    return [(row["actorClass"], names[row["address"]["nodeId"]], row) for row in rows if row["state"] == "ALIVE"]


def ray_nodes():
    import ray

    return ray.nodes()


def deployed(folder, head):
    """Serve with replicas of ours; they serve nobody here, for there is no ledger."""
    from ray import serve

    from serve_app.deployment import build

    port = next(port for port in range(29_500, 29_900) if ports.is_free(port))
    (folder / "serve_database_url").write_text("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    (folder / "webhook_root").write_text("none")
    settings = ServeSettings(secrets_dir=folder, ledger_socket=folder / "none", api_port=port, ray_address=head.address, replicas=REPLICAS)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(settings.as_arguments()), name="gfe", route_prefix="/")


@pytest.mark.parametrize(("wanted", "cores", "replicas"), [(None, 2, 1), (None, 4, 2), (None, 64, 2), (3, 2, 3)])
def test_two_replicas_run_where_there_are_four_cores_unless_somebody_says_otherwise(wanted, cores, replicas):
    from serve_app.deployment import replicas_for

    assert replicas_for(wanted, cores) == replicas


async def test_control_stays_on_the_head_and_each_worker_on_its_node(ray_head, tmp_path):
    from ray import serve

    process = ray_head.join(OTHER)
    async with on_ray(tmp_path) as cluster:
        await cluster.ready(OTHER)
        await cluster.ready()
        try:
            await asyncio.to_thread(deployed, tmp_path, ray_head)

            def replicas():
                return [row for kind, _, row in living(ray_head) if "ServeReplica" in kind]

            await until(lambda: len(replicas()) == REPLICAS, BACK_LIMIT_S)
            os.kill(replicas()[0]["pid"], signal.SIGKILL)
            gone = replicas()[0]["actorId"]
            await until(lambda: len(now := replicas()) == REPLICAS and gone not in {row["actorId"] for row in now}, BACK_LIMIT_S)
            places = {(kind, node) for kind, node, _ in living(ray_head)}
            assert {kind for kind, node in places if node == OTHER} == {"WorkerActor"}
            on_head = {kind for kind, node in places if node == NODE}
            assert {"DispatcherActor", "ServeController", "ProxyActor", "WorkerActor"} <= on_head
            assert any("ServeReplica" in kind for kind in on_head)
            require_names(ray_head)

            ray_head.crash(process)
            end = time.monotonic() + WITHOUT_NODE_S
            while time.monotonic() < end:  # "never" needs a look over some time
                rows = [(node, row["name"]) for kind, node, row in living(ray_head) if kind == "WorkerActor"]
                assert [name for node, name in rows if node == NODE] == [f"worker:{NODE}"]
                await asyncio.sleep(0.5)
        finally:
            await asyncio.to_thread(serve.shutdown)


def require_names(head):
    """Ray's dashboard shows names that a person knows."""
    shown = {row["reprName"] for kind, _, row in living(head) if kind in {"WorkerActor", "DispatcherActor"}}
    assert shown == {"Dispatcher", "worker:machine-d", f"worker:{NODE}"}
    summary = asked(head, "/nodes?view=summary")["summary"]
    assert "machine-d" in {row["raylet"]["nodeName"] for row in summary if row["raylet"]["state"] == "ALIVE"}
