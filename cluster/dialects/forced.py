"""Which tools a model may call, and which it must. Ollama cannot be told that a tool must be called, so the model is held to a schema instead.

`format` takes the schema of the tool's arguments; where several tools may be called, the model names its choice first: `{"name": …, "arguments": …}`.
Ollama does not put a schema into the prompt (Ollama reference 1.2), so a system text tells the model what it is to write. What it writes is
told as a call (`cluster/dialects/calls.py`). All this works for models that know no tools.
"""

import json
from dataclasses import dataclass
from typing import Any

from cluster.dialects.fields import Fields
from cluster.errors import InvalidRequest

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
MOST_NAMED = 300  # characters of the tools' names in an error
THE_ONE = "Answer by a call of this function. Write nothing but its arguments, as a JSON object that follows `parameters`:"
ONE_OF = (
    "Answer by a call of one of these functions. Write nothing but a JSON object of two members: `name`, the function's, and `arguments`, an "
    "object that follows its `parameters`:"
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request says of its tools. `must`: one is to be called, the one of that `name` if there is one."""

    may: bool = True
    must: bool = False
    name: str | None = None


def openais_choice(fields: Fields) -> Choice:
    """Read OpenAI's `tool_choice`, in the form of chats or of responses.

    Raises:
        InvalidRequest: It is neither.
    """
    fields.flag("parallel_tool_calls")
    match fields.body.get("tool_choice"):
        case None | "auto":
            return Choice()
        case "none":
            return Choice(may=False)
        case "required":
            return Choice(must=True)
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return Choice(must=True, name=name)
        case _:
            raise fields.wrong("tool_choice", '"auto", "none", "required" or a function by its name; nothing else is served')


def anthropics_choice(fields: Fields) -> Choice:
    """Read Anthropic's `tool_choice`.

    Raises:
        InvalidRequest: It is of another kind, or names no tool.
    """
    said = Fields(fields.mapping("tool_choice") or {}, "tool_choice")
    said.flag("disable_parallel_tool_use")
    match said.choice("type", "auto", "none", "any", "tool"):
        case "none":
            return Choice(may=False)
        case "any":
            return Choice(must=True)
        case "tool":
            if not (name := said.text("name")):
                raise said.wrong("name", "the tool's name")
            return Choice(must=True, name=name)
        case _:
            return Choice()


def add_tools(request: Json, capabilities: set[str], tools: list[Json], choice: Choice) -> tuple[str, ...]:
    """Put tools into a chat's request; answer the names of those of which one must be called.

    Raises:
        InvalidRequest: None of them can be.
    """
    if not choice.must:
        if tools and choice.may:
            request["tools"] = tools
            capabilities.add("tools")
        return ()
    functions = _functions(tools, choice)
    request["messages"] = _told(request["messages"], functions)
    request["format"] = functions[0]["parameters"] if len(functions) == 1 else _schema_of_any(functions)
    request.setdefault("think", False)  # thoughts would not follow the schema, and are not asked for
    return tuple(function["name"] for function in functions)


def _functions(tools: list[Json], choice: Choice) -> list[Json]:
    """Find the functions of which one is to be called, each with a name, a description and a schema of arguments."""
    functions = [_function(tool["function"], n) for n, tool in enumerate(tools) if choice.name in {None, tool["function"]["name"]}]
    if not tools:
        raise InvalidRequest("`tool_choice` wants a tool to be called, but there are no `tools`.", "tool_choice")
    if not functions:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise InvalidRequest(f"`tool_choice` names {str(choice.name)[:60]!r}, `tools` are {names[:MOST_NAMED]}.", "tool_choice")
    return functions


def _function(function: Json, n: int) -> Json:
    parameters = function.get("parameters") or NO_ARGUMENTS
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise InvalidRequest(f'The parameters of `tools[{n}]` must be a JSON schema of type "object".', f"tools[{n}]")
    return {"name": function["name"], "description": function.get("description") or "", "parameters": parameters}


def _told(messages: list[Json], functions: list[Json]) -> list[Json]:
    """Say what is to be written, at the end of the system text: many templates know only one, and only as the first message."""
    text = "\n".join([THE_ONE if len(functions) == 1 else ONE_OF, *map(json.dumps, functions)])
    if messages and messages[0]["role"] == "system":
        return [messages[0] | {"content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _schema_of_any(functions: list[Json]) -> Json:
    """Describe a call of any function. Each one's schema is a definition, and what it refers to in itself is referred to there."""
    definitions = {str(n): _moved(function["parameters"], f"#/$defs/{n}") for n, function in enumerate(functions)}
    calls = [
        {
            "type": "object", "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{n}"}},
            "required": ["name", "arguments"], "additionalProperties": False,
        }
        for n, function in enumerate(functions)
    ]  # fmt: skip
    return {"anyOf": calls, "$defs": definitions}


def _moved(schema: Any, to: str) -> Any:
    """Write a schema as it reads at another place of a document."""
    if isinstance(schema, list):
        return [_moved(one, to) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(one, to) for name, one in schema.items()}
    if isinstance(ref := schema.get("$ref"), str) and ref.startswith("#"):
        moved["$ref"] = to + ref[1:]
    return moved
