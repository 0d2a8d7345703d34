"""What a runtime's lines become: text that every JSON reader takes, and numbers that are numbers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runtime.ollama import _embedded, _pieces, read_json

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=3),
    max_leaves=10,
)


@given(anything)
def test_half_surrogate_pairs_become_replacement_characters_and_whole_ones_characters(value):
    read = read_json(json.dumps(value))
    json.dumps(read, ensure_ascii=False).encode()  # every reader of UTF-8 takes it
    if "\\ud" not in json.dumps(value):
        assert read == value


@pytest.mark.parametrize(
    ("raw", "said"),
    [(rb'"\ud83d"', "\ufffd"), (rb'"a\ud83d\ude00b"', "a\U0001f600b"), (rb'{"\udc00": ["\ud800x"]}', {"\ufffd": ["\ufffdx"]})],
)
def test_what_json_lets_through_is_mended(raw, said):
    assert read_json(raw) == said
    assert read_json(raw.decode()) == said


def test_a_line_with_half_a_pair_is_told_with_a_replacement_character():
    [piece] = _pieces(rb'{"message":{"content":"hi \ud83d","tool_calls":[{"function":{"name":"\udfff"}}]}}')
    assert piece.content == "hi \ufffd"
    assert piece.tool_calls == ({"function": {"name": "\ufffd"}},)


@pytest.mark.parametrize("vector", [[float("nan")], [1.0, float("inf")], [float("-inf")]])
def test_a_vector_of_no_numbers_is_nonsense(vector):
    with pytest.raises(ValueError, match="vector"):
        _embedded({"embeddings": [vector]})
