"""Standby nodes by Ray's own autoscaler: it starts the node that jobs wait for, and ends it when nobody needs it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.cluster.ray_head import RayHead

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
POD = {"spec": {"containers": [{"name": "ray-worker"}]}}
CLUSTER = {  # as the chart writes it, as far as the autoscaler reads it; `tests/ops/test_helm.py` holds the two together
    "headGroupSpec": {"resources": {"CPU": "0", "control": "1"}, "rayStartParams": {}, "template": POD},
    "workerGroupSpecs": [{
        "groupName": "gpu-s1", "replicas": 0, "minReplicas": 0, "maxReplicas": 1, "idleTimeoutSeconds": 2, "rayStartParams": {}, "template": POD,
        "resources": {"CPU": "0", "GPU": "0", "standby": "1"},
        "labels": {"gfe.io/role": "worker", "gfe.io/node": "node_s1", "gfe.io/name": "machine-s1"},
    }],
}  # fmt: skip


@pytest.fixture
def autoscaled_head():
    head = RayHead(cluster=CLUSTER)
    try:
        head.start()
        yield head
    finally:
        head.stop()


async def test_a_node_comes_when_jobs_wait_and_goes_when_the_others_suffice(autoscaled_head, tmp_path):
    environment = autoscaled_head.environment | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, Path(__file__).with_name("standby_day.py"), autoscaled_head.address, tmp_path, autoscaled_head.folder / "t",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, wrong = await process.communicate()
    logs = "".join(f"\n{one.name}: {one.read_text(errors='replace')[-2000:]}" for one in autoscaled_head.folder.glob("*.log"))
    assert process.returncode == 0, wrong.decode()[-3000:] + logs
    ran = {"ran_on": "node_s1", "is_whole": True, "notes": ["offer"]}
    taken_over = {"step": "a new Dispatcher", "is_same_worker": True}
    let_go = {"step": "let go", "is_other_well": True, "notes": ["drained", "draining", "offer"]}  # `drained`: its pod may end at once
    assert [json.loads(line) for line in said.splitlines() if line.startswith(b"{")] == [
        {"step": "nobody waits", "is_there": False}, {"step": "first"} | ran, taken_over, let_go, {"step": "again"} | ran, taken_over, let_go
    ]  # fmt: skip
