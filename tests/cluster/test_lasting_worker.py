"""A drain outlives the worker's process: another worker in its place drains from its first moment on."""

import pytest

from cluster.errors import NodeBusy
from cluster.gpus import NoGpus
from cluster.worker_actor import LastingWorker
from tests.cluster.test_worker import DONE, PieceRuntime, attempt


def worker_in(folder):
    made = LastingWorker("node_a", "node_a", PieceRuntime(DONE), NoGpus(), slots=1)
    made.keep_in(folder)
    return made


async def test_a_drain_outlives_the_process_until_somebody_resumes(tmp_path):
    assert worker_in(tmp_path).drain("node_a")
    again = worker_in(tmp_path)
    assert again.node.is_draining
    await again.start()
    try:
        with pytest.raises(NodeBusy, match="draining"):
            again.admit(attempt())
        assert not again.resume("node_b")
        assert again.node.is_draining
        assert again.resume("node_a")
    finally:
        await again.aclose()
    assert not worker_in(tmp_path).node.is_draining
