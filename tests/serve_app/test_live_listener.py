"""What one listener is told, alone: in order, once, bounded."""

import asyncio
import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.job import PROMPT_HEAD, prompt_head
from serve_app.live import listener as listeners
from serve_app.live.changes import Change
from serve_app.live.listener import Listener, ReaderLost, TooSlow
from serve_app.live.messages import BALANCE_HINT, PROVIDER_HINT, Kind, News, event_of, frame_of, message
from serve_app.store.records import JobState

NOW = datetime(2026, 11, 26, tzinfo=UTC)
JOBS = [uuid.UUID(int=n) for n in range(4)]


def change(number, job=0, state=JobState.QUEUED, *, is_settled=False):
    has_ended = state >= JobState.SUCCEEDED
    return Change(
        number=number, id=JOBS[job], user="user_a", state=state, model="m", cost=1_000_000 if has_ended else None, created_at=NOW,
        ended_at=NOW if has_ended else None, node="node_a", is_settled=is_settled, prompt="hello",
    )  # fmt: skip


def listening(heard=0, jobs=()):
    listener = Listener("user_a", heard)
    listener.follow_on(jobs)
    return listener


def tell(listener, *changes, position=None, has_served=False):
    listener.tell(position or changes[-1].number, [News(one) for one in changes], has_served=has_served)


async def heard(listener):
    return [json.loads(one.text) for one in await listener.take(0)]


async def test_a_job_is_told_whole_once_and_then_what_can_have_changed():
    listener = listening()
    tell(listener, change(1), change(2, state=JobState.RUNNING), change(3, state=JobState.SUCCEEDED))
    whole, running, ended = await heard(listener)
    assert set(whole["job"]) == {"id", "status", "prompt", "model", "cost", "created_at", "completed_at"}
    assert set(running["job"]) == {"id", "status"}
    assert set(ended["job"]) == {"id", "status", "cost", "completed_at"}
    assert [one["seq"] for one in (whole, running, ended)] == [1, 2, 3]


async def test_a_job_on_the_first_page_is_known():
    listener = listening(5, [change(4)])
    tell(listener, change(6, state=JobState.RUNNING))
    assert set((await heard(listener))[0]["job"]) == {"id", "status"}


async def test_what_a_page_showed_already_is_not_told_again():
    listener = Listener("user_a", 5)
    tell(listener, change(6, state=JobState.RUNNING))  # while the page is being read
    tell(listener, change(8, job=1))
    listener.follow_on([change(7, state=JobState.SUCCEEDED), change(3, job=2)])
    tell(listener, change(7, state=JobState.SUCCEEDED))
    tell(listener, change(9, state=JobState.SUCCEEDED, is_settled=True))
    assert [(one["seq"], one["job"]["status"]) for one in await heard(listener) if "seq" in one] == [(8, "PENDING"), (9, "COMPLETED")]


async def test_nothing_is_told_twice_and_nothing_before_where_it_began():
    listener = listening(5)
    tell(listener, change(4), change(5), change(6), position=7)
    tell(listener, change(6), change(7), position=7)
    assert [one["seq"] for one in await heard(listener)] == [6]
    assert listener.heard == 7


async def test_the_hints_say_nothing_and_come_once_per_batch():
    listener = listening()
    done = [change(n, job=n % 4, state=JobState.SUCCEEDED, is_settled=True) for n in range(1, 5)]
    tell(listener, *done, has_served=True)
    said = await listener.take(0)
    assert said[-2:] == [BALANCE_HINT, PROVIDER_HINT]
    assert len(said) == 6


@given(st.sets(st.sampled_from(list(Kind))))
def test_only_what_is_wanted_is_told(kinds):
    listener = listening()
    listener.kinds = set(kinds)
    tell(listener, change(1, state=JobState.SUCCEEDED, is_settled=True), has_served=True)
    told = {one.type for one in listener._batches[0]} if listener._batches else set()
    names = {Kind.JOBS: "job_update", Kind.BALANCE: "balance_update", Kind.PROVIDER_STATS: "provider_stats_update"}
    assert told == {names[kind] for kind in kinds if kind in names}
    assert listener.survey({Kind.STATS: message("stats_update")}) == ([message("stats_update")] if Kind.STATS in kinds else [])


def test_the_cluster_is_told_when_it_changed():
    listener = listening()
    one, two = message("stats_update", active_nodes=1), message("stats_update", active_nodes=2)
    assert [listener.survey({Kind.STATS: said}) for said in (one, one, two, two, one)] == [[one], [], [two], [], [one]]


async def test_who_lets_too_much_wait_hears_why_and_nothing_more(monkeypatch):
    monkeypatch.setattr(listeners, "MAX_BATCHES", 3)
    listener = listening()
    for number in range(1, 6):
        tell(listener, change(number))
    assert not listener._batches
    with pytest.raises(TooSlow):
        await listener.take(1)
    with pytest.raises(TooSlow):
        await listener.until_closed()


async def test_what_waits_is_bounded_by_its_size_too(monkeypatch):
    monkeypatch.setattr(listeners, "MAX_LETTERS", 1000)
    listener = listening()
    listener.put([message("fat", text="x" * 990)])
    with pytest.raises(TooSlow):
        await listener.take(1)


async def test_the_first_reason_stands():
    listener = listening()
    listener.close(TooSlow("a"))
    listener.close(ReaderLost("b"))
    with pytest.raises(TooSlow):
        await asyncio.wait_for(listener.until_closed(), 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40), st.integers(0, 40), st.data())
def test_however_changes_are_cut_into_readings_they_are_told_in_order_and_once(steps, begins, data):
    """Numbers 1 to n, any job each; readings of any length, at any moment; the page is taken anywhere and shows how things stand there."""
    changes = [change(n, job) for n, (job, _) in enumerate(steps, 1)]
    begins = min(begins, len(changes))
    seen = data.draw(st.integers(begins, len(changes)))
    page = list({one.id: one for one in changes[:seen]}.values())
    listener = Listener("user_a", begins)
    at, is_open = begins, False
    while at < len(changes) or not is_open:
        if not is_open and (at >= seen or data.draw(st.booleans())):
            listener.follow_on(page)
            is_open = True
            continue
        upto = data.draw(st.integers(at + 1, len(changes)))
        looked = data.draw(st.integers(max(upto, seen if is_open else 0), len(changes)))
        rows = {one.id: one for one in changes[:looked]}.values()  # a row has its newest number only
        tell(listener, *sorted((one for one in rows if at < one.number <= upto), key=lambda one: one.number), position=upto)
        at = upto
    told = [json.loads(one.text)["seq"] for batch in listener._batches for one in batch]
    assert told == sorted(set(told))
    shown = {one.id: one.number for one in page}
    assert all(changes[n - 1].number > shown.get(changes[n - 1].id, 0) for n in told)
    final = {one.id: one.number for one in changes}
    known = shown | {changes[n - 1].id: n for n in told}
    assert all(known[id_] == number for id_, number in final.items() if number > begins)


def test_one_message_is_a_frame_and_several_are_a_list():
    one, two = message("a", 5, said="ü"), message("b")
    assert json.loads(frame_of([one])) == {"type": "a", "seq": 5, "said": "ü"}
    assert json.loads(frame_of([one, two])) == [{"type": "a", "seq": 5, "said": "ü"}, {"type": "b"}]
    assert event_of([one, two]).decode() == 'id: 5\nevent: a\ndata: {"type":"a","seq":5,"said":"ü"}\n\nevent: b\ndata: {"type":"b"}\n\n'


@given(st.text())
def test_a_prompt_is_shown_as_one_printable_line(said):
    for request in ({"messages": [{"role": "user", "content": said}]}, {"prompt": said}, {"input": [said]}):
        shown = prompt_head(request)
        assert len(shown) <= PROMPT_HEAD
        assert shown.isprintable()
        shown.encode()


def test_the_last_message_is_what_is_shown():
    assert prompt_head({"messages": [{"content": "old"}, {"content": "new\nline" + "x" * 200}]}) == "new line" + "x" * 72
    assert prompt_head({"messages": [{"role": "assistant", "content": None}]}) == prompt_head({}) == ""
