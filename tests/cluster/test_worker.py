"""The worker over a runtime of Python objects: slots, fences, limits, whatever the runtime does."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cluster import worker as worker_module
from cluster.attempt_log import MAX_LINE_BYTES, MAX_TEXT_BYTES, decode
from cluster.edge.protocol import MAX_FRAME_BYTES, chunk_of, event_of, from_agent
from cluster.errors import AttemptSuperseded, NodeBusy, RuntimeFailed, RuntimeRefused
from cluster.gpus import NoGpus, SimulatedGpus
from cluster.jobs import Admitted, Attempt, Beat, Deadlines, End, EndReason, Fail, JobKind, Text
from cluster.limits import Limits
from cluster.nodes import OfferedModel
from cluster.running import Running
from cluster.runtime.ollama import Inventory, RuntimeEnd, RuntimeText
from cluster.worker import Worker
from tests.waiting import until

DONE = RuntimeEnd(reason="stop", prompt_tokens=7, completion_tokens=2)


class PieceRuntime:
    """Says the pieces that it was given; an exception among them is raised, an event is awaited."""

    def __init__(self, *pieces, has_tokenizer=False):
        self.pieces = pieces
        self.models = (
            OfferedModel(name="m", digest="sha", size_bytes=1, context_tokens=2**21, is_loaded=True, has_tokenizer=has_tokenizer),
        )
        self.failure = None
        self.count_failure = None
        self.looks = 0
        self.streams = 0

    async def start(self):
        pass

    async def aclose(self):
        pass

    async def render(self, model, request):
        return "<prompt>"

    async def inventory(self):
        self.looks += 1
        if self.failure:
            raise self.failure
        return Inventory(name="pieces", version="1", slots=None, models=self.models)

    async def count_tokens(self, model, *, text=None, messages=None):
        if self.count_failure:
            raise self.count_failure
        return len((text or "").split()) if messages is None else len(messages)

    async def stream(self, kind, model, request, max_tokens):
        self.streams += 1
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece


def attempt(job="job_1", number=1, **more):
    values = {
        "kind": JobKind.CHAT, "model": "m", "model_digest": "", "request": {"messages": [{"content": "hello"}]}, "max_tokens": 2**20, "node": "node_a",
    }  # fmt: skip
    return Attempt(job=job, number=number, **(values | more))


@asynccontextmanager
async def started(*pieces, slots=1, gpus=None, has_tokenizer=False, **limits):
    runtime = PieceRuntime(*pieces, has_tokenizer=has_tokenizer)
    worker = Worker("node_a", "node_a", runtime, gpus or NoGpus(), slots=slots, limits=Limits(**limits))
    await worker.start()
    try:
        yield worker, runtime
    finally:
        await worker.aclose()


async def events_of(running):
    seq, events, is_last = 0, [], False
    with running.reader():
        while not is_last:
            lines, seq, is_last = await running.lines_from(seq)
            events += [decode(line) for line in lines.splitlines()]
    return events


def text_of(events):
    return "".join(event.thinking + event.content for event in events if isinstance(event, Text))


async def test_an_attempt_that_is_canceled_before_its_first_step_frees_its_slot_and_ends():
    async with started(DONE) as (worker, runtime):
        running = worker.admit(attempt())
        worker.cancel("job_1", 1)
        events = await events_of(running)
        assert [type(event) for event in events] == [Admitted, End]
        assert events[-1].reason is EndReason.CANCELED
        assert (worker.node.running, runtime.streams) == (0, 0)


async def test_a_newer_attempt_gets_the_slot_of_the_one_that_it_supersedes():
    async with started(RuntimeText(content="a"), asyncio.Event()) as (worker, _):
        older = worker.admit(attempt())
        await until(lambda: older.log.next_seq == 2)
        newer = worker.admit(attempt(number=2))
        assert worker.node.running == 1
        assert (await events_of(older))[-1] == Fail(seq=2, status=504, detail="superseded")
        await until(lambda: newer.log.next_seq == 2)
        assert worker.node.running == 1
        with pytest.raises(AttemptSuperseded):
            worker.admit(attempt())


async def test_an_attempt_runs_once_even_when_its_log_is_long_gone(monkeypatch):
    monkeypatch.setattr("cluster.attempt_log.KEPT_AFTER_END_S", 0.0)
    async with started(DONE) as (worker, runtime):
        await events_of(worker.admit(attempt()))
        await until(lambda: worker.find("job_1", 1) is None)
        with pytest.raises(AttemptSuperseded):
            worker.admit(attempt())
        assert runtime.streams == 1


async def test_ended_attempts_are_kept_in_bounds(monkeypatch):
    monkeypatch.setattr(worker_module, "KEPT_ATTEMPTS", 3)
    monkeypatch.setattr(worker_module, "TICK_S", 0.01)
    async with started(DONE) as (worker, _):
        for number in range(6):
            await events_of(worker.admit(attempt(f"job_{number}")))
        await until(lambda: worker.find("job_2", 1) is None)
        assert worker.find("job_5", 1) is not None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (attempt(node="node_b"), "this is node_a"),
        (attempt(model="absent"), "no_model absent"),
        (attempt(model_digest="other"), "another m"),
    ],
)
async def test_an_attempt_that_is_meant_for_something_else_is_refused_unstarted(asked, reason):
    async with started(DONE) as (worker, runtime):
        with pytest.raises(NodeBusy) as refused:
            worker.admit(asked)
        assert refused.value.reason == reason
        assert runtime.streams == 0
        worker.admit(attempt(model_digest="sha"))


async def test_the_answer_is_cut_at_a_mebibyte_and_ends_with_length():
    piece = RuntimeText(content="ä" * 300_000)
    async with started(piece, piece, piece, DONE) as (worker, _):
        events = await events_of(worker.admit(attempt()))
        assert events[-1].reason is EndReason.LENGTH
        assert len(text_of(events).encode()) == MAX_TEXT_BYTES
        assert all(len(line) <= MAX_LINE_BYTES for line in worker.find("job_1", 1).log.lines)


def logprob(letter, times):
    return {"token": letter * times, "logprob": -0.5, "bytes": [255] * times, "top_logprobs": []}


@pytest.mark.parametrize(
    "piece",
    [
        RuntimeText(content="\x00" * 200_000), RuntimeText(content="\U0001f600" * 100_000, thinking="\x01" * 100_000),
        RuntimeText(content="a" * 20_000, logprobs=(logprob("\x02", 3000),) * 20), RuntimeText(content="a", logprobs=(logprob("a", 9000),) * 9),
        RuntimeText(tool_calls=({"function": {"name": "f", "arguments": {"text": "\x03" * 37_000}}},)),
        RuntimeText(embeddings=((0.12345678901234567,) * 9000,) * 12),
    ],
    ids=["control signs", "smileys", "long text with logprobs", "logprobs", "a tool call", "vectors"],
)  # fmt: skip
async def test_whatever_a_runtime_says_every_event_fits_into_an_agents_frame(piece):
    async with started(piece, piece, DONE) as (worker, _):
        running = worker.admit(attempt())
        events = await events_of(running)
        assert isinstance(events[-1], End)
        chunks = [chunk_of("job_1", 1, event, 0) for event in events if isinstance(event, Text | Beat)]
        assert chunks
        assert all(len(chunk.text().encode()) <= MAX_FRAME_BYTES for chunk in chunks)
        assert all(event_of(from_agent(chunk.text()), 0).content is not None for chunk in chunks if chunk.delta.content)


async def test_a_tool_call_that_no_frame_holds_ends_the_answer_at_its_limit():
    huge = RuntimeText(tool_calls=({"function": {"name": "f", "arguments": {"text": "x" * 300_000}}},))
    async with started(RuntimeText(content="so"), huge, DONE) as (worker, _):
        events = await events_of(worker.admit(attempt()))
        assert events[-1].reason is EndReason.LENGTH
        assert text_of(events) == "so"


async def test_an_attempt_that_is_held_back_reads_nothing_more_and_keeps_its_time():
    async with started(RuntimeText(content="a"), gate := asyncio.Event(), RuntimeText(content="b"), RuntimeText(content="c"), DONE) as (
        worker,
        _,
    ):
        running = worker.admit(attempt(deadlines=Deadlines(idle_s=0.3)))
        await until(lambda: running.pieces == 1)
        running.hold_back(holds=True)
        gate.set()
        await asyncio.sleep(1.2)  # two looks, and far beyond the idle limit
        assert (running.pieces, running.log.has_ended) == (1, False)
        running.hold_back(holds=False)
        events = await events_of(running)
        assert text_of(events) == "abc"
        assert isinstance(events[-1], End)


async def test_text_that_was_delivered_by_earlier_attempts_counts_toward_the_limit():
    delivered = (Admitted(seq=0, node="node_b"), Text(seq=1, content="x" * (MAX_TEXT_BYTES - 3)))
    async with started(RuntimeText(content="12345"), DONE) as (worker, _):
        events = await events_of(worker.admit(attempt(number=2, delivered=delivered)))
        assert [event.seq for event in events] == list(range(len(events)))
        assert text_of(events[2:]) == "123"
        assert events[-1].reason is EndReason.LENGTH


async def test_tool_calls_are_events_and_are_counted():
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    async with started(RuntimeText(content="let me see"), RuntimeText(tool_calls=(call,)), DONE, has_tokenizer=True) as (worker, _):
        events = await events_of(worker.admit(attempt()))
        assert [event.tool_calls for event in events if isinstance(event, Text) and event.tool_calls] == [(call,)]
        assert events[-1].usage.completion_tokens > 3


async def test_embeddings_arrive_whole():
    vectors = tuple((float(n), 0.5) for n in range(5))
    asked = attempt(kind=JobKind.EMBED, request={"input": ["a", "b"]}, max_tokens=0)
    async with started(RuntimeText(embeddings=vectors), DONE) as (worker, _):
        events = await events_of(worker.admit(asked))
        assert sum((event.embeddings for event in events if isinstance(event, Text)), ()) == vectors
        assert events[-1].usage.completion_tokens == 0


async def test_half_a_surrogate_pair_does_no_harm():
    async with started(RuntimeText(content="\ud83d"), RuntimeText(content="!"), DONE) as (worker, _):
        events = await events_of(worker.admit(attempt()))
        assert isinstance(events[-1], End)
        assert text_of(events) == "\ud83d!"


@pytest.mark.parametrize(
    ("error", "status", "is_fault"),
    [
        (RuntimeFailed(500, "no"), 500, False), (RuntimeRefused(400, "bad"), 400, True), (ZeroDivisionError("oops"), 500, False),
        (RuntimeFailed(0, "the answer broke off"), 0, False),
    ],
)  # fmt: skip
async def test_however_the_runtime_fails_the_attempt_ends_once_and_the_slot_is_free(error, status, is_fault):
    async with started(RuntimeText(content="so far"), error) as (worker, _):
        events = await events_of(worker.admit(attempt()))
        assert text_of(events) == "so far"
        assert (events[-1].status, events[-1].is_request_fault) == (status, is_fault)
        assert worker.node.running == 0
        assert worker.node.admitted == 1


async def test_without_its_tokenizers_answer_the_claim_counts_bounded_by_what_was_delivered():
    liar = replace(DONE, prompt_tokens=10**9, completion_tokens=10**9)
    async with started(RuntimeText(content="four"), liar, has_tokenizer=True) as (worker, runtime):
        runtime.count_failure = RuntimeFailed(0, "no")
        usage = (await events_of(worker.admit(attempt())))[-1].usage
        assert usage.counted_by == "provider"
        assert usage.completion_tokens == 5  # one per byte, and the stop token
        assert usage.prompt_tokens < 200


async def test_a_silent_attempt_beats(monkeypatch):
    monkeypatch.setattr(worker_module, "TICK_S", 0.02)
    go_on = asyncio.Event()
    async with started(go_on, DONE, beat_s=0.1) as (worker, _):
        running = worker.admit(attempt())
        await until(lambda: running.log.next_seq >= 3)
        go_on.set()
        events = await events_of(running)
        assert {type(event) for event in events[1:-1]} == {Beat}


@pytest.mark.parametrize(
    ("deadlines", "pieces", "reason"),
    [
        ({"first_token_s": 0.05}, (), "no first token within 0.05 s"),
        ({"idle_s": 0.05}, (RuntimeText(content="a"),), "no token for 0.05 s"),
        ({"total_s": 0.05}, (RuntimeText(content="a"),), "the job took longer than 0.05 s"),
    ],
)
async def test_every_deadline_ends_the_attempt_with_its_own_sentence(monkeypatch, deadlines, pieces, reason):
    monkeypatch.setattr(worker_module, "TICK_S", 0.02)
    async with started(*pieces, asyncio.Event()) as (worker, _):
        events = await events_of(worker.admit(attempt(deadlines=Deadlines(**deadlines))))
        assert (events[-1].status, events[-1].detail) == (504, reason)


async def test_nobody_reads_for_15_seconds_by_the_clock_and_the_attempt_is_canceled():
    async with started(asyncio.Event()) as (worker, _):
        running = worker.admit(attempt())
        begun = running.log.unread_since
        running.look(begun + 15, Limits(beat_s=1e9))
        assert running.cancel_reason is None
        running.look(begun + 15.1, Limits(beat_s=1e9))
        assert (await events_of(running))[-1].reason is EndReason.CANCELED


async def test_a_runtime_that_is_gone_makes_the_node_unhealthy_and_its_return_healthy():
    async with started(DONE, inventory_s=0.02) as (worker, runtime):
        runtime.failure = RuntimeFailed(0, "the runtime does not answer")
        await until(lambda: not worker.node.is_healthy)
        with pytest.raises(NodeBusy, match="does not answer"):
            worker.admit(attempt())
        runtime.failure = None
        await until(lambda: worker.node.is_healthy)
        worker.admit(attempt())


async def test_one_slow_answer_of_the_runtime_is_not_its_death():
    async with started(DONE) as (worker, runtime):
        runtime.failure = RuntimeFailed(0, "slow")
        runtime.failure.__cause__ = TimeoutError()
        await worker.refresh()
        assert worker.node.is_healthy
        await worker.refresh()
        assert not worker.node.is_healthy


async def test_a_failed_attempt_makes_the_worker_look_at_its_runtime_at_once():
    async with started(RuntimeFailed(0, "gone"), inventory_s=1000) as (worker, runtime):
        before = runtime.looks
        await events_of(worker.admit(attempt()))
        await until(lambda: runtime.looks > before)


async def test_a_draining_node_finishes_and_says_so():
    go_on = asyncio.Event()
    async with started(go_on, DONE) as (worker, _):
        running = worker.admit(attempt())
        assert worker.drain("node_a")
        assert not worker.drain("node_b")
        await worker.refresh()
        assert (worker.node.is_draining, worker.node.reason) == (True, "draining")
        go_on.set()
        assert isinstance((await events_of(running))[-1], End)


async def test_gpus_are_part_of_the_node():
    async with started(DONE, gpus=SimulatedGpus("RTX 3060:12288:900:8.6")) as (worker, _):
        assert [gpu.name for gpu in worker.node.gpus] == ["RTX 3060"]


async def test_stopping_the_worker_ends_what_runs():
    async with started(RuntimeText(content="a"), asyncio.Event()) as (worker, _):
        running = worker.admit(attempt())
        await until(lambda: running.log.next_seq == 2)
    assert (await events_of(running))[-1] == Fail(seq=2, status=504, detail="the worker stopped")


def test_a_prompt_is_not_kept_longer_than_its_attempt_runs():
    running = Running(attempt(), "node_a")
    running.end(Fail(seq=0, status=500, detail="x"))
    assert running.attempt.request == {}


async def test_what_its_jobs_showed_is_told_with_the_model_and_those_that_failed_show_nothing():
    pieces = [RuntimeText(content="word ")] * 5
    async with started(*pieces, DONE, slots=2) as (worker, runtime):
        for number in range(3):
            await events_of(worker.admit(attempt(f"job_{number}")))
        await worker.refresh()
        (offered,) = worker.node.models
        assert offered.first_token_s is not None
        assert offered.tokens_per_s > 0
        assert offered.first_token_s <= offered.first_token_p99_s
        assert offered.job_s > 0
        runtime.pieces = (RuntimeFailed(500, "broken"),)
        before = worker.node.models
        for number in range(3, 9):
            await events_of(worker.admit(attempt(f"job_{number}")))
        await worker.refresh()
        assert worker.node.models == before
