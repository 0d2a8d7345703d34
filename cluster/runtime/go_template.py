"""The part of Go's template language that chat templates use: what a template consists of, and how it is written with values. Pure.

    {{ .Field }} {{ $name }} {{ $name := … }} {{ if … }} {{ else if … }} {{ else }} {{ end }} {{ range $i, $each := … }} {{ with … }}
    comments, {{- trimming -}}, pipes, parentheses; and or not eq ne lt le gt ge len index slice json

`go_reading.py` reads them. Templates come from anybody: the steps that one writing takes and what it writes are bounded.
"""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_STEPS = 200_000
MAX_WRITTEN = 16 * 1024 * 1024


class TemplateError(Exception):
    """The template cannot be read, or cannot be written with these values; says why."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the template."""

    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """Fields of the dot, or of a variable (`$` is what the template was given)."""

    variable: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple["Expression", ...]


Expression = Literal | Path | Call


@dataclass(frozen=True, slots=True)
class Print:
    """Write a value."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a variable a value."""

    name: str
    value: Expression
    is_new: bool


@dataclass(frozen=True, slots=True)
class Block:
    """`if`, `with` and `range`: what is written when there is something, and what otherwise."""

    kind: str
    variables: tuple[str, ...]
    value: Expression
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


Node = str | Print | Assign | Block


# --- writing ----------------------------------------------------------------------------------------------------------------------------


def written(template: tuple[Node, ...], values: Mapping[str, Any]) -> str:
    """Write a template with these values; what they do not hold is empty.

    Raises:
        TemplateError: It does not fit the values, or takes too long.
    """
    writer = _Writer(values)
    writer.write(template, values, [{}])
    return "".join(writer.pieces)


@dataclass(slots=True)
class _Writer:
    root: Mapping[str, Any]
    pieces: list[str] = field(default_factory=list)
    steps: int = 0
    length: int = 0

    def write(self, nodes: Sequence[Node], dot: Any, scopes: list[dict[str, Any]]) -> None:
        for node in nodes:
            self.steps += 1
            if self.steps > MAX_STEPS or self.length > MAX_WRITTEN:
                raise TemplateError("the template writes too much")
            match node:
                case str():
                    self._put(node)
                case Print(value):
                    self._put(_shown(self.value(value, dot, scopes)))
                case Assign(name, value, is_new):
                    scope = scopes[-1] if is_new else next((one for one in reversed(scopes) if name in one), None)
                    if scope is None:
                        raise TemplateError(f"variable {name} is not defined")
                    scope[name] = self.value(value, dot, scopes)
                case Block():
                    self._write_block(node, dot, scopes)

    def _put(self, text: str) -> None:
        self.pieces.append(text)
        self.length += len(text)

    def _write_block(self, block: Block, dot: Any, scopes: list[dict[str, Any]]) -> None:
        value = self.value(block.value, dot, scopes)
        if not value:
            self.write(block.otherwise, dot, [*scopes, {}])
        elif block.kind == "range":
            for key, each in _items(value):
                bound = dict(zip(reversed(block.variables), (each, key), strict=False))
                self.write(block.body, each, [*scopes, bound])
        else:
            inner = value if block.kind == "with" else dot
            self.write(block.body, inner, [*scopes, dict.fromkeys(block.variables[:1], value)])

    def value(self, expression: Expression, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        match expression:
            case Literal(value):
                return value
            case Path(variable, names):
                found = dot if variable is None else self._variable(variable, scopes)
                for name in names:
                    found = found.get(name) if isinstance(found, Mapping) else None
                return found
            case Call(function, arguments):
                self.steps += 1
                try:
                    return FUNCTIONS[function](*(self.value(argument, dot, scopes) for argument in arguments))
                except (TypeError, ValueError, LookupError) as wrong:
                    raise TemplateError(f"{function}: {wrong}") from wrong

    def _variable(self, name: str, scopes: list[dict[str, Any]]) -> Any:
        if name == "$":
            return self.root
        for scope in reversed(scopes):
            if name in scope:
                return scope[name]
        raise TemplateError(f"variable {name} is not defined")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    else:
        raise TemplateError(f"range can't iterate over {_shown(value)[:40]}")


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple() | dict():
            return json.dumps(value)
    return str(value)


def _first_without(values: Sequence[Any]) -> Any:
    return next((value for value in values if not value), values[-1])


def _first_with(values: Sequence[Any]) -> Any:
    return next((value for value in values if value), values[-1])


def _at(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value[key]
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: _first_without(values),
    "or": lambda *values: _first_with(values),
    "not": operator.not_,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "len": len,
    "index": _at,
    "slice": lambda value, *places: value[slice(*(places if len(places) != 1 else (places[0], None)))],
    "json": json.dumps,
}
