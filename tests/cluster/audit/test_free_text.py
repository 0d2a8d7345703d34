"""Where a format leaves an answer free: in strings that are values, and only for text that neither ends nor escapes them."""

import json
import math

import pytest

from cluster.audit.free_text import PLAIN_SHARE, Told, free_places, free_stretches, is_plain, leaves_strings_free, plain_of


def stretches(text):
    answer = text.encode()
    return [answer[start:stop].decode(errors="replace") for start, stop in free_stretches(answer) if stop > start]


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ('{"name": "a cod", "of": {"sea": "north"}, "in": ["ice", "salt", 3, {"deep": "very"}]}', ["a cod", "north", "ice", "salt", "very"]),
        ('{"open": "it goes on', ["it goes on"]),
        ('{"open": "ends in half an escape\\', ["ends in half an escape"]),
        ('"alone"', ["alone"]),
        ('["a", "b"]', ["a", "b"]),
        ('{"k": "one \\"two\\" \\n three \\\\ four"}', ["one ", "two", " ", " three ", " four"]),
        ('{"k": "up to \\u00e9 and no further", "next": "again"}', ["up to ", "again"]),
        ('{"k": "not \\\\u0041 an escape"}', ["not ", "u0041 an escape"]),
        ('{"a:b,{[": "signs in {a} [key], \\" too"}', ["signs in {a} [key], ", " too"]),
        ("", []), ("{}", []), ("no JSON } ] , : at all", []), ("}}]],", []),
    ],
)  # fmt: skip
def test_stretches_lie_in_strings_that_are_values_and_hold_no_escape(text, free):
    assert stretches(text) == free


def test_whatever_stands_in_a_text_is_found_again():
    words = ["salt", "a {b}", "c: [d], e", "ü 😀", "tab"]
    assert stretches(json.dumps({"x": words, "y": {"z": words}}, ensure_ascii=False)) == words * 2


def test_a_token_counts_when_all_of_it_is_plain_and_inside():
    texts = [b'{"', b"name", b'":', b' "', b"The", b" sea", b"\xf0\x9f", b"\x98\x80", b" is", b'."', b", ", b'"x": "', b"y", b'"}']
    assert free_places(texts) == {4, 5, 8, 12}
    assert free_places([b'{"a": "', b"b\\", b"nThe", b" sea", b'"}']) == {3}
    assert free_places([]) == set()


def test_an_answer_made_to_be_slow_is_not():
    assert len(free_places([b'["', *[b"a", b"\\n"] * 100_000])) == 100_000


@pytest.mark.parametrize("text", [b"", b'"', b"a\\", b"a\n", b"\x1f", b"\x7f", b"\xf0\x9f", b'say."'])
def test_what_ends_or_escapes_a_string_or_is_part_of_a_character_is_not_plain(text):
    assert not is_plain(text)


@pytest.mark.parametrize(
    ("form", "is_free"),
    [
        ("json", True), ({"type": "object"}, True), ({}, True),
        ({"type": "object", "properties": {"title": {"type": "string", "minLength": 1}, "n": {"type": ["integer", "null"]}}, "required": ["n"]}, True),
        ({"properties": {"format": {"type": "string"}, "enum": {"type": "array", "items": {"type": "string"}}}}, True),
        ({"properties": {"kind": {"enum": ["a", "b"]}}}, False),
        ({"properties": {"list": {"items": {"anyOf": [{"type": "number"}, {"const": "x"}]}}}}, False),
        ({"properties": {"day": {"type": "string", "format": "date"}}}, False),
        ({"properties": {"word": {"type": "string", "maxLength": 9}}}, False),
        ({"$defs": {"code": {"pattern": "^x$"}}, "properties": {"code": {"$ref": "#/$defs/code"}}}, False),
        ("xml", False), (["json"], False), (True, False),
    ],
)  # fmt: skip
def test_a_format_leaves_strings_free_when_it_says_nothing_of_them(form, is_free):
    assert leaves_strings_free(form) is is_free


def told(*pairs):
    return [Told(n, math.log(probability), text) for n, (probability, text) in enumerate(pairs)]


def test_a_step_counts_where_plain_text_is_almost_sure_and_its_probabilities_are_those_of_plain_text():
    said = told((0.6, b" sea"), (0.3, b" salt"), (0.015, b'."'))
    assert [(token, math.exp(logprob)) for token, logprob in plain_of(said)] == [
        (0, pytest.approx(0.6 / 0.985)), (1, pytest.approx(0.3 / 0.985)),
    ]  # fmt: skip
    assert plain_of(told((0.6, b" sea"), (0.3, b'."'))) == []
    assert plain_of(told((PLAIN_SHARE - 0.001, b" sea"), (1 - PLAIN_SHARE + 0.001, b"\n"))) == []
    assert plain_of([]) == []
