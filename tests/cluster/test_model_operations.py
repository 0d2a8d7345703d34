"""Models on a node, over real sockets: loaded, unloaded and pulled in turn, with progress; warmed up before their first use."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cluster.errors import NodeLost, OperationRefused, RuntimeFailed
from cluster.fit import MIB
from cluster.gpus import NoGpus, SimulatedGpus
from cluster.jobs import Admitted, Attempt, Deadlines, End, EndReason, Fail, JobKind, Text
from cluster.limits import Limits
from cluster.model_operations import MAX_OPERATIONS, Action
from cluster.offer import GIB
from cluster.runtime.ollama import OllamaRuntime
from cluster.worker import Care, Worker
from tests.scripted_models import shaped
from tests.scripted_runtime import Script, serve, words_of
from tests.waiting import until


@asynccontextmanager
async def working(script, *, gpus=None, slots=2, care=None):
    """A worker over a scripted runtime, in this process."""
    runner, url = await serve(script)
    worker = Worker(
        "node_a", "attic", OllamaRuntime(url), gpus or NoGpus(), slots=slots, limits=Limits(inventory_s=0.1), care=care or Care()
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.aclose()
        await runner.cleanup()


def script_with(*models):
    script = Script()
    script.models = {model.name: model for model in models}
    return script


def cold(name="cold:1b", **more):
    return shaped(name, name[0] * 64, **more)


async def steps_of(worker, action, model, *, is_forced=False):
    operation = worker.operate("node_a", action, model, is_forced=is_forced)
    return [step.status async for step in operation.follow(0.05)]


def attempt(model, job="job_1", max_tokens=100, **deadlines):
    return Attempt(
        job=job, number=1, node="node_a", kind=JobKind.CHAT, model=model, model_digest="", request={"messages": [{"role": "user", "content": "hi"}]},
        max_tokens=max_tokens, deadlines=Deadlines(**deadlines),
    )  # fmt: skip


async def end_of(running):
    await until(lambda: running.log.has_ended)
    lines, _, _ = await running.lines_from(0)
    return json.loads(lines.splitlines()[-1])


# --- load and unload --------------------------------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_and_what_it_took_is_told_beside_what_it_was_expected_to_take():
    async with working(script_with(cold())) as worker:
        (before,) = worker.node.models
        assert (before.is_loaded, before.took_bytes) == (False, None)
        said = await steps_of(worker, Action.LOAD, "cold:1b")
        assert "loading cold:1b" in said
        assert said[-1] == "cold:1b is loaded, took 0.13 GiB of 0.21 GiB expected"
        (after,) = worker.node.models
        assert after.is_loaded
        assert after.took_bytes == 98_362_432 + 22_500 * 2048
        # Two slots; before the load of a context that is assumed, after it of the one that the runtime gave.
        assert before.needed_bytes == 98_362_432 + (2 * 90 + 28) * MIB
        assert after.needed_bytes == 98_362_432 + (2 * 45 + 28) * MIB
        assert (await steps_of(worker, Action.UNLOAD, "COLD:1b"))[-1] == "cold:1b is not loaded any more"
        assert not worker.node.models[0].is_loaded


async def test_loads_go_one_by_one_and_who_asks_for_the_same_follows_the_same_one():
    script = script_with(cold("a:1b"), cold("b:1b"), cold("c:1b"))
    script.load_gate = asyncio.Event()
    async with working(script) as worker:
        asked = [asyncio.create_task(steps_of(worker, Action.LOAD, name)) for name in ("a:1b", "b:1b", "c:1b", "a:1b")]
        await until(lambda: script.loads == ["a:1b"])
        assert worker.node.operation == "loading a:1b"
        await until(lambda: len(worker._operations._all) == 3)
        script.load_gate.set()
        said = await asyncio.gather(*asked)
        assert (script.loads, script.most_loading) == (["a:1b", "b:1b", "c:1b"], 1)
        assert "waiting for its turn" in said[1]
        assert said[0][-1] == said[3][-1]
        await until(lambda: worker.node.operation == "")


async def test_no_more_than_so_many_operations_wait():
    script = script_with(*(cold(f"m{n}:1b") for n in range(MAX_OPERATIONS + 1)))
    script.load_gate = asyncio.Event()
    async with working(script) as worker:
        for n in range(MAX_OPERATIONS):
            worker.operate("node_a", Action.LOAD, f"m{n}:1b", is_forced=False)
        with pytest.raises(OperationRefused, match="has 16 operations to do already"):
            worker.operate("node_a", Action.LOAD, f"m{MAX_OPERATIONS}:1b", is_forced=False)
        assert worker.operate("node_a", Action.LOAD, "m0:1b", is_forced=False).model == "m0:1b"


async def test_who_leaves_does_not_stop_a_load():
    script = script_with(cold())
    script.load_gate = asyncio.Event()
    async with working(script) as worker:
        asked = asyncio.create_task(steps_of(worker, Action.LOAD, "cold:1b"))
        await until(lambda: script.loads == ["cold:1b"])
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        script.load_gate.set()
        await until(lambda: worker.node.models[0].is_loaded)


async def test_a_model_that_does_not_fit_is_refused_with_both_figures_and_loaded_when_forced():
    big = cold("big:70b", size_bytes=40 * GIB)
    async with working(script_with(big), gpus=SimulatedGpus("RTX 3060:12288:900:8.6")) as worker:
        assert worker.node.models[0].fits is False
        with pytest.raises(OperationRefused) as refused:
            await steps_of(worker, Action.LOAD, "big:70b")
        assert str(refused.value) == "big:70b needs 41.18 GiB and 9.45 GiB of the GPU's memory can be used (11.12 GiB are free)"
        assert (await steps_of(worker, Action.LOAD, "big:70b", is_forced=True))[-1].startswith("big:70b is loaded")


async def test_the_machines_memory_counts_where_the_processor_serves():
    async with working(script_with(cold(size_bytes=4 * GIB)), care=Care(free_memory=lambda: 2 * GIB)) as worker:
        with pytest.raises(OperationRefused, match=r"1\.70 GiB of this machine's memory can be used"):
            await steps_of(worker, Action.LOAD, "cold:1b")


async def test_what_is_not_there_is_not_loaded_and_a_runtime_that_cannot_load_says_why():
    script = script_with(cold())
    script.load_failure = "out of memory"
    async with working(script) as worker:
        with pytest.raises(OperationRefused, match="attic does not have other:1b"):
            await steps_of(worker, Action.LOAD, "other:1b")
        with pytest.raises(RuntimeFailed, match="out of memory"):
            await steps_of(worker, Action.LOAD, "cold:1b")
        script.load_failure = None
        assert (await steps_of(worker, Action.LOAD, "cold:1b"))[-1].startswith("cold:1b is loaded")


async def test_a_model_that_only_embeds_is_loaded_by_embedding_nothing():
    only = cold("embed:1b")
    only.capabilities = ("embedding",)
    script = script_with(only)
    async with working(script) as worker:
        await steps_of(worker, Action.LOAD, "embed:1b")
        assert script.requests[-1]["input"] == ""
        assert worker.node.models[0].is_loaded
        await steps_of(worker, Action.UNLOAD, "embed:1b")
        assert not worker.node.models[0].is_loaded


# --- pull -------------------------------------------------------------------------------------------------------------------------------


async def test_a_node_fetches_nothing_unless_its_operator_allows_it():
    async with working(script_with()) as worker:
        with pytest.raises(OperationRefused, match="attic does not fetch models") as refused:
            await steps_of(worker, Action.PULL, "smollm2:135m")
        assert "GFE_NODE_PULL" in refused.value.hint


async def test_a_pull_tells_how_far_it_is_and_the_model_is_offered_after_it():
    async with working(script_with(), care=Care(may_pull=True)) as worker:
        assert (worker.node.is_healthy, worker.node.reason) == (
            False,
            "the runtime has no model yet: pull one, e.g. `ollama pull llama3.2:3b`",
        )
        operation = worker.operate("node_a", Action.PULL, "smollm2:135m", is_forced=False)
        steps = [step async for step in operation.follow(1)]
        assert steps[-1].status == "smollm2:135m is there"
        assert [model.name for model in worker.node.models] == ["smollm2:135m"]
        assert worker.node.is_healthy


async def test_a_pull_is_done_only_if_the_last_line_says_so():
    script = script_with()
    script.pull_ends_early = True
    async with working(script, care=Care(may_pull=True)) as worker:
        with pytest.raises(RuntimeFailed, match="ended without success"):
            await steps_of(worker, Action.PULL, "smollm2:135m")
        with pytest.raises(RuntimeFailed, match="file does not exist"):
            await steps_of(worker, Action.PULL, "nobody:1b")
        for name in ("gpt:cloud", "gpt:120b-cloud", "a b", "http://x/y"):
            with pytest.raises(OperationRefused, match="is not the name of a model that a node can fetch"):
                await steps_of(worker, Action.PULL, name)


# --- warm-up ----------------------------------------------------------------------------------------------------------------------------


async def test_jobs_for_two_cold_models_load_them_one_after_the_other_and_both_are_answered():
    script = script_with(cold("a:1b"), cold("b:1b"))
    script.load_gate = asyncio.Event()
    async with working(script, slots=4) as worker:
        jobs = [worker.admit(attempt(model, job=f"job_{n}")) for n, model in enumerate(("a:1b", "b:1b", "a:1b", "b:1b"))]
        await until(lambda: script.loads == ["a:1b"])
        script.load_gate.set()
        assert [(await end_of(job))["event"] for job in jobs] == ["end"] * 4
        assert (script.loads, script.most_loading) == (["a:1b", "b:1b"], 1)


async def test_the_deadline_of_the_first_token_covers_the_load_and_the_load_goes_on():
    script = script_with(cold())
    script.load_gate = asyncio.Event()
    async with working(script) as worker:
        end = await end_of(worker.admit(attempt("cold:1b", first_token_s=0.5)))
        assert (end["event"], end["detail"]) == ("fail", "no first token within 0.5 s")
        assert worker.node.operation == "loading cold:1b"
        script.load_gate.set()
        await until(lambda: worker.node.models[0].is_loaded)


async def test_a_job_whose_model_cannot_be_loaded_fails_so_that_another_node_may_try():
    script = script_with(cold())
    script.load_failure = "out of memory"
    async with working(script) as worker:
        end = await end_of(worker.admit(attempt("cold:1b")))
        assert (end["event"], "out of memory" in end["detail"], end.get("is_request_fault", False)) == ("fail", True, False)


# --- inventory --------------------------------------------------------------------------------------------------------------------------


async def test_a_model_that_is_partly_on_the_gpu_gets_no_jobs_unless_the_operator_allows_it():
    half = cold()
    half.vram_share = 0.5
    half.touch()
    for allows, is_used in ((False, False), (True, True)):
        async with working(script_with(half), gpus=SimulatedGpus("RTX:12288:0:8.6"), care=Care(allows_partial=allows)) as worker:
            (model,) = worker.node.models
            assert model.fits is is_used
            assert "it is slow" in model.trouble
            assert worker._refusal(attempt("cold:1b")) == (None if is_used else "no_room cold:1b")


async def test_a_context_below_what_was_set_is_told_and_used():
    shrunk = cold(context_tokens=1024)
    shrunk.parameters = 'num_ctx                        4096\nstop                           "x"'
    async with working(script_with(shrunk)) as worker:
        assert worker.node.models[0].context_tokens == 4096
        shrunk.touch()
        await worker.refresh()
        (model,) = worker.node.models
        assert (model.context_tokens, model.trouble) == (1024, "the runtime gives it 1024 tokens of context instead of 4096")
        shrunk.unload_at = None
        await worker.refresh()
        assert worker.node.models[0].context_tokens == 1024  # what a load gave once it gives again


async def test_a_gpu_that_only_ollama_knows_is_listed():
    there = cold()
    there.vram_share = 1.0
    there.touch()
    async with working(script_with(there)) as worker:
        (gpu,) = worker.node.gpus
        assert (gpu.is_measured, gpu.total_bytes) == (False, there.memory_bytes)


async def test_a_vanished_gpu_is_told_as_the_nodes_reason_and_the_node_goes_on():
    class Vanishing(NoGpus):
        problem = "the GPU RTX (GPU-1) does not answer any more"

    async with working(Script(), gpus=Vanishing()) as worker:
        assert (worker.node.is_healthy, worker.node.reason) == (True, Vanishing.problem)


async def test_a_driver_that_hangs_does_not_stop_the_looks(monkeypatch):
    import threading

    monkeypatch.setattr("cluster.worker.GPU_LIMIT_S", 0.05)
    hang = threading.Event()

    class Hanging(NoGpus):
        def read(self):
            assert hang.wait(30)
            return ()

    try:
        async with working(Script(), gpus=Hanging()) as worker:
            assert worker.node.is_healthy
            assert worker.node.reason == "the GPU's driver has not answered for 0.05 s"
            hang.set()
            await until(lambda: worker.node.reason == "")
    finally:
        hang.set()


# --- the node protocol ------------------------------------------------------------------------------------------------------------------


async def test_the_steps_of_a_load_come_over_the_wire_with_beats(node, monkeypatch):
    monkeypatch.setattr("cluster.node_api.BEAT_S", 0.05)
    node.script.models = {"cold:1b": cold()}
    node.script.load_gate = asyncio.Event()
    steps = []
    async for step in node.client.operate(node.url, "node_a", {"action": "load", "model": "cold:1b"}):
        steps.append(step)
        if len(steps) == 5:
            node.script.load_gate.set()
    assert steps[-1] == {"status": "success"}
    assert steps[-2]["status"].startswith("cold:1b is loaded, took")
    assert {step["status"] for step in steps[1:4]} == {"loading cold:1b"}
    assert steps[3]["elapsed_s"] >= steps[1]["elapsed_s"]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"action": "explode", "model": "m"}, "`action` is one of load, unload, pull"),
        ({"action": "load"}, "`model` is a name"),
        ({"action": "load", "model": "m" * 301}, "`model` is a name"),
        ({"action": "load", "model": "m", "force": "yes"}, "`force` is true or false"),
        ([], "`action` is one of"),
        ({"action": "load", "model": "other:1b"}, "node_a does not have other:1b"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(node, asked, what):
    with pytest.raises(OperationRefused, match=what):
        async for _ in node.client.operate(node.url, "node_a", asked):
            pass


async def test_another_node_and_a_dead_one_are_told_apart(node):
    asked = {"action": "load", "model": "fake:words=3"}
    with pytest.raises(OperationRefused, match="unknown node"):
        async for _ in node.client.operate(node.url, "node_b", asked):
            pass
    with pytest.raises(NodeLost):
        async for _ in node.client.operate("http://127.0.0.1:9", "node_a", asked):
            pass


async def test_nobody_loads_models_without_a_service_token(node):
    async with (
        aiohttp.ClientSession() as session,
        session.post(node.url + "/v1/nodes/node_a/models", json={"action": "load", "model": "fake:words=3"}) as answer,
    ):
        assert answer.status == 401


@pytest.mark.parametrize(
    ("model", "status"), [("fake:404", 404), ("fake:503", 503), ("fake:line=100", 502), ("fake:utf8", 502), ("fake:exit@2", 0)]
)
async def test_whatever_the_runtime_does_ends_the_attempt_with_a_failure(node, model, status):
    events = [event async for event in node.client.run(node.url, attempt(model))]
    assert isinstance(events[0], Admitted)
    assert isinstance(events[-1], Fail)
    assert (events[-1].status, events[-1].is_request_fault) == (status, False)
    assert node.worker.node.running == 0


async def test_a_long_answer_comes_word_by_word(node):
    events = [event async for event in node.client.run(node.url, attempt("fake:long=200@0.01", max_tokens=5))]
    assert isinstance(events[-1], End)
    assert events[-1].reason is EndReason.LENGTH
    assert "".join(event.content for event in events if isinstance(event, Text)) == "".join(words_of("hi", 5))


# --- a real model -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.slow
async def test_a_real_model_is_pulled_loaded_used_and_unloaded_and_the_formula_is_near(tmp_path):
    command = [sys.executable, "-m", "cluster.runtime.front", "--store", str(tmp_path), "--no-fetch", "--slots", "2", "--context", "2048"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        port = json.loads(await process.stdout.readline())["port"]
        runtime = OllamaRuntime(f"http://127.0.0.1:{port}")
        worker = Worker("node_a", "attic", runtime, NoGpus(), limits=Limits(inventory_s=0.1), care=Care(may_pull=True))
        await worker.start()
        try:
            assert worker.node.models == ()
            assert (await steps_of(worker, Action.PULL, "smollm2:135m"))[-1] == "smollm2:135m is there"
            (model,) = worker.node.models
            assert (model.is_loaded, model.context_tokens) == (False, 2048)
            end = await end_of(worker.admit(attempt("smollm2:135m")))  # a job warms it up
            assert end["event"] == "end"
            (model,) = worker.node.models
            assert model.is_loaded
            assert 0.4 * model.needed_bytes < model.took_bytes < 2.5 * model.needed_bytes
            assert (await steps_of(worker, Action.UNLOAD, "smollm2:135m"))[-1] == "smollm2:135m is not loaded any more"
            assert (await steps_of(worker, Action.LOAD, "smollm2:135m"))[-1].startswith("smollm2:135m is loaded, took 0.")
        finally:
            await worker.aclose()
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)
