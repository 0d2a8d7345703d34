"""The log of an attempt: written once, read from any position, bounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.attempt_log import (
    COALESCE_BYTES,
    KEPT_AFTER_END_S,
    MAX_LINE_BYTES,
    MAX_PIECE_CHARACTERS,
    UNREAD_LIMIT_S,
    AttemptLog,
    Coalescer,
    bytes_of,
    clipped,
    decode,
    embedding_events,
    encode,
)
from cluster.jobs import Admitted, AgentReceipt, Beat, End, EndReason, Fail, Text, Usage

seqs = st.integers(0, 2**31)
# Half surrogate pairs too, as JSON of a runtime may carry them; whole ones are one character.
texts = st.text(st.characters(exclude_categories=())).map(lambda text: json.loads(json.dumps(text)))
usages = st.builds(Usage, prompt_tokens=seqs, completion_tokens=seqs, counted_by=st.sampled_from(["platform", "provider"]))
calls = st.lists(st.dictionaries(st.text(), st.text() | st.integers(), max_size=3), max_size=2).map(tuple)
receipts = st.none() | st.builds(
    AgentReceipt, model_digest=texts, text_sha256=texts, signature=texts, prompt_tokens=seqs, completion_tokens=seqs
)
vectors = st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple), max_size=3).map(tuple)
events = st.one_of(
    st.builds(Text, seq=seqs, content=texts, thinking=texts, tool_calls=calls, embeddings=vectors, tokens=seqs),
    st.builds(Admitted, seq=seqs, node=texts),
    st.builds(Beat, seq=seqs),
    st.builds(End, seq=seqs, reason=st.sampled_from(EndReason), usage=usages),
    st.builds(Fail, seq=seqs, status=st.integers(0, 599), detail=texts, is_request_fault=st.booleans()),
)


@given(events)
def test_every_event_survives_the_wire_as_one_line_of_json(event):
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["seq"] == event.seq
    assert decode(line) == event


@pytest.mark.parametrize(
    "line",
    [
        b"", b"nonsense", b"[]", b"7", b"null", b"{}", b'{"seq":1}', b'{"seq":"1","event":"beat"}', b'{"seq":-1,"event":"beat"}', b'{"seq":true,"event":"beat"}',
        b'{"seq":0,"event":"other"}', b'{"seq":0,"event":"text","tokens":1,"content":7}', b'{"seq":0,"event":"text","content":"a"}',
        b'{"seq":0,"event":"text","tokens":-5,"content":"a"}', b'{"seq":0,"event":"text","tokens":1,"embeddings":[7]}',
        b'{"seq":0,"event":"end","reason":"bored","prompt_tokens":1,"completion_tokens":1,"counted_by":"platform"}',
        b'{"seq":0,"event":"end","reason":"stop","prompt_tokens":1.5,"completion_tokens":1,"counted_by":"platform"}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own error is one
        decode(line)


def test_a_later_attempt_begins_with_what_was_delivered():
    delivered = (Admitted(seq=0, node="node_a"), Text(seq=1, content="Hällo", tokens=2))
    log = AttemptLog(delivered, 0)
    assert log.next_seq == 2
    assert log.text_bytes == 6
    assert [decode(line) for line in log.since(0).splitlines()] == list(delivered)


@pytest.mark.parametrize("delivered", [(Beat(seq=1),), (Beat(seq=0), Beat(seq=2)), (Fail(seq=0, status=500, detail=""),)])
def test_delivered_events_that_cannot_be_the_beginning_of_a_job_are_refused(delivered):
    with pytest.raises(ValueError, match="numbered from 0"):
        AttemptLog(delivered, 0)


@given(st.lists(st.text(max_size=5), max_size=8), st.integers(0, 10))
def test_a_reader_gets_from_any_position_what_follows(contents, seq):
    log = AttemptLog((), 0)
    for content in contents:
        log.append(Text(seq=log.next_seq, content=content), 0)
    assert [decode(line).content for line in log.since(seq).splitlines()] == contents[seq:]


def test_an_attempt_without_readers_is_abandoned_after_15_seconds():
    log = AttemptLog((), 100)
    assert not log.is_abandoned(100 + UNREAD_LIMIT_S)
    assert log.is_abandoned(100.1 + UNREAD_LIMIT_S)
    log.opened()
    assert not log.is_abandoned(1000)
    log.closed(1000)
    assert not log.is_abandoned(1000 + UNREAD_LIMIT_S)
    assert log.is_abandoned(1000.1 + UNREAD_LIMIT_S)


def test_the_log_of_an_ended_attempt_is_kept_for_a_minute():
    log = AttemptLog((), 0)
    assert not log.is_forgettable(1e9)
    log.append(Fail(seq=0, status=500, detail="x"), 50)
    assert log.has_ended
    assert not log.is_abandoned(1e9)
    assert not log.is_forgettable(50 + KEPT_AFTER_END_S)
    assert log.is_forgettable(50.1 + KEPT_AFTER_END_S)


def test_the_first_piece_goes_at_once_and_the_next_after_50_ms():
    gathered = Coalescer()
    gathered.add("a", "", 1, 1)
    assert gathered.due_in(10) == 0
    assert [text.content for text in gathered.take(0, 10)] == ["a"]
    gathered.add("b", "", 1, 1)
    gathered.add("c", "", 1, 1)
    assert gathered.due_in(10.02) == pytest.approx(0.03)
    assert gathered.due_in(10.05) == pytest.approx(0)
    assert list(gathered.take(1, 10.05)) == [Text(seq=1, content="bc", tokens=2)]
    assert list(gathered.take(2, 10.05)) == []


def test_a_kilobyte_does_not_wait():
    gathered = Coalescer()
    gathered.add("a", "", 1, 1)
    list(gathered.take(0, 0))
    gathered.add("x" * COALESCE_BYTES, "", 1, COALESCE_BYTES)
    assert gathered.due_in(0) == 0


@given(st.text(min_size=1, max_size=3), st.integers(1, 200_000), st.integers(0, 100_000))
def test_a_very_long_piece_is_spread_over_lines_that_a_reader_takes(letter, times, thinking):
    gathered = Coalescer()
    content = letter * (times // len(letter))
    gathered.add(content, "\x00" * thinking, 7, 1)
    taken = list(gathered.take(3, 0))
    assert "".join(text.content for text in taken) == content
    assert "".join(text.thinking for text in taken) == "\x00" * thinking
    assert sum(text.tokens for text in taken) == 7
    assert [text.seq for text in taken] == list(range(3, 3 + len(taken)))
    assert all(len(text.content) <= MAX_PIECE_CHARACTERS for text in taken)
    assert all(len(encode(text)) < MAX_LINE_BYTES for text in taken)


def test_vectors_are_spread_over_lines_and_one_that_is_too_long_is_refused():
    vectors = tuple((0.123456789,) * 4096 for _ in range(20))
    spread = list(embedding_events(1, vectors))
    assert len(spread) > 1
    assert sum((event.embeddings for event in spread), ()) == vectors
    assert all(len(encode(event)) < MAX_LINE_BYTES for event in spread)
    with pytest.raises(ValueError, match="too long"):
        list(embedding_events(1, ((0.123456789,) * 100_000,)))


@given(texts, st.integers(-1, 40))
def test_a_text_is_cut_to_its_bytes_and_never_inside_a_character(text, limit):
    cut = clipped(text, limit)
    assert bytes_of(cut) <= max(limit, 0)
    assert text.startswith(cut) or "\ufffd" not in cut
    if bytes_of(text) <= limit:
        assert cut == text
