"""What sampling should give: engines cut in different orders, and some requests cannot be rebuilt."""

import math
import random

import pytest

from cluster.audit.sampling import (
    NO_PENALTIES,
    Candidate,
    NotScorable,
    Order,
    Penalties,
    Sampling,
    orders_of,
    penalties_in,
    penalties_of,
    sampling_of,
    shaped,
)  # fmt: skip

USUAL = Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0.0)
LLAMA, OLLAMA = Order.TOP_P_FIRST, Order.TEMPERATURE_FIRST


def told(*probabilities):
    """Candidates 0, 1, … with these probabilities."""
    return [Candidate(token, math.log(probability)) for token, probability in enumerate(probabilities)]


def test_what_is_drawn_is_the_smallest_set_that_reaches_top_p_then_sharpened_by_the_temperature():
    may = shaped(told(0.5, 0.3, 0.15, 0.05), USUAL, LLAMA)
    assert set(may.drawn) == {0, 1, 2}
    weights = [probability ** (1 / 0.8) for probability in (0.5, 0.3, 0.15)]
    assert may.drawn == pytest.approx({token: weight / sum(weights) for token, weight in enumerate(weights)})
    assert may.rest == 0


def test_an_engine_that_sharpens_first_draws_from_fewer():
    sharp = Sampling(temperature=0.3, top_k=40, top_p=0.9, min_p=0.0)
    candidates = told(0.5, 0.3, 0.15, 0.05)
    assert set(shaped(candidates, sharp, LLAMA).drawn) == {0, 1, 2}
    assert set(shaped(candidates, sharp, OLLAMA).drawn) == {0, 1}
    assert set(shaped(candidates, Sampling(temperature=1.0, top_k=40, top_p=0.9, min_p=0.0), OLLAMA).drawn) == {0, 1, 2}


def test_top_k_and_min_p_cut_too():
    assert set(shaped(told(0.5, 0.3, 0.15, 0.05), Sampling(temperature=1, top_k=2, top_p=1, min_p=0), LLAMA).drawn) == {0, 1}
    assert set(shaped(told(0.5, 0.3, 0.15, 0.05), Sampling(temperature=1, top_k=40, top_p=1, min_p=0.4), LLAMA).drawn) == {0, 1}


def test_what_the_reference_does_not_tell_may_be_drawn_where_nothing_cuts_it_off():
    wide = Sampling(temperature=1, top_k=0, top_p=1, min_p=0)
    may = shaped(told(0.4, 0.3), wide, LLAMA)
    assert may.drawn == pytest.approx({0: 0.4, 1: 0.3})
    assert may.rest == pytest.approx(0.3)
    assert shaped(told(0.4, 0.3), Sampling(temperature=1, top_k=0, top_p=0.6, min_p=0), LLAMA).rest == 0


@pytest.mark.parametrize("order", Order)
def test_the_probabilities_sum_to_one_whatever_is_asked(order):
    rng = random.Random(5)
    for _ in range(300):
        weights = sorted((rng.random() ** 4 + 1e-9 for _ in range(40)), reverse=True)
        share = rng.uniform(0.2, 1) / sum(weights)
        sampling = Sampling(
            temperature=rng.uniform(0.05, 1.0), top_k=rng.choice([0, 1, 5, 40, 100]), top_p=rng.random(), min_p=rng.random()
        )
        may = shaped(told(*(weight * share for weight in weights)), sampling, order)
        assert sum(may.drawn.values()) + may.rest == pytest.approx(1)
        assert 0 in may.drawn


def test_a_request_that_leaves_options_open_is_sampled_as_usual():
    assert sampling_of({"messages": []}) == USUAL
    assert sampling_of({"options": {"temperature": 0, "top_k": None}}).is_greedy
    assert sampling_of({"options": {"temperature": 1.5, "top_k": 20}}).temperature == 1.5


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"tools": [{}]}, "tools"), ({"think": True}, "think"), ({"suffix": "x"}, "suffix"), ({"options": {"mirostat": 2}}, "mirostat"),
        ({"format": {"enum": ["a", "b"]}}, "format"), ({"options": {"temperature": 1.2, "top_k": 0}}, "temperature"),
        ({"options": {"repeat_penalty": 1.6}}, "repeat_penalty"), ({"options": {"presence_penalty": -0.1}}, "presence_penalty"),
        ({"options": {"frequency_penalty": 2.1}}, "frequency_penalty"),
        ({"messages": [{"role": "user", "content": "", "images": ["…"]}]}, "images"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "tool_calls"),
    ],
)  # fmt: skip
def test_what_cannot_be_rebuilt_is_not_scored_and_says_why(request_, why):
    with pytest.raises(NotScorable, match=why) as refused:
        sampling_of(request_)
    assert refused.value.why == why


def test_penalties_are_read_and_so_is_that_there_are_none():
    asked = {"repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 1, "repeat_last_n": -1}
    assert sampling_of({"options": asked}).penalties == Penalties(**asked)
    assert not Penalties(**asked).are_none
    for none in ({}, {"repeat_penalty": None}, {"repeat_last_n": 7}, {"repeat_penalty": 1.1, "repeat_last_n": 0}):
        assert penalties_of(none).are_none, none


def test_a_reference_is_asked_with_the_penalties_of_a_reading_whatever_its_model_was_created_with():
    asked = {"messages": [], "options": {"temperature": 0.1, "repeat_penalty": 1.3}}
    assert NO_PENALTIES.of(asked) == {
        "messages": [],
        "options": {"temperature": 0.1, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repeat_last_n": 64},
    }
    assert sampling_of(sampling_of(asked).penalties.of(asked)) == sampling_of(asked)
    assert NO_PENALTIES.of({})["options"]["repeat_penalty"] == 1.0


def test_penalties_may_be_ignored_by_runtimes_that_are_not_ours():
    asked = Penalties(presence_penalty=1.0)
    assert penalties_in("embedded 0.17.1", asked) == (asked,)
    assert penalties_in("ollama 0.20.0", asked) == penalties_in("", asked) == (asked, NO_PENALTIES)
    assert penalties_in("ollama 0.20.0", NO_PENALTIES) == (NO_PENALTIES,)


def test_formats_that_leave_strings_free_are_scored():
    assert sampling_of({"format": "json"}) == sampling_of({"format": {"type": "object"}}) == USUAL


def test_the_order_is_known_of_our_own_runtime_alone():
    assert orders_of("embedded 0.17.1") == (LLAMA,)
    assert orders_of("ollama 0.20.0") == orders_of("") == (LLAMA, OLLAMA)
