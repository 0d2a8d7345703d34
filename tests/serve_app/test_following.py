"""A job is read along from any position, by anybody who owns it, while it runs and long after."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.jobs import Admitted, Beat, Text
from serve_app.following import Place
from serve_app.store.answers import marks_of, text_of, told_of
from tests.ledger.people import bearer, somebody
from tests.scripted_runtime import words_of
from tests.serve_app.drivers import events_of
from tests.waiting import until

SIXTEEN = "".join(words_of("hello there", 16))


async def stream(platform, name, from_seq=None, headers=None):
    query = "" if from_seq is None else f"?from={from_seq}"
    return await platform.http.get(f"/api/computing/jobs/{name}/stream/{query}", headers=platform.bearer | (headers or {}))


def text_in(events):
    return "".join(event.get("content", "") for event in events)


async def test_a_job_that_has_ended_is_told_as_it_was_told_then(platform):
    name = (await platform.chat("fake:drip=0.1", max_tokens=6, stream=True)).headers["x-gfe-job"]
    node = platform.workers[0]
    live = node._attempts[name, 1].log.lines
    answer = await stream(platform, name)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["event"] for event in events][-1] == "end"
    assert len(events) == len(live)
    told = [json.loads(line) for line in live[:-1]]
    assert [event.get("content") for event in events[:-1]] == [event.get("content") for event in told]
    assert (events[-1]["status"], events[-1]["cost"], events[-1]["usage"]["completion_tokens"]) == ("COMPLETED", "1.00", 6)
    for start in (1, 3, len(events) - 1, len(events), 10_000):
        again = events_of((await stream(platform, name, start)).text)
        assert [event["seq"] for event in again[:-1]] == list(range(start, len(events) - 1))
        assert again[-1]["event"] == "end"


async def test_a_browser_that_reconnects_says_what_it_had_last(platform):
    name = (await platform.chat("fake:words=16", stream=True)).headers["x-gfe-job"]
    whole = events_of((await stream(platform, name)).text)
    rest = events_of((await stream(platform, name, headers={"Last-Event-ID": "0"})).text)
    assert rest == whole[1:]


async def test_many_read_a_running_job_from_where_they_are_and_all_hear_the_same(platform):
    asking = asyncio.create_task(platform.chat("fake:drip=0.1", max_tokens=16, stream=True))
    await until(lambda: platform.workers[0]._attempts and next(iter(platform.workers[0]._attempts.values())).log.next_seq > 3)
    name = next(iter(platform.workers[0]._attempts))[0]
    first, second = await asyncio.gather(stream(platform, name, 0), stream(platform, name, 2))
    assert text_in(events_of(first.text)) == SIXTEEN
    assert events_of(second.text) == events_of(first.text)[2:]
    assert (await asking).text.endswith("data: [DONE]\n\n")


async def test_a_client_that_named_its_request_may_break_off_and_come_back(platform):
    """Without an Idempotency-Key a disconnect is a cancellation; with one the job waits for its client."""
    headers = platform.bearer | {"Idempotency-Key": "come-back"}
    body = platform.body("fake:drip=0.1", max_tokens=16, stream=True)
    async with platform.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        name = answer.headers["x-gfe-job"]
        async for _ in answer.aiter_bytes():
            break
    await until(lambda: platform.workers[0]._attempts[name, 1].log.next_seq > 4)
    events = events_of((await stream(platform, name)).text)
    assert text_in(events) == SIXTEEN
    assert (events[-1]["status"], events[-1]["cost"]) == ("COMPLETED", "1.00")
    again = await platform.http.post("/v1/chat/completions", json=body, headers=headers)
    chunks = [json.loads(line[6:]) for line in again.text.splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == SIXTEEN
    assert again.headers["idempotent-replayed"] == "true"
    assert await platform.settled() == "9.00"


async def test_a_client_that_named_its_request_and_does_not_come_back_is_not_waited_for_long(platform, monkeypatch):
    from serve_app import adoption
    from serve_app.store import jobs

    monkeypatch.setattr(adoption, "SEEN_LOOK_S", 0.2)
    monkeypatch.setattr(jobs, "SEEN_S", 0.5)
    body = platform.body("fake:drip=0.1", max_tokens=200, stream=True)
    async with platform.http.stream(
        "POST", "/v1/chat/completions", json=body, headers=platform.bearer | {"Idempotency-Key": "gone"}
    ) as answer:
        name = answer.headers["x-gfe-job"]
        async for _ in answer.aiter_bytes():
            break
    await until(lambda: not platform.workers[0].node.running)
    assert await platform.settled() == "9.00"
    assert (await platform.job(name))["status"] == "CANCELED"


async def test_a_plain_request_with_a_name_goes_on_when_its_client_breaks_off(platform):
    headers = platform.bearer | {"Idempotency-Key": "plain"}
    asking = asyncio.create_task(
        platform.http.post("/v1/chat/completions", json=platform.body("fake:drip=0.1", max_tokens=10), headers=headers)
    )
    await until(lambda: platform.workers[0].node.running)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    name = next(iter(platform.workers[0]._attempts))[0]
    events = events_of((await stream(platform, name)).text)
    assert (text_in(events), events[-1]["status"]) == ("".join(words_of("hello there", 10)), "COMPLETED")


@pytest.mark.parametrize("is_canceled", [False, True])
async def test_whether_the_server_tells_of_a_client_that_left_or_cancels_its_request_a_named_stream_goes_on(is_canceled):
    """Uvicorn tells; Ray Serve cancels."""
    from serve_app.api.sse import EventStream

    told, gone, handed = [], asyncio.Event(), []

    async def events():
        for number in range(5):
            await asyncio.sleep(0.02)
            told.append(number)
            yield b"data: x\n\n"

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    serving = asyncio.ensure_future(EventStream(events(), {}, handed.append)({}, receive, send))
    await until(lambda: told)
    if is_canceled:
        serving.cancel()
    else:
        gone.set()
    await asyncio.gather(serving, return_exceptions=True)
    (reading,) = handed
    await reading
    assert told == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("start", "status"), [("-1", 400), ("x", 400), ("1.5", 400), ("9" * 20, 400), ("٣", 400)])
async def test_a_position_that_is_none_is_refused(platform, start, status):
    name = (await platform.chat()).headers["x-gfe-job"]
    answer = await stream(platform, name, start)
    assert (answer.status_code, "from" in answer.json()["errors"]) == (status, True)


async def test_nobody_else_reads_along(platform):
    name = (await platform.chat()).headers["x-gfe-job"]
    ada = await somebody(platform.ledger)
    answer = await platform.http.get(f"/api/computing/jobs/{name}/stream/", headers=bearer(ada.tokens["access"]))
    assert answer.status_code == 403
    assert (await platform.http.get(f"/api/computing/jobs/{name}/stream/")).status_code == 401


async def test_a_job_that_failed_says_so_at_the_end_of_its_stream(platform):
    answer = await platform.chat("fake:500")
    events = events_of((await stream(platform, answer.headers["x-gfe-job"])).text)
    assert (events[-1]["status"], events[-1]["cost"], "scripted failure" in events[-1]["result"]["error"]) == ("FAILED", "0.00", True)


# --- the parts, alone -------------------------------------------------------------------------------------------------------------------


def chopped(text, sizes, seq=0):
    """A log of a text in pieces."""
    events = []
    for size in sizes:
        events.append(Text(seq=seq + len(events), content=text[:size]) if size else Beat(seq=seq + len(events)))
        text = text[size:]
    return [*events, Text(seq=seq + len(events), content=text)]


@given(st.text("ab", max_size=30), st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8), st.integers(0, 12))
def test_a_reader_that_was_ahead_hears_all_of_it_once(text, first, second, heard):
    """It heard so much of one log; the other one, of the same answer, is chopped otherwise."""
    place = Place(0)
    told = [place.take(event) for event in chopped(text, first)[:heard]]
    assert place.again() == 0
    told += [place.take(event) for event in chopped(text, second)]
    told.append(place.rest())
    assert "".join(one.content for one in told if isinstance(one, Text)) == text
    numbers = [one.seq for one in told if one is not None]
    assert numbers == sorted(set(numbers))


def test_an_answer_that_went_another_way_is_not_passed_over_in_silence():
    place = Place(0)
    place.take(Admitted(seq=0, node="a"))
    place.take(Text(seq=1, content="Paris is"))
    place.again()
    assert place.take(Admitted(seq=0, node="a")) is None
    with pytest.raises(ValueError, match="otherwise"):
        place.take(Text(seq=1, content="Pardon"))


@given(
    st.lists(st.one_of(st.builds(lambda t, h: ("t", t, h), st.text(max_size=5), st.text(max_size=5)), st.just(("b", "", ""))), max_size=12)
)
def test_marks_tell_how_it_was_told(parts):
    events = [
        Text(seq=seq, content=said, thinking=thought) if kind == "t" else Beat(seq=seq) for seq, (kind, said, thought) in enumerate(parts)
    ]
    back = told_of(text_of(events), marks_of(events))
    assert [(one.seq, one.content, one.thinking) for one in back] == [(seq, said, thought) for seq, (_, said, thought) in enumerate(parts)]


def test_an_answer_without_marks_is_one_text():
    assert told_of("all of it", None) == [Text(seq=0, content="all of it")]
    assert told_of(None, None) == []


def test_tool_calls_and_vectors_are_kept():
    events = [Text(seq=0, tool_calls=({"function": {"name": "f"}},), tokens=1), Text(seq=1, embeddings=((1.0, 2.0),))]
    back = told_of("", marks_of(events))
    assert (back[0].tool_calls, back[1].embeddings) == (({"function": {"name": "f"}},), ((1.0, 2.0),))
