"""The node protocol end to end: client, server, worker and runtime over real sockets."""

import asyncio
import contextlib

import aiohttp
import pytest

from cluster.errors import AttemptSuperseded, NodeBusy, NodeLost
from cluster.jobs import Admitted, Attempt, Deadlines, End, EndReason, Fail, JobKind, Text
from cluster.node_api import MAX_BODY_BYTES
from tests.scripted_runtime import words_of
from tests.waiting import until


def attempt(model="fake:words=3", *, job="job_1", number=1, max_tokens=100, prompt="hello there", **deadlines):
    return Attempt(
        job=job, number=number, node="node_a", kind=JobKind.CHAT, model=model, model_digest="", request={"messages": [{"role": "user", "content": prompt}]},
        max_tokens=max_tokens, deadlines=Deadlines(**deadlines),
    )  # fmt: skip


async def run(node, *args, **kwargs):
    return [event async for event in node.client.run(node.url, attempt(*args, **kwargs))]


def text_of(events):
    return "".join(event.content for event in events if isinstance(event, Text))


async def test_a_job_is_admitted_answered_and_counted(node):
    events = await run(node, "fake:words=16")
    assert isinstance(events[0], Admitted)
    assert text_of(events) == "".join(words_of("hello there", 16))
    assert [event.seq for event in events] == list(range(len(events)))
    assert events[-1].reason is EndReason.STOP
    assert (events[-1].usage.completion_tokens, events[-1].usage.counted_by) == (16, "provider")
    assert node.worker.node.running == 0


async def test_tokens_are_counted_by_our_own_tokenizer_where_there_is_one(node_with):
    node = await node_with(has_tokenizer=True)
    usage = (await run(node, "fake:words=16", prompt="one two three"))[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.counted_by) == (3, 16, "platform")


async def test_the_limit_of_the_hold_reaches_the_runtime(node):
    events = await run(node, "fake:words=16", max_tokens=4)
    assert events[-1].reason is EndReason.LENGTH
    assert node.script.requests[-1]["options"] == {"num_predict": 4}
    assert node.script.requests[-1]["truncate"] is False


async def test_small_pieces_are_gathered(node):
    events = await run(node, "fake:words=200", max_tokens=1000)
    texts = [event for event in events if isinstance(event, Text)]
    assert len(texts) < 50
    assert sum(event.tokens for event in texts) == 200


async def test_a_node_never_takes_more_than_its_slots(node):
    held = [asyncio.create_task(run(node, "fake:hang@2", job=f"job_{n}")) for n in range(2)]
    await until(lambda: node.worker.node.running == 2)
    with pytest.raises(NodeBusy) as refused:
        await run(node, job="job_3")
    assert (refused.value.reason, refused.value.free) == ("busy", 0)
    for n in range(2):
        await node.client.cancel(node.url, f"job_{n}", 1)
    ended = [(await task)[-1] for task in held]
    assert {event.reason for event in ended} == {EndReason.CANCELED}
    assert [event.usage.completion_tokens for event in ended] == [2, 2]
    await until(lambda: node.script.running == 0)


async def test_a_model_that_is_not_there_is_refused_before_anything_starts(node):
    with pytest.raises(NodeBusy, match="no_model"):
        await run(node, "absent:1b")


async def test_the_same_attempt_again_attaches_instead_of_starting_twice(node):
    first, second = await asyncio.gather(run(node, "fake:drip=0.1", max_tokens=3), run(node, "fake:drip=0.1", max_tokens=3))
    assert text_of(first) == text_of(second)
    assert len(node.script.requests) == 1


async def test_a_reader_continues_from_any_position(node):
    whole = await run(node, "fake:drip=0.1", max_tokens=4)
    rest = [event async for event in node.client.attach(node.url, "job_1", 1, 2, node="node_a")]
    assert rest == whole[2:]
    with pytest.raises(NodeLost, match="does not know"):
        [event async for event in node.client.attach(node.url, "job_9", 1, 0, node="node_a")]


async def test_a_newer_attempt_fences_off_the_older_one(node):
    older = asyncio.create_task(run(node, "fake:hang@2"))
    await until(lambda: node.worker.node.running == 1)
    newer = await run(node, number=2)
    assert isinstance(newer[-1], End)
    fenced = (await older)[-1]
    assert isinstance(fenced, Fail)
    assert fenced.detail == "superseded"
    with pytest.raises(AttemptSuperseded):
        await run(node, number=1)


@pytest.mark.parametrize(("model", "status"), [("fake:500", 500), ("fake:cut@2", 0), ("fake:garbage", 502), ("fake:nodone", 502)])
async def test_a_runtime_that_breaks_ends_the_attempt_with_fail_and_frees_the_slot(node, model, status):
    events = await run(node, model)
    assert isinstance(events[-1], Fail)
    assert events[-1].status == status
    assert not events[-1].is_request_fault
    assert node.worker.node.running == 0


async def test_text_before_the_break_is_delivered(node):
    assert text_of(await run(node, "fake:cut@2")) == "".join(words_of("hello there", 2))


async def test_a_runtime_that_never_answers_runs_into_the_first_token_deadline(node):
    events = await run(node, "fake:hang@0", first_token_s=0.2)
    assert events[-1].detail == "no first token within 0.2 s"


async def test_a_runtime_that_falls_silent_runs_into_the_idle_deadline(node):
    events = await run(node, "fake:hang@2", idle_s=0.2)
    assert events[-1].detail == "no token for 0.2 s"


async def test_a_running_attempt_survives_its_reader_for_a_while_and_is_then_canceled(node, monkeypatch):
    monkeypatch.setattr("cluster.attempt_log.UNREAD_LIMIT_S", 0.3)
    events = node.client.run(node.url, attempt("fake:hang@2"))
    await anext(events)
    await events.aclose()
    assert node.worker.node.running == 1
    await until(lambda: node.worker.node.running == 0)
    assert node.script.running == 0


async def test_without_a_service_token_nothing_is_answered(node):
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {node.tokens.mint('ledger-internal')}"}):
            for method, path in (("POST", "/v1/attempts"), ("GET", "/v1/nodes"), ("DELETE", "/v1/attempts/job_1/1")):
                async with session.request(method, node.url + path, headers=headers) as answer:
                    assert answer.status == 401


async def test_a_prompt_that_cannot_fit_is_the_requests_fault(node_with):
    node = await node_with(has_tokenizer=True)
    events = await run(node, prompt="word " * 8190)
    assert isinstance(events[-1], Fail)
    assert events[-1].is_request_fault
    assert "exceeds the context" in events[-1].detail
    assert node.script.requests == []


async def test_watchers_hear_of_every_change(node):
    seen = []

    async def watch():
        async for changed in node.client.watch(node.url):
            seen.extend([changed] if changed else [])

    task = asyncio.create_task(watch())
    await until(lambda: seen)
    await run(node, "fake:drip=0.1", max_tokens=2)
    await until(lambda: len(seen) >= 3)
    assert [one.running for one in seen[:3]] == [0, 1, 0]
    assert seen[2].admitted == 1
    node.worker.drain("node_a")
    await until(lambda: seen[-1].is_draining)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    with pytest.raises(NodeBusy, match="draining"):
        await run(node, job="job_2")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/attempts", b"nonsense", 400),
        ("POST", "/v1/attempts", b"[]", 400),
        ("POST", "/v1/attempts", b'{"job":"job_1"}', 400),
        ("POST", "/v1/attempts", b"\xff", 400),
        ("GET", "/v1/attempts/job_9/1", None, 404),
        ("GET", "/v1/attempts/job_9/1?from=-1", None, 400),
        ("GET", "/v1/attempts/job_9/1?from=x", None, 400),
        ("GET", "/v1/attempts/job_9/one", None, 404),
        ("DELETE", "/v1/attempts/job_9/1", None, 204),
        ("POST", "/v1/nodes/node_b/drain", None, 404),
        ("PUT", "/v1/nodes", None, 405),
        ("GET", "/v2", None, 404),
    ],
)
async def test_wrong_calls_are_refused_in_json(node, method, path, body, status):
    headers = {"Authorization": f"Bearer {node.tokens.mint('node')}"}
    async with aiohttp.ClientSession() as session, session.request(method, node.url + path, data=body, headers=headers) as answer:
        assert answer.status == status
        if status != 204:
            assert (await answer.json())["error"]


async def test_a_body_that_is_too_long_is_refused(node):
    headers = {"Authorization": f"Bearer {node.tokens.mint('node')}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(node.url + "/v1/attempts", data=b"x" * (MAX_BODY_BYTES + 1), headers=headers) as answer,
    ):
        assert answer.status == 413


async def test_a_node_that_does_not_listen_is_lost_at_once(node):
    with pytest.raises(NodeLost):
        [event async for event in node.client.run("http://127.0.0.1:1", attempt())]
    await node.client.cancel("http://127.0.0.1:1", "job_1", 1)
    with pytest.raises(NodeLost):
        await node.client.drain("http://127.0.0.1:1", "node_a")


async def test_a_node_can_be_drained_by_the_protocol(node):
    await node.client.drain(node.url, "node_a")
    assert node.worker.node.is_draining


async def test_jobs_at_once_share_the_slots_and_none_is_lost(node_with):
    node = await node_with(slots=4)
    ended = await asyncio.gather(*(run(node, "fake:words=16", job=f"job_{n}") for n in range(16)), return_exceptions=True)
    busy = [one for one in ended if isinstance(one, NodeBusy)]
    served = [one for one in ended if not isinstance(one, Exception)]
    assert len(busy) + len(served) == 16
    assert len(served) >= 4
    assert all(isinstance(one[-1], End) for one in served)
    assert (node.worker.node.running, node.worker.node.admitted) == (0, len(served))


async def answering(reader, writer, answer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(answer)
    await writer.drain()
    writer.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        HEAD,
        HEAD + b'{"seq":0,"event":"admitted","node":"n"}\n',
        HEAD + b'{"seq":0,"event":"end","reason":"stop","prompt_',
        HEAD + b'{"seq":0}\n',
        HEAD + b"\xff\n",
        HEAD + b"x" * 2_000_000,
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
async def test_a_node_that_answers_nonsense_is_lost(node, answer):
    server = await asyncio.start_server(lambda reader, writer: answering(reader, writer, answer), "127.0.0.1", 0)
    async with server:
        with pytest.raises(NodeLost):
            [event async for event in node.client.run(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", attempt())]
