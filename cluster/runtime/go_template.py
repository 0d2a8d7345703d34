"""The part of Go's template language that chat templates use: parse a text once, write it with many values. Pure.

    {{ .Field }} {{ $name }} {{ $name := … }} {{ if … }} {{ else if … }} {{ else }} {{ end }} {{ range $i, $each := … }} {{ with … }}
    comments, {{- trimming -}}, pipes, parentheses; and or not eq ne lt le gt ge len index slice json

Templates come from anybody: their length, their depth, the steps that one writing takes and what it writes are bounded.
"""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

MAX_TEMPLATE_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_STEPS = 200_000
MAX_WRITTEN = 16 * 1024 * 1024
_ACTION = re.compile(
    r"\{\{(?P<left>-\s)?\s*(?:/\*.*?\*/|(?P<inner>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?))(?P<right>\s-)?\}\}", re.DOTALL
)
_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<number>-?\d+)|(?P<variable>\$\w*(?:\.\w+)*)|(?P<field>\.(?:\w+(?:\.\w+)*)?)"
    r"|(?P<word>\w+)|(?P<sign>:=|[()|=,]))"
)


class TemplateError(Exception):
    """The template cannot be read, or cannot be written with these values; says why."""


# --- what a template consists of --------------------------------------------------------------------------------------------------------


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


# --- reading ----------------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def parsed(text: str) -> tuple[Node, ...]:
    """Read a template.

    Raises:
        TemplateError: It cannot be read.
    """
    if len(text.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
        raise TemplateError(f"a template may have at most {MAX_TEMPLATE_BYTES} bytes")
    pieces = list(_pieces(text))
    nodes, ended_by = _Reader(pieces).nodes(0)
    if ended_by:
        raise TemplateError(f"unexpected {{{{ {ended_by} }}}}")
    return nodes


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Cut a text at its actions; (whether it is one, what stands there)."""
    place, trims = 0, False
    while (begin := text.find("{{", place)) >= 0:
        action = _ACTION.match(text, begin)
        if action is None:
            raise TemplateError("an action is not closed")
        plain = text[place:begin].lstrip() if trims else text[place:begin]
        yield False, plain.rstrip() if action["left"] else plain
        if action["inner"] is not None:  # and no comment
            yield True, action["inner"].strip()
        place, trims = action.end(), bool(action["right"])
    yield False, text[place:].lstrip() if trims else text[place:]


class _Reader:
    """Reads pieces into nodes, from the first to the last."""

    def __init__(self, pieces: Sequence[tuple[bool, str]]) -> None:
        self._pieces = pieces
        self._next = 0

    def nodes(self, depth: int) -> tuple[tuple[Node, ...], str]:
        """Read up to the action that ends this block: `end` or an `else`; empty at the end of the text."""
        if depth > MAX_DEPTH:
            raise TemplateError("blocks are nested too deeply")
        found: list[Node] = []
        while self._next < len(self._pieces):
            is_action, text = self._pieces[self._next]
            self._next += 1
            word = text.split(None, 1)[0] if text.split() else ""
            if not is_action:
                found += [text] if text else []
            elif word in {"end", "else"}:
                return tuple(found), text
            elif word in {"if", "with", "range"}:
                found.append(self._block(word, text[len(word) :], depth + 1))
            else:
                found.append(_action(text))
        if depth:
            raise TemplateError("a block has no {{ end }}")
        return tuple(found), ""

    def _block(self, kind: str, condition: str, depth: int) -> Block:
        variables, value = _declared(condition)
        body, ended_by = self.nodes(depth)
        otherwise: tuple[Node, ...] = ()
        if ended_by.startswith("else"):
            again = ended_by[4:].strip()
            if again:
                inner, _, rest = again.partition(" ")
                if inner not in {"if", "with"}:
                    raise TemplateError(f"unexpected {{{{ {ended_by} }}}}")
                return Block(kind, variables, value, body, (self._block(inner, rest, depth + 1),))
            otherwise, ended_by = self.nodes(depth)
        if ended_by != "end":
            raise TemplateError(f"unexpected {{{{ {ended_by} }}}}")
        return Block(kind, variables, value, body, otherwise)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise TemplateError(f"cannot read `{text[place : place + 40].strip()}`")
        found.append((str(token.lastgroup), token[str(token.lastgroup)]))
        place = token.end()
    return found


def _action(text: str) -> Node:
    tokens = _tokens(text)
    if len(tokens) > 2 and tokens[0][0] == "variable" and tokens[1][1] in {":=", "="}:
        return Assign(tokens[0][1], _expression(tokens[2:]), is_new=tokens[1][1] == ":=")
    return Print(_expression(tokens))


def _declared(text: str) -> tuple[tuple[str, ...], Expression]:
    """Read `$i, $each := value` or `value`."""
    tokens = _tokens(text)
    at = next((place for place, token in enumerate(tokens) if token == ("sign", ":=")), -1)
    names = tuple(name for kind, name in tokens[: max(at, 0)] if kind == "variable")
    return names, _expression(tokens[at + 1 :])


def _expression(tokens: list[tuple[str, str]]) -> Expression:
    found, rest = _pipeline(tokens, 0)
    if rest:
        raise TemplateError(f"unexpected `{rest[0][1]}`")
    return found


def _pipeline(tokens: list[tuple[str, str]], depth: int) -> tuple[Expression, list[tuple[str, str]]]:
    """Read commands joined by `|`: each value is the next one's last argument."""
    if depth > MAX_DEPTH:
        raise TemplateError("parentheses are nested too deeply")
    value, rest = _command(tokens, None, depth)
    while rest and rest[0] == ("sign", "|"):
        value, rest = _command(rest[1:], value, depth)
    return value, rest


def _command(tokens: list[tuple[str, str]], piped: Expression | None, depth: int) -> tuple[Expression, list[tuple[str, str]]]:
    operands: list[Expression] = []
    function: str | None = None
    rest = tokens
    while rest and rest[0] not in {("sign", ")"), ("sign", "|")}:
        (kind, text), rest = rest[0], rest[1:]
        if kind == "word" and text not in CONSTANTS:
            if function or operands or text not in FUNCTIONS:
                raise TemplateError(f"function `{text}` is not defined")
            function = text
        elif (kind, text) == ("sign", "("):
            inner, rest = _pipeline(rest, depth + 1)
            if not rest or rest[0] != ("sign", ")"):
                raise TemplateError("a parenthesis is not closed")
            operands, rest = [*operands, inner], rest[1:]
        else:
            operands.append(_operand(kind, text))
    if piped is not None:
        operands.append(piped)
    if function:
        return Call(function, tuple(operands)), rest
    if len(operands) != 1:
        raise TemplateError("a value is missing" if not operands else "a value is no function")
    return operands[0], rest


CONSTANTS = {"true": True, "false": False, "nil": None}


def _operand(kind: str, text: str) -> Expression:
    match kind:
        case "text":
            return Literal(_unquoted(text))
        case "number":
            return Literal(int(text))
        case "word":
            return Literal(CONSTANTS[text])
        case "variable":
            name, *names = text.split(".")
            return Path(name, tuple(names))
        case "field":
            return Path(None, tuple(name for name in text.split(".") if name))
    raise TemplateError(f"unexpected `{text}`")


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return str(json.loads(text.replace("\n", "\\n")))
    except ValueError as wrong:
        raise TemplateError(f"cannot read {text[:40]}") from wrong


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
