"""Reads templates of Go's language into what they consist of. Pure. Their length and their depth are bounded."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cluster.runtime.go_template import FUNCTIONS, Assign, Block, Call, Expression, Literal, Node, Path, Print, TemplateError

MAX_TEMPLATE_BYTES = 64 * 1024
MAX_DEPTH = 32
_ACTION = re.compile(
    r"\{\{(?P<left>-\s)?\s*(?:/\*.*?\*/|(?P<inner>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?))(?P<right>\s-)?\}\}", re.DOTALL
)
_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<number>-?\d+)|(?P<variable>\$\w*(?:\.\w+)*)|(?P<field>\.(?:\w+(?:\.\w+)*)?)"
    r"|(?P<word>\w+)|(?P<sign>:=|[()|=,]))"
)


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
