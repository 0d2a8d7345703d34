"""The seam between two nodes' parts of one answer. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.continuation import MOST_AGAIN, Diverged, Seam, cut, raw_request, repeats


@pytest.mark.parametrize(
    ("said", "kept", "again"),
    [
        ("The capital of Fra", "The capital of", " Fra"),
        ("The capital of France", "The capital of", " France"),
        ("Ocea", "", "Ocea"),
        ("", "", ""),
        ("one\n\ntwo", "", "one\n\ntwo"),
        ("a b\n  c", "a", " b\n  c"),
        ("ends with a blank ", "ends with a", " blank "),
        ("words  apart here", "words  apart", " here"),
    ],
)
def test_a_text_is_cut_before_the_single_blank_of_its_last_word(said, kept, again):
    assert cut(said) == (kept, again)


def test_a_long_text_without_blanks_is_not_written_again():
    said = "x" * (MOST_AGAIN + 1)
    assert cut(said) == (said, "")


@given(st.text(max_size=200))
def test_nothing_is_lost_in_the_cut(said):
    assert "".join(cut(said)) == said


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.integers(1, 5), max_size=60))
def test_what_is_written_again_is_not_said_twice_however_it_is_chopped(again, new, sizes):
    text, pieces = again + new, []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    seam = Seam(again)
    assert "".join(map(seam.take, [*pieces, text])) == new
    assert seam.is_closed


def test_a_word_that_comes_out_otherwise_is_noticed_before_anything_is_said():
    seam = Seam(" Fra")
    assert seam.take(" F") == ""
    with pytest.raises(Diverged):
        seam.take("inland")


def test_what_takes_too_long_to_be_said_again_is_given_up():
    seam = Seam("a long story", late_at=10.0)
    assert seam.take("a long", now=9.0) == ""
    with pytest.raises(Diverged):
        seam.take(" story", now=11.0)


@pytest.mark.parametrize(
    ("options", "is_repeated"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 1, "seed": 3}, True),
        ({"seed": 0}, True),
        ({"temperature": 1}, False),
        ({"seed": -1}, False),
        ({}, False),
    ],
)
def test_only_what_sampling_repeats_is_said_again_from_the_beginning(options, is_repeated):
    assert repeats({"options": options}) is is_repeated


def test_sampling_goes_along():
    asked = {"messages": [], "options": {"temperature": 0.7, "stop": ["x"]}}
    assert raw_request(asked, "p") == {"raw": True, "prompt": "p", "options": {"temperature": 0.7, "stop": ["x"]}}
