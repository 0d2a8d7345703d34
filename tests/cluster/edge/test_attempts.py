"""Attempts on edge nodes: offers, leases, replays, and what becomes of them when somebody breaks a rule (security reference 5.4, 5.6)."""

import asyncio

import pytest

from cluster.edge import edge_node
from cluster.edge.edge_node import LOST_IN_TEXT_S
from cluster.errors import AttemptSuperseded, AttemptUnknown, NodeBusy, NodeLost
from cluster.jobs import Admitted, Beat, End, EndReason, Fail, Text
from tests.edge_agents import words_of
from tests.waiting import until

SAID = 6  # chunks of the answers here


async def reading(edge, attempt):
    """Read an attempt in the background; answers its events so far, and the task."""
    events = []

    async def read():
        async for event in edge.client.run(edge.url, attempt):
            events.append(event)

    task = asyncio.create_task(read())

    async def stop():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    edge.stack.push_async_callback(stop)
    return events, task


async def accepted(edge, socket, attempt):
    """Begin an attempt and accept its offer."""
    events, task = await reading(edge, attempt)
    offer = await socket.until("offer", job=attempt.job)
    await socket.send(type="accept", job=attempt.job, lease=attempt.number)
    await until(lambda: events)
    return offer, events, task


async def chunk(socket, attempt, seq, text="x", **more):
    await socket.send(type="chunk", job=attempt.job, lease=attempt.number, seq=seq, delta={"content": text}, tokens=1, **more)


async def end(socket, attempt, total, **more):
    await socket.send(
        {"type": "end", "job": attempt.job, "lease": attempt.number, "total": total, "reason": "stop", "usage": {"eval_count": total}}
        | more
    )


def texts(events):
    return "".join(event.content for event in events if isinstance(event, Text))


# --- offers ---------------------------------------------------------------------------------------------------------------------------


async def test_a_refused_offer_started_nothing_and_the_number_can_be_used_again(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    for reason in ("busy", "a_reason_of_later"):
        _, task = await reading(edge, attempt)
        await socket.until("offer")
        await socket.send(type="reject", job=attempt.job, lease=1, reason=reason)
        with pytest.raises(NodeBusy) as busy:
            await task
        assert busy.value.reason == reason
    await accepted(edge, socket, attempt)


async def test_an_offer_that_nobody_answers_is_lost_and_its_number_spent(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, task = await reading(edge, attempt)
    await socket.until("offer")
    with pytest.raises(NodeLost):
        await task
    assert (await socket.until("cancel"))["why"] == "deadline"
    assert edge.node().running == 0
    await socket.send(type="accept", job=attempt.job, lease=1)  # too late
    assert (await socket.until("cancel"))["why"] == "superseded"
    with pytest.raises(AttemptSuperseded):
        await edge.run(attempt)


async def test_an_offer_whose_connection_breaks_is_lost_and_the_agent_is_told_to_forget_it(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, task = await reading(edge, attempt)
    await socket.until("offer")
    socket.abort()
    with pytest.raises(NodeLost):
        await task
    again = await edge.ready(identity, resume=[{"job": attempt.job, "lease": 1, "first_seq": 0, "next_seq": 0}])
    assert again.welcome["drop"] == [{"job": attempt.job, "lease": 1, "reason": "unknown"}]


async def test_a_node_that_got_a_new_key_is_served_with_it_at_once(edge):
    old = await edge.ready(edge.enroll())
    new = await edge.ready(edge.enroll())
    assert await old.closed() == 4401
    await until(lambda: edge.node().is_healthy)
    await asyncio.sleep(1)
    assert not new.ws.closed
    await accepted(edge, new, edge.attempt())


async def test_a_request_that_is_larger_than_a_frame_is_not_offered(edge):
    await edge.ready(edge.enroll())
    large = edge.attempt(request={"messages": [{"role": "user", "content": "x" * 300_000}]})
    half = edge.attempt(request={"messages": [{"role": "user", "content": "\ud800"}]})
    for attempt in (large, half):
        with pytest.raises(NodeBusy) as busy:
            await edge.run(attempt)
        assert busy.value.reason == "too_large"


@pytest.mark.parametrize(("tier", "slots"), [("probation", 2), ("verified", 5), ("established", 5)])
async def test_slots_are_counted_by_us_and_capped_by_the_tier(edge, tier, slots):
    socket = await edge.ready(edge.enroll(tier=tier), slots=5)
    assert socket.welcome["limits"].get("slots") == (2 if tier == "probation" else None)
    await until(lambda: edge.node().slots == slots)
    for _ in range(slots):
        await accepted(edge, socket, edge.attempt())
    with pytest.raises(NodeBusy, match="busy"):
        await edge.run(edge.attempt())
    assert edge.node().running == slots


@pytest.mark.parametrize("state", ["paused", "quarantined"])
async def test_a_node_that_is_paused_stays_connected_and_gets_no_offers(edge, state):
    identity = edge.enroll(state=state)
    socket = await edge.ready(identity)
    await until(lambda: edge.node().models)
    with pytest.raises(NodeBusy) as busy:
        await edge.run(edge.attempt())
    assert state in busy.value.reason
    edge.enroll()  # with another key: cut
    assert await socket.closed() == 4401


async def test_another_model_another_digest_and_an_owner_who_needs_the_gpu_get_no_offers(edge):
    socket = await edge.ready(edge.enroll())
    await until(lambda: edge.node().is_healthy)
    for attempt in (edge.attempt(model="other"), edge.attempt(model_digest="another")):
        with pytest.raises(NodeBusy):
            await edge.run(attempt)
    await socket.send(
        type="inventory", runtime="ollama", slots=2, paused="the owner plays", models=[{"name": "m", "digest": "d", "ctx": 1}]
    )
    await until(lambda: edge.node().reason == "the owner plays")
    with pytest.raises(NodeBusy):
        await edge.run(edge.attempt())


# --- leases ---------------------------------------------------------------------------------------------------------------------------


async def test_a_newer_lease_ends_the_older_one_and_its_frames_are_left_alone(edge):
    socket = await edge.ready(edge.enroll())
    old = edge.attempt()
    _, old_events, old_task = await accepted(edge, socket, old)
    await chunk(socket, old, 0, "old ")
    new = edge.attempt(job=old.job, number=2)
    _, events, task = await accepted(edge, socket, new)
    assert isinstance(old_events[-1], Fail)
    await old_task
    await chunk(socket, old, 1, "late ")
    await end(socket, old, 2)
    await chunk(socket, new, 0, "new ")
    await end(socket, new, 1)
    await task
    assert texts(events) == "new "
    assert edge.metric("stale_frames_total") == 2
    with pytest.raises(AttemptSuperseded):
        await edge.run(old)


async def test_frames_of_somebody_elses_job_are_not_theirs(edge):
    mine, other = await edge.ready(edge.enroll("node_mine")), await edge.ready(edge.enroll("node_other"))
    attempt = edge.attempt("node_mine")
    _, events, task = await accepted(edge, mine, attempt)
    await chunk(mine, attempt, 0, "mine ")
    await chunk(other, attempt, 1, "poison ")
    error = await other.until("error")
    assert (error["code"], error["job"]) == ("not_yours", attempt.job)
    await end(other, attempt, 1)
    assert (await other.until("error"))["code"] == "not_yours"
    await other.send(type="fail", job=attempt.job, lease=1, seq=1, code="internal")
    assert (await other.until("error"))["code"] == "not_yours"
    await end(mine, attempt, 1)
    await task
    assert texts(events) == "mine "
    assert edge.metric("foreign_frames_total") == 3
    for _ in range(20):
        await chunk(other, attempt, 1, "poison ")
    assert await other.closed() == 1008


async def test_jobs_that_nobody_has_are_told_to_be_over_once(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt(job="job_unknown")
    for seq in range(5):
        await chunk(socket, attempt, seq)
    await socket.send(type="heartbeat", n=1)
    assert (await socket.until("cancel"))["why"] == "superseded"
    assert edge.metric("stale_frames_total") == 5
    await end(socket, attempt, 5)
    assert (await socket.until("ack"))["end"], "an end is acknowledged, else it would be said for ever"
    assert edge.gateway._nodes["node_edge"].mirrors == {}


# --- numbers --------------------------------------------------------------------------------------------------------------------------


async def test_chunks_again_are_dropped_and_acknowledged_again(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    for seq in (0, 1, 0, 1, 2, 2):
        await chunk(socket, attempt, seq, f"{seq} ")
    await socket.until("ack", seq=3)
    await end(socket, attempt, 3)
    await task
    assert texts(events) == "0 1 2 "
    assert edge.metric("replays_total") == 3


async def test_a_gap_closes_the_connection_and_takes_nothing(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0)
    await chunk(socket, attempt, 2)
    assert (await socket.until("error"))["code"] == "seq_gap"
    assert await socket.closed() == 1008
    assert texts(events) == "x"
    task.cancel()


async def test_an_end_with_another_total_is_a_gap(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0)
    await end(socket, attempt, 5)
    assert (await socket.until("error"))["code"] == "seq_gap"
    assert not any(isinstance(event, End) for event in events)
    task.cancel()


async def test_an_end_that_is_said_again_and_again_counts_once(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0)
    for _ in range(3):
        await end(socket, attempt, 1)
    await task
    await socket.until("ack", end=True)
    await end(socket, attempt, 1)
    await socket.until("ack", end=True)
    assert sum(isinstance(event, End) for event in events) == 1
    assert edge.metric("counted_total", by="provider") == 1


async def test_more_than_the_window_without_an_ack_closes_the_connection(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, _, task = await accepted(edge, socket, attempt)
    mirror = edge.gateway._nodes["node_edge"].mirrors[attempt.job, 1]
    mirror._pace.take_up_to(10_000, 0)  # nothing is acknowledged any more
    mirror._pace._rate = 0
    for seq in range(40):
        await chunk(socket, attempt, seq)
    assert (await socket.until("error"))["code"] == "too_many_frames"
    assert await socket.closed() == 1008
    assert mirror.next_chunk == 32
    task.cancel()


async def test_acks_come_every_eight_chunks_or_soon(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, _, task = await accepted(edge, socket, attempt)
    for seq in range(17):
        await chunk(socket, attempt, seq)
    acks = [(await socket.until("ack"))["seq"] for _ in range(3)]
    assert acks == [8, 16, 17]
    task.cancel()


@pytest.mark.parametrize("at", range(SAID + 2))
async def test_a_connection_that_breaks_at_any_chunk_costs_nothing(edge, at):
    agent = await edge.honest(edge.enroll(), words=SAID, pace_s=0.01)
    attempt = edge.attempt()
    events, task = await reading(edge, attempt)
    await until(lambda: len(events) > at or any(isinstance(event, End) for event in events))
    agent.socket.abort()
    await asyncio.wait_for(task, 15)
    assert [event.seq for event in events] == list(range(SAID + 2))
    assert texts(events) == "".join(words_of(attempt.job, SAID))
    assert events[0] == Admitted(seq=0, node="node_edge")
    await until(lambda: not agent.ends)


async def test_an_agent_that_comes_back_with_an_end_says_it_again_until_it_is_acknowledged(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, _, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0, "all of it")
    await end(socket, attempt, 1)
    await task
    socket.abort()
    held = {"job": attempt.job, "lease": 1, "first_seq": 0, "next_seq": 1, "ended": True}
    again = await edge.ready(identity, resume=[held])
    assert again.welcome["resume"] == [{"job": attempt.job, "lease": 1, "next_seq": 1}]  # the end is no chunk
    await end(again, attempt, 1)
    assert (await again.until("ack", job=attempt.job))["end"]


async def test_a_lost_agent_is_given_up_after_a_while_and_what_it_says_later_is_not_wanted(edge, monkeypatch):
    monkeypatch.setattr(edge_node, "LOST_IN_TEXT_S", 0.5)
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0, "before ")
    await until(lambda: texts(events))
    socket.abort()
    await task
    assert events[-1] == Fail(seq=2, status=504, detail="its agent was lost")
    again = await edge.ready(identity, resume=[{"job": attempt.job, "lease": 1, "first_seq": 0, "next_seq": 5}])
    assert again.welcome["drop"] == [{"job": attempt.job, "lease": 1, "reason": "superseded"}]
    assert LOST_IN_TEXT_S == 15


@pytest.mark.parametrize("has_text", [False, True])
async def test_an_agent_that_keeps_its_connection_and_says_nothing_is_given_up_and_a_beat_is_a_word(edge, monkeypatch, has_text):
    monkeypatch.setattr(edge_node, "SILENT_BEFORE_TEXT_S", 60 if has_text else 1)
    monkeypatch.setattr(edge_node, "LOST_IN_TEXT_S", 1 if has_text else 60)
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    if has_text:
        await chunk(socket, attempt, 0, "before ")
    for seq in range(has_text, 8):
        await asyncio.sleep(0.2)
        await socket.send(type="chunk", job=attempt.job, lease=1, seq=seq, delta={})
    assert not task.done()
    await asyncio.wait_for(task, 60)
    assert events[-1] == Fail(seq=9, status=504, detail="its agent says nothing")
    assert (await socket.until("cancel"))["why"] == "deadline"
    await chunk(socket, attempt, 8, "late ")
    await until(lambda: edge.metric("stale_frames_total") == 1)


async def test_an_agent_that_comes_back_without_an_attempt_has_lost_it(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await edge.ready(identity)
    await task
    assert events[-1] == Fail(seq=1, status=504, detail="its agent lost it")


async def test_an_agent_that_lost_the_beginning_is_told_that_there_is_a_gap(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    again = await edge.ready(identity, resume=[{"job": attempt.job, "lease": 1, "first_seq": 3, "next_seq": 5}])
    assert again.welcome["drop"][0]["reason"] == "gap"
    await task
    assert isinstance(events[-1], Fail)
    await socket.closed()


# --- two sockets ----------------------------------------------------------------------------------------------------------------------


async def test_the_newest_connection_counts_and_the_end_of_the_old_one_changes_nothing(edge):
    """Seed defect D28: an old socket's close must not take the new one offline."""
    identity = edge.enroll()
    old = await edge.ready(identity)
    new = await edge.ready(identity)
    assert await old.closed() == 4409
    assert new.welcome["epoch"] > old.welcome["epoch"]
    await old.aclose()
    await until(lambda: edge.node().is_healthy)
    await asyncio.sleep(0.3)
    assert edge.node().is_healthy
    assert edge.node().epoch == new.welcome["epoch"]
    assert edge.metric("closes_total", code="4409") == 1, "our reason, not what the agent answered"
    await accepted(edge, new, edge.attempt())


async def test_silence_is_suspicion_then_absence_and_a_word_ends_it(edge):
    socket = await edge.ready(edge.enroll())
    await until(lambda: edge.node().is_healthy)
    [session] = edge.gateway._sessions
    session.heard_at -= 16
    await until(lambda: edge.node().reason == "its agent is silent")
    assert not edge.node().is_healthy
    await socket.send(type="heartbeat", n=1)
    await until(lambda: edge.node().is_healthy)
    session.heard_at -= 26
    assert await socket.closed() == 1001
    await until(lambda: edge.node().reason == "its agent is not connected")


async def test_the_platform_says_that_it_lives(edge):
    socket = await edge.ready(edge.enroll())
    [session] = edge.gateway._sessions
    session._beat_at -= 10
    assert (await socket.until("heartbeat"))["n"] == 1


# --- ends -----------------------------------------------------------------------------------------------------------------------------


async def test_a_cancel_reaches_the_agent_and_what_was_said_counts(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0, "one ")
    await until(lambda: texts(events))
    await edge.client.cancel(edge.url, attempt.job, 1)
    assert (await socket.until("cancel"))["why"] == "consumer"
    await socket.send(type="canceled", job=attempt.job, lease=1, seq=1)
    await task
    assert (events[-1].reason, events[-1].usage.completion_tokens) == (EndReason.CANCELED, 1)


async def test_an_agent_that_ignores_a_cancel_is_not_waited_for(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0, "one ")
    await until(lambda: texts(events))
    await edge.client.cancel(edge.url, attempt.job, 1)
    await asyncio.wait_for(task, 60)
    assert events[-1].reason is EndReason.CANCELED
    await chunk(socket, attempt, 1, "more ")
    await until(lambda: edge.metric("stale_frames_total") == 1)
    assert edge.node().running == 0


async def test_what_nobody_reads_is_canceled(edge, monkeypatch):
    monkeypatch.setattr("cluster.attempt_log.UNREAD_LIMIT_S", 0.3)
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, _, task = await accepted(edge, socket, attempt)
    task.cancel()
    assert (await socket.until("cancel"))["why"] == "consumer"


async def test_failures_of_agents_keep_their_kind_and_never_count_as_a_crash(edge):
    socket = await edge.ready(edge.enroll())
    for code, status, is_fault in (("bad_request", 400, True), ("runtime_unreachable", 502, False), ("timed_out", 504, False)):
        attempt = edge.attempt()
        _, events, task = await accepted(edge, socket, attempt)
        await socket.send(type="fail", job=attempt.job, lease=1, seq=0, code=code, detail="why")
        await task
        assert events[-1] == Fail(seq=1, status=status, detail="why", is_request_fault=is_fault)
        await socket.until("ack", end=True)


async def test_a_deadline_that_the_agent_forgets_is_kept_by_us(edge, monkeypatch):
    from cluster.jobs import Deadlines

    monkeypatch.setattr("cluster.edge.mirror.GRACE_S", 0)
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt(deadlines=Deadlines(first_token_s=0.3, idle_s=5, total_s=5))
    _, events, task = await accepted(edge, socket, attempt)
    await task
    assert (events[-1].status, events[-1].detail) == (504, "no first token within 0.3 s")
    assert (await socket.until("cancel"))["why"] == "deadline"


async def test_a_cut_while_streaming_ends_the_attempt(edge):
    identity = edge.enroll()
    socket = await edge.ready(identity)
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await chunk(socket, attempt, 0, "x")
    await until(lambda: texts(events))
    edge.enroll(state="revoked")
    assert (await socket.until("cancel"))["why"] == "revoked"
    assert await socket.closed() == 4401
    await asyncio.wait_for(task, 60)
    assert isinstance(events[-1], Fail)


async def test_the_answer_is_not_longer_than_answers_may_be(edge):
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    for seq in range(11):
        await chunk(socket, attempt, seq, "x" * 100_000)
        if seq % 2:
            await socket.until("ack", seq=seq + 1)
    await task
    assert events[-1].status == 502
    assert (await socket.until("cancel"))["why"] == "deadline"


async def test_beats_keep_the_numbers_equal_and_a_quiet_agent_keeps_its_reader(edge, monkeypatch):
    monkeypatch.setattr("cluster.edge.mirror.QUIET_S", 0.1)
    socket = await edge.ready(edge.enroll())
    attempt = edge.attempt()
    _, events, task = await accepted(edge, socket, attempt)
    await socket.send(type="chunk", job=attempt.job, lease=1, seq=0, delta={})
    await asyncio.sleep(0.5)  # five empty lines, no events
    await chunk(socket, attempt, 1, "x")
    await end(socket, attempt, 2)
    await task
    assert [type(event) for event in events] == [Admitted, Beat, Text, End]


async def test_an_unknown_attempt_of_a_connected_node_is_unknown(edge):
    await edge.ready(edge.enroll())
    with pytest.raises(AttemptUnknown):
        [event async for event in edge.client.attach(edge.url, "job_x", 1, 0, node="node_edge")]


async def test_a_defect_of_ours_ends_the_connection_with_a_code_and_a_log_entry(edge, monkeypatch, capsys):
    """Seed defect D30: an exception in a message must neither be swallowed nor leave a socket that nobody reads."""
    good = await edge.honest(edge.enroll("node_good"), words=3)
    socket = await edge.ready(edge.enroll())
    session = next(session for session in edge.gateway._sessions if session.node.id == "node_edge")
    monkeypatch.setattr(session, "_heartbeat", lambda *_: 1 / 0)
    await socket.send(type="heartbeat", n=1)
    assert await socket.closed() == 1011
    assert "session_failed" in capsys.readouterr().out
    await edge.run(edge.attempt("node_good"))
    assert good.connects == 1
