"""Tools and images: what the dialects write differently and mean alike. Ours is Ollama's form."""

import base64
import binascii
import json
from typing import Any

from cluster.dialects.fields import Fields
from cluster.errors import InvalidRequest
from cluster.jobs import Text

MAX_TOOLS = 128
MAX_IMAGES = 16
IMAGE_TYPES = ("jpeg", "jpg", "png", "webp")
NOT_SERVED = "is not served: only functions of your own can be tools"


def function_tools(fields: Fields, name: str = "tools") -> list[dict[str, Any]]:
    """Read OpenAI's and Ollama's tools: `{type: "function", function: {name, …}}`.

    Raises:
        InvalidRequest: One is something else.
    """
    tools = fields.objects(name, MAX_TOOLS)
    for n, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type", "function") != "function":
            raise InvalidRequest(f"`{name}[{n}].type` {str(tool.get('type'))[:60]!r} {NOT_SERVED}.", f"{name}[{n}].type")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise InvalidRequest(f"`{name}[{n}].function` must be an object with a name.", f"{name}[{n}].function")
    return tools


def called(name: Any, arguments: Any, id_: Any, where: str) -> dict[str, Any]:
    """Write a call that the model made before; `arguments` as an object, or as OpenAI's text of one.

    Raises:
        InvalidRequest: It is none.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InvalidRequest(f"`{where}` must have a name and arguments: the text of a JSON object.", where)
    return {"id": id_ if isinstance(id_, str) else "", "function": {"name": name, "arguments": arguments}}


def calls_of(event: Text, first: int = 0) -> list[dict[str, Any]]:
    """The calls that an event carries, each with its number in the answer, an id, a name and arguments as an object."""
    calls = []
    for n, call in enumerate(event.tool_calls, first):
        function = call.get("function") or {}
        arguments = function.get("arguments")
        calls.append(
            {
                "index": n, "id": str(call.get("id") or f"call_{event.seq}_{n}"), "name": str(function.get("name") or ""),
                "arguments": arguments if isinstance(arguments, dict) else {},
            }
        )  # fmt: skip
    return calls


def image_of(url: Any, where: str) -> str:
    """Read an image from a `data:` URL: its base64 text.

    Raises:
        InvalidRequest: It is none, or of a kind that models do not read.
    """
    head, separator, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not separator or head not in {f"data:image/{kind};base64" for kind in IMAGE_TYPES}:
        raise InvalidRequest(f"`{where}` must be a data URL with base64 of a jpeg, png or webp image; addresses are not fetched.", where)
    return checked_base64(data, where)


def checked_base64(data: Any, where: str) -> str:
    """Check that a text is base64.

    Raises:
        InvalidRequest: It is not.
    """
    try:
        if isinstance(data, str) and data and base64.b64decode(data, validate=True):
            return data
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(f"`{where}` must be base64 of an image.", where)
