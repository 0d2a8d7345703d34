"""Rules A and B: honest answers pass, those of another model do not; short answers wait for more."""

import math
import random

import pytest

from cluster.audit.pool import Pools
from cluster.audit.rules import CAP, MEAN_GAP, WINDOW, Judgment, Measure, Step, judge, measured, mildest, places, rule_of
from cluster.audit.sampling import Candidate, Order, Sampling, shaped

GREEDY = Sampling(temperature=0, top_k=40, top_p=0.9, min_p=0)
USUAL = Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0)
ORDER = Order.TOP_P_FIRST


def model(rng, blur=0.0):
    """The log-probabilities of 40 tokens, best first; `blur` moves each as another model's weights would."""
    plain = sorted((rng.gauss(0, 3) for _ in range(40)), reverse=True)
    moved = [logit + rng.gauss(0, blur) for logit in plain]
    return normal(plain), normal(moved)


def normal(logits):
    sum_ = math.log(sum(math.exp(logit) for logit in logits))
    return sorted((Candidate(token, logit - sum_) for token, logit in enumerate(logits)), key=lambda one: -one.logprob)


def answer(rng, sampling, tokens, blur=0.0):
    """An answer of `tokens` by a model whose logits are moved by `blur`, measured on the model itself."""
    steps = []
    for _ in range(tokens):
        plain, moved = model(rng, blur)
        if sampling.is_greedy:
            claimed = moved[0].token
        else:
            may = shaped(moved, sampling, ORDER).drawn
            claimed = rng.choices(list(may), weights=list(may.values()))[0]
        steps.append(Step(claimed, tuple(plain)))
    return [measured(step, sampling, ORDER) for step in steps]


@pytest.mark.parametrize("sampling", [GREEDY, USUAL])
def test_honest_answers_are_not_flagged_and_another_models_are(sampling):
    rng, rule = random.Random(12), rule_of(sampling)
    honest = [judge(rule, answer(rng, sampling, WINDOW[rule])) for _ in range(80)]
    other = [judge(rule, answer(rng, sampling, WINDOW[rule], blur=2.0)) for _ in range(20)]
    assert not any(one.is_flagged for one in honest)
    assert all(one.is_flagged for one in other)
    if rule == "B":  # z is what its name says, less what the forgiven place takes
        mean = sum(one.score for one in honest) / len(honest)
        assert -1 < mean < 0
        assert 0.7 < math.sqrt(sum((one.score - mean) ** 2 for one in honest) / len(honest)) < 1.2


def test_the_threshold_of_temperature_zero_would_accuse_everybody_who_samples():
    rng = random.Random(3)
    sampled = [judge("A", answer(rng, USUAL, 32)) for _ in range(20)]
    assert all(one.score > MEAN_GAP for one in sampled)


def test_a_gap_is_counted_from_the_best_and_capped():
    candidates = (Candidate(7, -0.1), Candidate(8, -3.0), Candidate(9, -9.0))
    assert [Step(token, candidates).gap for token in (7, 8, 9, 1000)] == pytest.approx([0, 2.9, CAP, CAP])


def test_two_places_that_could_not_have_been_drawn_are_enough_one_is_not():
    fine = [Measure(0.3, 0.3, 0.5)] * 20
    impossible = [Measure(0.3, 0.3, 0.5, is_outside=True)]
    assert not judge("B", [*fine, *impossible, *fine]).is_flagged
    assert not judge(
        "B", [*fine, Measure(CAP, 0.3, 0.5, is_outside=True), Measure(CAP, 0.3, 0.5, is_outside=True), *fine, *fine]
    ).is_flagged
    assert judge("B", [*fine, *impossible, *fine, *impossible, *fine, *impossible, *impossible]).is_flagged


@pytest.mark.parametrize("rule", ["A", "B"])
def test_one_place_where_the_text_is_cut_into_other_tokens_is_forgiven(rule):
    moved = [Measure(CAP, 0.0, 0.1, is_outside=rule == "B")] * 2
    fine = [Measure(0.0, 0.0, 0.1)] * 40
    assert not judge(rule, [*fine, *moved, *fine]).is_flagged
    assert judge(rule, [*fine, *moved, *fine, *moved, *fine]).is_flagged


def test_where_sampling_leaves_no_choice_another_kernels_noise_is_not_a_sign():
    sure = [Measure(0.01, 0.0, 0.0)] * 64
    assert not judge("B", sure).is_flagged
    assert judge("B", [Measure(0.3, 0.0, 0.0)] * 64).is_flagged


def test_of_several_orders_the_one_in_the_nodes_favor_counts():
    flagged = Judgment(rule="B", is_flagged=True, score=2.0, tokens=64, outside=3)
    clean = Judgment(rule="B", is_flagged=False, score=3.0, tokens=64, outside=1)
    assert mildest([flagged, clean]) is clean


def test_a_window_begins_anywhere_in_the_answer():
    answer = list(range(100))
    windows = [places([], answer, 64, random.Random(n).random()) for n in range(2000)]
    assert {window[0] for window in windows} == set(range(37))
    assert all(window == list(range(window[0], window[0] + 64)) for window in windows)
    assert places([], answer[:10], 64, 0.99) == list(range(10))


def test_what_repeats_itself_or_the_prompt_is_not_scored_for_every_model_goes_on_with_it():
    assert places([], [1, 2, 3, 4, *[5, 6] * 20], 64, 0.5) == list(range(9))
    assert places([1, 2, 3, 4, 5, 6], [7, 2, 3, 4, 5, 6, 8], 64, 0) == [0, 1, 2, 3, 6]
    assert places([1, 2], [], 64, 0) == []


def test_where_a_format_leaves_some_tokens_free_those_alone_are_scored():
    assert places([], list(range(10)), 64, 0, {2, 3, 7}) == [2, 3, 7]
    assert places([], [1, 2, 3, 4, *[5, 6] * 20], 64, 0, {3, 20}) == [3]
    assert places([], list(range(100)), 10, 0.99, set(range(50))) == list(range(40, 50))


def test_short_answers_wait_until_they_fill_a_window_of_their_node_and_model_and_rule():
    pools = Pools()
    short = [[Measure(0.2)] * 20]
    assert pools.judge(("node_1", "m"), "A", short) == 20
    assert pools.judge(("node_2", "m"), "A", short) == 20
    assert pools.judge(("node_1", "other"), "A", short) == 20
    assert pools.judge(("node_1", "m"), "B", short) == 20
    said = pools.judge(("node_1", "m"), "A", short)
    assert isinstance(said, Judgment)
    assert (said.is_flagged, said.tokens) == (True, 40)
    assert pools.judge(("node_1", "m"), "A", short) == 20  # it begins anew


def test_answers_that_are_read_in_several_ways_wait_apart_and_until_each_reading_has_enough():
    pools = Pools()
    one, two = [[Measure(0.0)] * 20], [[Measure(0.0)] * 20, [Measure(0.0)] * 10]
    assert pools.judge(("n", "m"), "A", one) == 20
    assert pools.judge(("n", "m"), "A", two) == 10
    assert pools.judge(("n", "m"), "A", two) == 20
    said = pools.judge(("n", "m"), "A", [[Measure(9.0)] * 20, [Measure(0.0)] * 20])
    assert isinstance(said, Judgment)
    assert (said.is_flagged, said.tokens) == (False, 40)  # the reading in the node's favor
    assert isinstance(pools.judge(("n", "m"), "A", one), Judgment)


def test_an_answer_that_fills_a_window_is_judged_alone():
    pools = Pools()
    pools.judge(("n", "m"), "A", [[Measure(4.0)] * 20])
    assert pools.judge(("n", "m"), "A", [[Measure(0.0)] * 32]) == Judgment(rule="A", is_flagged=False, score=0.0, tokens=32)


def test_pools_are_bounded_the_one_that_waits_longest_goes():
    pools = Pools(most=2)
    for n in range(3):
        pools.judge((f"node_{n}", "m"), "A", [[Measure(0.0)] * 20])
    assert isinstance(pools.judge(("node_2", "m"), "A", [[Measure(0.0)] * 20]), Judgment)
    assert pools.judge(("node_0", "m"), "A", [[Measure(0.0)] * 20]) == 20
