"""What a node learns of its models' speed, and the deadlines that follow from it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.deadlines import LEAST_TOTAL_S, deadlines_of
from cluster.limits import Limits
from cluster.speed import KEPT_JOBS, KEPT_S, LEAST_JOBS, STEADY_SHARE, Ran, Speeds, quantile
from tests.cluster.builders import model

FIGURES = ("tokens_per_s", "first_token_s", "first_token_p99_s", "job_s")


def ran(first_token_s=0.5, *, writing_s=10.0, tokens=201, was_loaded=True):
    return Ran(
        first_token_s=first_token_s, writing_s=writing_s, tokens=tokens, job_s=first_token_s + writing_s, was_loaded=was_loaded,
    )  # fmt: skip


def learned(*jobs, of=None, now=0.0):
    speeds = Speeds()
    for number, one in enumerate(jobs):
        speeds.ended(of or model(), one, now + number)
    return speeds


def told(speeds, of=None, now=100.0):
    (offered,) = speeds.told([of or model()], now)
    return tuple(getattr(offered, name) for name in FIGURES)


def test_nothing_is_told_before_a_few_jobs_ended():
    assert told(learned(*[ran()] * (LEAST_JOBS - 1))) == (None,) * 4
    assert told(learned(*[ran()] * LEAST_JOBS)) == (20.0, 0.5, 0.5, 10.0)


def test_the_median_and_the_slowest_of_a_hundred_are_told_apart():
    speeds = learned(*[ran(0.2)] * 98, ran(9.0), ran(30.0))
    assert told(speeds)[1:3] == (0.2, 9.0)


def test_a_job_that_had_to_load_its_model_does_not_make_the_model_slow():
    speeds = learned(*[ran(60.0, was_loaded=False)] * 50, *[ran(0.4)] * 3)
    assert told(speeds) == (20.0, 0.4, 0.4, 10.0)


def test_long_answers_count_for_more_than_short_ones():
    speeds = learned(*[ran(writing_s=0.1, tokens=2)] * 5, ran(writing_s=99.5, tokens=1996))
    assert told(speeds)[0] == 20.0


def test_an_embedding_writes_nothing_and_has_a_first_answer_all_the_same():
    assert told(learned(*[ran(0.3, writing_s=0.0, tokens=1)] * 3)) == (None, 0.3, 0.3, 0.3)


def test_what_is_told_stays_while_jobs_are_only_noisy_and_follows_when_they_changed():
    speeds = learned(*[ran(1.0)] * 10)
    before = told(speeds)
    for number, seconds in enumerate((0.9, 1.1, 1.15, 0.95)):
        speeds.ended(model(), ran(seconds), 20.0 + number)
        assert told(speeds) == before
    for number in range(KEPT_JOBS):
        speeds.ended(model(), ran(3.0), 40.0 + number)
    assert told(speeds)[1:3] == (3.0, 3.0)


def test_another_file_by_the_same_name_begins_anew_and_the_old_one_is_forgotten():
    speeds = learned(*[ran()] * 5)
    other = replace(model(), digest="sha-other")
    assert told(speeds, other) == (None,) * 4
    assert told(speeds) == (None,) * 4
    assert not speeds._models


def test_old_jobs_are_forgotten_and_few_are_kept_at_all():
    speeds = learned(*[ran(9.0)] * 10)
    for number in range(LEAST_JOBS):
        speeds.ended(model(), ran(1.0), KEPT_S + 100 + number)
    assert told(speeds, now=KEPT_S + 110)[1:3] == (1.0, 1.0)
    for number in range(2 * KEPT_JOBS):
        speeds.ended(model(), ran(1.0), KEPT_S + 200 + number)
    assert len(speeds._models["m", "sha-m"].jobs) == KEPT_JOBS


def test_a_node_that_looked_slow_and_gets_no_jobs_is_unknown_again_after_a_while():
    speeds = learned(*[ran(9.0)] * 10)
    assert told(speeds, now=100)[1] == 9.0
    assert told(speeds, now=KEPT_S + 100) == (None,) * 4


@given(st.lists(st.floats(0.001, 1000), min_size=LEAST_JOBS, max_size=KEPT_JOBS))
def test_what_is_told_is_near_what_was_seen(firsts):
    _, median, slowest, _ = told(learned(*map(ran, firsts)))
    near = 1 + STEADY_SHARE
    assert min(firsts) / near <= median <= max(firsts) * near
    assert median <= slowest * near
    assert max(firsts) / near <= slowest <= max(firsts) * near


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(values, share):
    found = quantile(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


# --- deadlines ------------------------------------------------------------------------------------------------------------------------

LIMITS = Limits()
QUICK = replace(model(), tokens_per_s=50.0, first_token_s=0.3, first_token_p99_s=1.0)


def of(offered, max_tokens=1000, **more):
    found = deadlines_of(offered, max_tokens, LIMITS, **more)
    return found.first_token_s, found.idle_s, found.total_s


@pytest.mark.parametrize(
    ("offered", "max_tokens", "expected"),
    [
        (None, 1000, (90.0, 20.0, 900.0)),
        (model(), 1000, (10.0, 20.0, 900.0)),
        (model(is_loaded=False), 1000, (90.0, 20.0, 900.0)),
        (QUICK, 1000, (10.0, 20.0, 90.0)),
        (QUICK, 10, (10.0, 20.0, LEAST_TOTAL_S)),
        (QUICK, 100_000, (10.0, 20.0, 900.0)),
        (replace(QUICK, first_token_p99_s=7.0), 1000, (21.0, 20.0, 101.0)),
        (replace(QUICK, is_loaded=False, first_token_p99_s=40.0), 1000, (120.0, 20.0, 200.0)),
        (replace(QUICK, first_token_p99_s=5000.0), 1000, (900.0, 20.0, 900.0)),
    ],
)
def test_deadlines_follow_what_was_learned(offered, max_tokens, expected):
    assert of(offered, max_tokens) == expected


def test_a_long_prompt_has_time_to_be_read_but_no_more_than_a_load_takes():
    assert of(QUICK, prompt_bytes=4000)[0] == 20.0
    assert of(QUICK, prompt_bytes=10**9)[0] == 90.0


def test_a_node_that_lost_the_job_before_may_have_to_load_the_model_anew():
    assert of(QUICK, has_failed=True) == (90.0, 20.0, 170.0)


def test_shorter_limits_of_a_test_or_an_operator_hold():
    found = deadlines_of(QUICK, 1000, Limits(first_token_s=0.5, idle_s=0.2, total_s=3.0))
    assert (found.first_token_s, found.idle_s, found.total_s) == (3.0, 0.2, 3.0)


@given(
    st.booleans(), st.none() | st.floats(0.01, 1000), st.none() | st.floats(0.001, 600), st.integers(1, 10**6), st.integers(0, 10**7),
)  # fmt: skip
def test_no_deadline_is_longer_than_all_or_shorter_than_the_answer_needs(is_loaded, tokens_per_s, p99, max_tokens, prompt_bytes):
    offered = replace(model(is_loaded=is_loaded), tokens_per_s=tokens_per_s, first_token_p99_s=p99)
    first_token_s, _, total_s = of(offered, max_tokens, prompt_bytes=prompt_bytes)
    assert min(10.0, LIMITS.total_s) <= first_token_s <= LIMITS.total_s
    assert LEAST_TOTAL_S <= total_s <= LIMITS.total_s
    if tokens_per_s:
        assert total_s == LIMITS.total_s or total_s >= max_tokens / tokens_per_s
