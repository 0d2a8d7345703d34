"""The part of PromQL that boards and rules use: read it, and answer it from scrapes. What is not read here is not used there.

Rates are what was counted between the first and the last scrape of a window, per second of the time between them; Prometheus extrapolates to
the window's edges, which changes no answer to whether something happens.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w])|(?P<duration>\d+[smhd])|(?P<word>[a-zA-Z_:][\w:]*)|(?P<text>"[^"\\]*")|(?P<sign>==|!=|>=|<=|=~|!~|[-+*/<>=(){}\[\],]))"""
)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
AGGREGATIONS = {"sum": math.fsum, "max": max, "min": min, "count": len}
COMPARISONS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
SUMS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
PRODUCTS = {"*": lambda a, b: a * b, "/": lambda a, b: a / b if b else math.nan if a == 0 or math.isnan(a) else math.inf}
LEVELS = (("or",), ("and", "unless"), tuple(COMPARISONS), tuple(SUMS), tuple(PRODUCTS))  # loosest first
OF_RANGES = {"rate", "increase"}
FUNCTIONS = OF_RANGES | {"absent", "time", "histogram_quantile"}
MATCHES = {
    "=": lambda value, wanted: value == wanted, "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, wanted: re.fullmatch(wanted, value) is not None, "!~": lambda value, wanted: re.fullmatch(wanted, value) is None,
}  # fmt: skip


class NotPromQL(Exception):
    """The text is not what Prometheus would read, or more than is read here."""


# --- what was read -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Selector:
    name: str
    matchers: tuple[tuple[str, str, str], ...]
    range_s: float | None = None


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple


@dataclass(frozen=True)
class Aggregation:
    operator: str
    by: tuple[str, ...]
    of: object


@dataclass(frozen=True)
class Binary:
    operator: str
    left: object
    right: object
    on: tuple[str, ...] | None


class Reader:
    """Reads an expression by descent, level by level of what binds more."""

    def __init__(self, text):
        self.text, self.tokens, place = text, [], 0
        while place < len(text.rstrip()):
            found = TOKEN.match(text, place)
            if not found:
                raise NotPromQL(f"{text[place:]!r} cannot be read in {text!r}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            place = found.end()
        self.tokens.append(("end", ""))

    def read(self):
        expression = self.level(0)
        if self.kind != "end":
            raise NotPromQL(f"`{self.word}` is too much in {self.text!r}")
        return expression

    @property
    def kind(self):
        return self.tokens[0][0]

    @property
    def word(self):
        return self.tokens[0][1]

    def take(self, *wanted):
        if wanted and self.word not in wanted:
            raise NotPromQL(f"{' or '.join(wanted)} is missing before `{self.word}` in {self.text!r}")
        return self.tokens.pop(0)[1]

    def take_kind(self, kind):
        if self.kind != kind:
            raise NotPromQL(f"a {kind} is missing before `{self.word}` in {self.text!r}")
        return self.tokens.pop(0)[1]

    def level(self, depth):
        if depth == len(LEVELS):
            return self.value()
        left = self.level(depth + 1)
        while self.word in LEVELS[depth]:
            operator = self.take()
            on = self.labels() if self.word == "on" and self.take() else None
            left = Binary(operator, left, self.level(depth + 1), on)
        return left

    def labels(self):
        self.take("(")
        found = []
        while self.word != ")":
            found.append(self.take_kind("word"))
            if self.word != ")":
                self.take(",")
        self.take(")")
        return tuple(found)

    def value(self):
        if self.kind == "number":
            return Number(float(self.take()))
        if self.word == "(":
            self.take()
            inner = self.level(0)
            self.take(")")
            return inner
        name = self.take_kind("word")
        if name in AGGREGATIONS:
            by = self.labels() if self.word == "by" and self.take() else ()
            self.take("(")
            of = self.level(0)
            self.take(")")
            return Aggregation(name, by, of)
        if self.word == "(":
            return self.call(name)
        return self.selector(name)

    def call(self, name):
        if name not in FUNCTIONS:
            raise NotPromQL(f"the function `{name}` is not known in {self.text!r}")
        self.take("(")
        arguments = []
        while self.word != ")":
            arguments.append(self.level(0))
            if self.word != ")":
                self.take(",")
        self.take(")")
        has_range = any(isinstance(one, Selector) and one.range_s for one in arguments)
        if has_range != (name in OF_RANGES):
            raise NotPromQL(f"`{name}` wants {'a range' if name in OF_RANGES else 'no range'} in {self.text!r}")
        return Call(name, tuple(arguments))

    def selector(self, name):
        matchers = []
        if self.word == "{":
            self.take()
            while self.word != "}":
                label, operator = self.take_kind("word"), self.take(*MATCHES)
                matchers.append((label, operator, self.take_kind("text").strip('"')))
                if self.word != "}":
                    self.take(",")
            self.take("}")
        range_s = None
        if self.word == "[":
            self.take()
            range_s = seconds(self.take_kind("duration"))
            self.take("]")
        return Selector(name, tuple(matchers), range_s)


def seconds(duration):
    return int(duration[:-1]) * SECONDS[duration[-1]]


def read(text):
    return Reader(text).read()


def selectors(expression, around=frozenset()):
    """List what is looked up; each with the labels that are used around it."""
    match expression:
        case Selector():
            return [(expression, around)]
        case Call(arguments=arguments):
            return [one for argument in arguments for one in selectors(argument, around)]
        case Aggregation(by=by, of=of):
            return selectors(of, around | set(by))
        case Binary(operator=operator, left=left, right=right, on=on):
            matched = frozenset(on or ())
            return [*selectors(left, around | matched), *selectors(right, matched if operator in {"and", "unless"} else around | matched)]
    return []


# --- scrapes and answers ------------------------------------------------------------------------------------------------------------------


@dataclass
class Scrapes:
    """What was scraped, and when; a target that did not answer is not in its scrape."""

    taken: list[tuple[float, dict]] = field(default_factory=list)

    def add(self, at, *pages):
        series = defaultdict(dict)
        for page in pages:
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    series[sample.name][frozenset(sample.labels.items())] = sample.value
        self.taken.append((at, dict(series)))

    def now(self, selector, at):
        """The series of the newest scrape."""
        found = [series for time, series in self.taken if time <= at]
        return _matching(found[-1], selector) if found else {}

    def window(self, selector, at):
        """The values of each series in a window, oldest first, with their times."""
        values = defaultdict(list)
        for time, series in self.taken:
            if at - selector.range_s < time <= at:
                for labels, value in _matching(series, selector).items():
                    values[labels].append((time, value))
        return values


def _matching(series, selector):
    def suits(labels):
        known = dict(labels)
        return all(MATCHES[operator](known.get(label, ""), wanted) for label, operator, wanted in selector.matchers)

    return {labels: value for labels, value in series.get(selector.name, {}).items() if suits(labels)}


def answer(expression, scrapes, at):
    """Answer an expression at a time: a number, or numbers by labels."""
    match expression:
        case Number(value):
            return value
        case Selector():
            return scrapes.now(expression, at)
        case Call(function, arguments):
            return _call(function, arguments, scrapes, at)
        case Aggregation(operator, by, of):
            groups = defaultdict(list)
            for labels, value in answer(of, scrapes, at).items():
                groups[_only(labels, by)].append(value)
            return {labels: float(AGGREGATIONS[operator](values)) for labels, values in groups.items()}
        case Binary(operator, left, right, on):
            return _binary(operator, answer(left, scrapes, at), answer(right, scrapes, at), on)
    raise AssertionError(expression)


def _only(labels, names):
    return frozenset((name, value) for name, value in labels if name in names)


def _call(function, arguments, scrapes, at):
    if function == "time":
        return at
    if function in OF_RANGES:
        found = {}
        for labels, values in scrapes.window(arguments[0], at).items():
            if len(values) > 1:
                grown = math.fsum(b - a if b >= a else b for (_, a), (_, b) in pairwise(values))
                found[labels] = grown / (values[-1][0] - values[0][0]) if function == "rate" else grown
        return found
    if function == "absent":
        return {} if answer(arguments[0], scrapes, at) else {frozenset(): 1.0}
    part = answer(arguments[0], scrapes, at)
    groups = defaultdict(list)
    for labels, value in answer(arguments[1], scrapes, at).items():
        groups[frozenset(one for one in labels if one[0] != "le")].append((float(dict(labels)["le"]), value))
    return {labels: _quantile(part, sorted(buckets)) for labels, buckets in groups.items()}


def _quantile(part, buckets):
    """Interpolate within the bucket where the quantile falls, as Prometheus documents it."""
    total = buckets[-1][1]
    if not total:
        return math.nan
    below_bound = below = 0.0
    for bound, count in buckets:
        if count >= part * total:
            return below_bound if math.isinf(bound) else below_bound + (bound - below_bound) * (part * total - below) / (count - below)
        below_bound, below = bound, count
    return below_bound


def _binary(operator, left, right, on):
    def key(labels):
        return labels if on is None else _only(labels, on)

    if operator in {"and", "or", "unless"}:
        there, ours = {key(labels) for labels in right}, {key(labels) for labels in left}
        if operator == "or":
            return left | {labels: value for labels, value in right.items() if key(labels) not in ours}
        return {labels: value for labels, value in left.items() if (key(labels) in there) == (operator == "and")}
    compares, work = operator in COMPARISONS, (COMPARISONS | SUMS | PRODUCTS)[operator]
    if not isinstance(left, dict) and not isinstance(right, dict):
        return float(work(left, right))
    if not isinstance(left, dict):
        pairs = [(labels, left, value) for labels, value in right.items()]
        return {labels: b if compares else work(a, b) for labels, a, b in pairs if not compares or work(a, b)}
    others = {key(labels): value for labels, value in right.items()} if isinstance(right, dict) else None
    pairs = [(labels, value, right if others is None else others.get(key(labels))) for labels, value in left.items()]
    return {labels: a if compares else work(a, b) for labels, a, b in pairs if b is not None and (not compares or work(a, b))}
