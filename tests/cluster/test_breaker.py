"""The breaker and the list of poison, with a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.breaker import CANARY_S, FAILURES, OPEN_S, WITHIN_S, Breakers
from cluster.poison import KEPT_S, MOST, PoisonList


def opened(at=0.0):
    breakers = Breakers()
    for _ in range(FAILURES):
        breakers.failed("a", at)
    return breakers


def test_five_failures_within_a_minute_open_it_and_four_do_not():
    breakers = Breakers()
    for number in range(FAILURES - 1):
        breakers.failed("a", float(number))
        assert breakers.open(float(number)) == frozenset()
    breakers.failed("a", 10.0)
    assert breakers.open(10.0) == {"a"}


def test_failures_that_are_far_apart_do_not_open_it():
    breakers = Breakers()
    for number in range(50):
        breakers.failed("a", number * (WITHIN_S / (FAILURES - 2)))
        assert breakers.open(number * 20.0) == frozenset()


def test_a_node_that_is_back_gets_jobs_at_once_but_once_only():
    breakers = opened()
    breakers.returned("a")
    breakers.placed("a", 1.0)
    assert breakers.open(1.0) == frozenset()
    for _ in range(FAILURES):
        assert breakers.open(2.0) == frozenset()
        breakers.failed("a", 2.0)
    breakers.returned("a")  # it ends with its jobs, and comes back each time
    assert breakers.open(3.0) == {"a"}
    assert breakers.open(2.0 + OPEN_S) == frozenset()
    assert breakers.succeeded("a")
    assert not breakers.succeeded("a")


def test_a_return_means_nothing_to_a_node_that_did_not_fail():
    breakers = Breakers()
    breakers.failed("a", 0.0)
    breakers.returned("a")
    breakers.returned("b")
    assert breakers.recent_failures(1.0) == {"a": 1}


def test_after_half_a_minute_one_job_tries_and_its_end_decides():
    breakers = opened()
    assert breakers.open(OPEN_S - 0.1) == {"a"}
    assert breakers.open(OPEN_S) == frozenset()
    breakers.placed("a", OPEN_S)
    assert breakers.open(OPEN_S + 1) == {"a"}
    breakers.failed("a", OPEN_S + 2)
    assert breakers.open(2 * OPEN_S + 1) == {"a"}
    breakers.placed("a", 2 * OPEN_S + 2)
    breakers.succeeded("a")
    assert breakers.open(2 * OPEN_S + 3) == frozenset()


def test_a_try_whose_end_nobody_tells_does_not_close_a_node_for_ever():
    breakers = opened()
    breakers.placed("a", OPEN_S)
    assert breakers.open(OPEN_S + CANARY_S) == frozenset()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["failed", "placed", "succeeded"]), st.floats(0, 20)), max_size=60))
def test_whatever_happens_a_quiet_node_comes_back_and_others_are_untouched(events):
    breakers, now = Breakers(), 0.0
    for node, what, step in events:
        now += step
        breakers.succeeded(node) if what == "succeeded" else getattr(breakers, what)(node, now)
        assert breakers.open(now) <= {one for one, happened, _ in events if happened == "failed"}
    assert breakers.open(now + OPEN_S + CANARY_S) == frozenset()


def test_recent_failures_are_counted_per_node_and_fade():
    breakers = Breakers()
    assert breakers.recent_failures(0.0) == {}
    for node, at in (("a", 0.0), ("a", 50.0), ("b", 50.0)):
        breakers.failed(node, at)
    assert breakers.recent_failures(55.0) == {"a": 2, "b": 1}
    assert breakers.recent_failures(WITHIN_S + 1) == {"a": 1, "b": 1}
    breakers.succeeded("b")
    assert breakers.recent_failures(WITHIN_S + 1) == {"a": 1}
    assert breakers.recent_failures(50 + WITHIN_S + 1) == {}


def test_poison_is_remembered_for_an_hour_and_the_list_is_bounded():
    poison = PoisonList()
    poison.add("x", 0.0)
    assert poison.has("x", KEPT_S - 1)
    assert not poison.has("x", KEPT_S)
    assert not poison.has("y", 0.0)
    for number in range(MOST + 5):
        poison.add(str(number), 1.0)
    assert len(poison._until) <= MOST
    assert poison.has(str(MOST + 4), 2.0)
