"""What canaries come next, and what follows from their answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.verification.admission_rules import MOST_TIMES, REFUSING_FAILURES, Progress, decide, next_kinds


def course(base, slots, *, answers="passed"):
    """The kinds of a whole round, each turn answered before the next."""
    progress, kinds = Progress(base), []
    while turn := next_kinds(progress, slots, slots):
        kinds.append(turn)
        assert len(kinds) <= base
        done = getattr(progress, answers) + len(turn)
        progress = Progress(base, **{answers: done}, has_long=progress.has_long or "long" in turn)
    return kinds


def test_a_round_has_pairs_and_ends_with_the_long_one():
    kinds = course(20, slots=2)
    assert sum(map(len, kinds)) == 20
    assert kinds[-1] == ("long",)
    assert kinds.count(("beside", "beside")) == 4
    assert kinds[2] == ("beside", "beside")


def test_a_node_with_one_slot_gets_none_at_once_and_a_short_round_no_long_one():
    assert {kind for turn in course(20, slots=1) for kind in turn} == {"plain", "long"}
    assert course(4, slots=2) == [("plain",), ("plain",), ("beside", "beside")]
    assert course(1, slots=2) == [("plain",)]
    assert course(20, slots=0) == []


def test_two_at_once_wait_for_two_free_slots():
    third = Progress(20, passed=2)
    assert (next_kinds(third, 2, 1), next_kinds(third, 2, 2)) == ((), ("beside", "beside"))
    assert next_kinds(Progress(20, passed=1), 2, 1) == ("plain",)
    assert next_kinds(third, 1, 1) == ("plain",)


@given(base=st.integers(1, 200), free=st.integers(1, 8), passed=st.integers(0, 400), waiting=st.integers(0, 400), flagged=st.integers(0, 1))
def test_never_more_are_on_their_way_than_are_needed(base, free, passed, waiting, flagged):
    progress = Progress(base, passed=passed, open=waiting, flagged=flagged)
    kinds = next_kinds(progress, free, free)
    assert len(kinds) <= min(free, max(0, progress.wanted - passed - waiting))
    assert (not kinds) == (passed + waiting >= progress.wanted)


@pytest.mark.parametrize(
    ("progress", "state", "is_final", "said"),
    [
        (Progress(20), "testing", False, "Being tested: 0 of 20 canaries passed."),
        (Progress(20, passed=7, open=2, failed=1), "testing", False, "Being tested: 7 of 20 canaries passed, 2 wait, 1 failed."),
        (Progress(20, passed=19, unjudged=1), "admitted", False, "Admitted: 20 canaries passed."),
        (Progress(20, passed=9, unjudged=11), "admitted", False, "Admitted, not verified: they were new."),
        (Progress(20, passed=20, flagged=1), "testing", False, "Being tested: 20 of 40 canaries passed, one was answered otherwise than this model answers."),
        (Progress(20, passed=40, flagged=1), "admitted", False, "Admitted: 40 canaries passed."),
        (Progress(20, passed=5, unjudged=35, flagged=1), "testing", False, None),  # what was found once is not passed over unjudged
        (Progress(20, passed=39, flagged=2), "refused", True, None),
        (Progress(20, passed=19, failed=REFUSING_FAILURES), "refused", False, None),
        (Progress(20, passed=1, short=MOST_TIMES * 20), "refused", False, None),
    ],
)  # fmt: skip
def test_what_follows(progress, state, is_final, said):
    found = decide(progress, "they were new")
    assert (found.state, found.is_final) == (state, is_final)
    assert said is None or found.said == said


@given(st.builds(Progress, *[st.integers(1, 30)] + [st.integers(0, 200)] * 6))
def test_a_test_ends(progress):
    """Whoever is still tested gets another canary, or waits for one; and a second flag always refuses."""
    found = decide(progress, "x")
    if found.state == "testing" and not progress.open and not progress.flagged:
        assert next_kinds(progress, 1, 1)
    assert (progress.flagged >= 2) == found.is_final
