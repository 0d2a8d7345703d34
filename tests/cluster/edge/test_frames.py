"""Every frame round-trips; every frame malformed in turn gets its error, and others stay served."""

import json

import pytest

from cluster.edge import protocol
from cluster.edge.protocol import BadFrame
from tests.edge_agents import words_of
from tests.waiting import until

JOB = {"job": "job_1", "lease": 1}
FROM_AGENT = [
    {"type": "hello", "versions": [1], "agent_version": "0.1.0", "boot_id": "b", "resume": [JOB | {"first_seq": 0, "next_seq": 3, "ended": True}]},
    {"type": "inventory", "runtime": "ollama", "slots": 2, "models": [{"name": "m", "digest": "d", "ctx": 10}], "gpus": [{"uuid": "u", "name": "g", "vram_bytes": 1}]},
    {"type": "heartbeat", "n": 1, "slots_free": 1, "jobs": [JOB], "gpu": [{"uuid": "u", "temp_c": 60, "util_percent": 5}]},
    JOB | {"type": "accept"},
    JOB | {"type": "reject", "reason": "busy", "retry_after_s": 1.5},
    JOB | {"type": "chunk", "seq": 0, "delta": {"content": "x"}, "tokens": 1},
    JOB | {"type": "end", "total": 1, "usage": {"prompt_eval_count": 1, "eval_count": 1}, "reason": "stop"},
    JOB | {"type": "fail", "seq": 0, "code": "internal", "detail": "d"},
    JOB | {"type": "canceled", "seq": 0},
    {"type": "drain", "reason": "r", "deadline_s": 1},
    {"type": "bye", "reason": "r"},
    {"type": "auth", "token": "t"},
    {"type": "error", "code": "not_ready", "detail": "d"},
]  # fmt: skip
FROM_PLATFORM = [
    {"type": "welcome", "version": 1, "node": "node_1", "epoch": 3, "resume": [JOB | {"next_seq": 1}], "drop": [JOB | {"reason": "gap"}]},
    {"type": "heartbeat", "n": 1},
    JOB | {"type": "offer", "kind": "chat", "model": "m", "model_digest": "d", "request": {"messages": []}, "max_tokens": 5, "deadline": {"first_token": 1, "idle": 1, "total": 1}},
    JOB | {"type": "ack", "seq": 1, "end": True},
    JOB | {"type": "cancel", "why": "consumer"},
    {"type": "drain", "reason": "deploy"},
    {"type": "bye"},
    {"type": "auth_ok", "expires_in_s": 600},
    {"type": "error", "code": "seq_gap"},
]  # fmt: skip


def error_of(frame):
    """What a frame is answered with; None: it can be read."""
    try:
        protocol.from_agent(json.dumps(frame))
    except BadFrame as wrong:
        return wrong.error
    return None


def damaged(frame):
    """Each of a frame's fields left out, of another type, and too big, one at a time."""
    for name in frame:
        if name != "type":
            yield {key: value for key, value in frame.items() if key != name}
            yield frame | {name: {"an": "object"}}
            yield frame | {name: -1}
            yield frame | {name: "x" * 10_000}
            yield frame | {name: None}


@pytest.mark.parametrize("frame", FROM_AGENT, ids=lambda frame: frame["type"])
def test_every_frame_of_an_agent_round_trips(frame):
    read = protocol.from_agent(json.dumps(frame))
    assert protocol.from_agent(read.text()) == read
    assert read.type == frame["type"]
    assert protocol.from_agent(json.dumps(frame | {"of_a_later_release": 1})) == read


@pytest.mark.parametrize("frame", FROM_PLATFORM, ids=lambda frame: frame["type"])
def test_every_frame_of_the_platform_round_trips(frame):
    read = protocol.from_platform(json.dumps(frame))
    assert protocol.from_platform(read.text()) == read
    assert read.type == frame["type"]


@pytest.mark.parametrize("frame", FROM_AGENT, ids=lambda frame: frame["type"])
def test_a_damaged_frame_is_read_or_refused_and_nothing_else(frame):
    errors = [error for bad in damaged(frame) if (error := error_of(bad)) is not None]
    assert errors
    assert {error.code for error in errors} == {"bad_message"}
    assert max(len(error.text()) for error in errors) < 2000


CHUNK = JOB | {"type": "chunk", "seq": 0}
NONSENSE = [
    "", "null", "[]", "1", '"hello"', "{", '{"type": "hello"', '{"type": 5}', "{}", '{"type": "hello", "type": "end"}', "\x00", "{" * 2000, "[" * 100_000,
    '{"type": "heartbeat", "n": 1e400}', '{"type": "heartbeat", "n": NaN}', '{"type": "heartbeat", "n": ' + "9" * 5000 + "}",
]  # fmt: skip
POISON = [
    CHUNK | {"delta": {"content": "x"}, "logprobs": [{"token": "x", "logprob": float("nan")}]},
    CHUNK | {"delta": {"content": "x"}, "logprobs": [{"token": "x", "logprob": float("-inf")}]},
    CHUNK | {"delta": {"content": "x"}, "logprobs": [{"nothing": "of use"}]},
    CHUNK | {"delta": {"content": "x"}, "logprobs": [{"token": "x", "logprob": -1, "top_logprobs": [{"token": 5}]}]},
    CHUNK | {"delta": {"tool_calls": [{"function": {"name": "f", "arguments": {"x": float("inf")}}}]}},
    CHUNK | {"delta": {"tool_calls": [{"function": "f"}]}},
    CHUNK | {"delta": {"tool_calls": [{"function": {"name": 5, "arguments": {}}}]}},
    CHUNK | {"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "text"}}]}},
    CHUNK | {"delta": {"embeddings": [[1.0, float("nan")]]}},
]
SURROGATES = json.dumps(CHUNK | {"delta": {"content": "\ud800"}})


BAD = [*NONSENSE, *map(json.dumps, POISON), SURROGATES]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_nonsense_and_poison_are_no_frames(text):
    with pytest.raises(BadFrame):
        protocol.from_agent(text)


async def test_whatever_one_agent_says_others_stay_served(edge):
    good = await edge.honest(edge.enroll("node_good"), words=3)
    for n, text in enumerate(BAD):
        bad = await edge.ready(edge.enroll(f"node_{n}"))
        await bad.ws.send_str(text)
        assert (await bad.until("error"))["code"] in {"bad_message", "unknown_type"}, text[:60]
        if n % 6 == 0:
            attempt = edge.attempt("node_good")
            assert "".join(event.content for event in (await edge.run(attempt))[1:-1]) == "".join(words_of(attempt.job, 3))
        await bad.aclose()
    assert good.connects == 1


@pytest.mark.parametrize("frame", FROM_AGENT, ids=lambda frame: frame["type"])
async def test_each_frame_damaged_is_answered_with_an_error_and_a_close(edge, frame):
    for n, bad in enumerate(list(damaged(frame))[:6]):
        if error_of(bad):
            socket = await edge.ready(edge.enroll(f"node_{n}"))
            await socket.send(bad)
            assert (await socket.until("error"))["code"] == "bad_message"
            assert await socket.closed() == 1008
            await socket.aclose()
    assert all(node.id.startswith("node_") for node in edge.gateway.nodes())


async def test_binary_frames_and_frames_that_are_too_big_close_the_connection(edge):
    socket = await edge.ready(edge.enroll())
    await socket.ws.send_bytes(b"{}")
    assert await socket.closed() == 1003
    socket = await edge.ready(edge.enroll())
    await socket.ws.send_str('{"type": "of_a_later_release"}'.ljust(protocol.MAX_FRAME_BYTES))
    assert (await socket.until("error"))["code"] == "unknown_type"
    await socket.ws.send_str("x" * (protocol.MAX_FRAME_BYTES + 1))
    assert await socket.closed() == 1009


async def test_half_a_frame_hurts_nobody(edge):
    good = await edge.honest(edge.enroll("node_good"), words=3)
    socket = await edge.ready(edge.enroll())
    transport = socket.ws._response.connection.transport
    transport.write(b"\x81\xfe\x10\x00\x01\x02\x03\x04half of a frame")
    await edge.run(edge.attempt("node_good"))
    transport.abort()
    await until(lambda: not edge.node().is_healthy)
    assert good.connects == 1


async def test_strange_types_are_answered_until_they_are_too_many(edge):
    socket = await edge.ready(edge.enroll())
    for _ in range(10):
        await socket.send(type="of_a_later_release")
        error = await socket.until("error")
        assert (error["code"], error["ref_type"]) == ("unknown_type", "of_a_later_release")
    await socket.send(type="of_a_later_release")
    assert await socket.closed() == 1008


async def test_more_frames_than_allowed_close_the_connection(edge):
    socket = await edge.ready(edge.enroll())
    for n in range(120):
        await socket.send(type="heartbeat", n=n)
    assert (await socket.until("error"))["code"] == "too_many_frames"
    assert await socket.closed() == 1008


async def test_names_that_could_hurt_those_who_read_them_are_left_out_or_cleaned(edge):
    socket = await edge.ready(edge.enroll())
    await socket.send(
        type="inventory", runtime="ollama\n\x1b[31m", slots=1, paused="x\ny",
        models=[{"name": "../../etc\n", "digest": "d", "ctx": 1}, {"name": "m:1b", "digest": "d", "ctx": 1, "capabilities": ["completion", "root"]}],
        gpus=[{"uuid": "u", "name": "G\u202e", "vram_bytes": 1}],
    )  # fmt: skip
    node = await until(lambda: edge.node() if edge.node().gpus else None)
    assert [model.name for model in node.models] == ["m:1b"]
    assert node.models[0].capabilities == ("completion",)
    assert (node.gpus[0].name, node.reason) == ("G?", "x?y")
    assert node.runtime.isprintable()
