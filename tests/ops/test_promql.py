"""The reader of PromQL that the other tests trust, against what Prometheus's documentation says."""

import math

import pytest

from tests.ops.promql import NotPromQL, Scrapes, answer, read


def scrapes(*pages):
    """One scrape every ten seconds, from 100 on."""
    made = Scrapes()
    for n, page in enumerate(pages):
        made.add(100 + 10 * n, page)
    return made


def value_of(text, *pages):
    found = scrapes(*pages)
    return answer(read(text), found, found.taken[-1][0])


def only(result):
    [value] = result.values()
    return value


@pytest.mark.parametrize(
    "text",
    [
        "sum(",
        "a b",
        "rate(a)",
        "sum(rate(a[5m])",
        "absent(a[5m])",
        'a{b="c"',
        "a{b=c}",
        "nothing(a)",
        "a >",
        "sum by a (b)",
        "a[5]",
        "5 % a",
        "a)",
    ],
)
def test_what_prometheus_would_not_read_is_refused(text):
    with pytest.raises(NotPromQL):
        read(text)


def test_operators_bind_as_documented():
    assert value_of("1 + 2 * 3 - 4 / 2", "") == 5.0
    assert value_of("a + 1 > 2 and b or c", 'a 1\nb 1\nc{x="y"} 7') == {frozenset({("x", "y")}): 7.0}


def test_a_comparison_keeps_what_holds_with_its_value():
    page = 'a{x="1"} 5\na{x="2"} 1'
    assert value_of("a > 3", page) == {frozenset({("x", "1")}): 5.0}
    assert value_of("100 - a < 96", page) == {frozenset({("x", "1")}): 95.0}


def test_matchers():
    page = 'a{s="200"} 1\na{s="503"} 2\na{s="502"} 4'
    assert only(value_of('sum(a{s=~"5.."})', page)) == 6
    assert only(value_of('sum(a{s!~"5..", s!="404"})', page)) == 1


def test_aggregation_by_labels():
    page = 'a{x="1", y="1"} 1\na{x="1", y="2"} 2\na{x="2", y="1"} 4'
    assert value_of("sum by (x) (a)", page) == {frozenset({("x", "1")}): 3.0, frozenset({("x", "2")}): 4.0}
    assert only(value_of("count(a)", page)) == 3
    assert only(value_of("max(a)", page)) == 4


def test_rate_and_increase_survive_a_restart():
    assert only(value_of("rate(a[1m])", "a 1", "a 21")) == 2
    assert only(value_of("increase(a[1m])", "a 100", "a 110", "a 3")) == 13
    assert value_of("rate(a[1m])", "", "a 5") == {}  # one value says nothing


def test_absent():
    assert value_of("absent(a)", "a 0") == {}
    assert only(value_of("absent(a)", "a 0", "b 1")) == 1


def test_a_vector_is_kept_where_another_has_the_same_label():
    page = 'a{w="1", x="q"} 5\na{w="2", x="q"} 6\ntold{w="1"} 99\ntold{w="2"} 10'
    assert only(value_of("a and on (w) (time() - told < 60)", page)) == 5


def test_quantiles_are_interpolated():
    page = 'b{le="1"} 50\nb{le="2"} 100\nb{le="+Inf"} 100'
    assert only(value_of("histogram_quantile(0.75, sum by (le) (b))", page)) == 1.5
    assert math.isnan(only(value_of("histogram_quantile(0.75, sum by (le) (b))", 'b{le="1"} 0\nb{le="+Inf"} 0')))
    assert only(value_of("histogram_quantile(0.99, sum by (le) (b))", 'b{le="1"} 1\nb{le="+Inf"} 100')) == 1  # beyond the last bound
