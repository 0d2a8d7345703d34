"""Writes a chat as a prompt with a template of Ollama's kind (Ollama reference 1.3, `template`). Pure."""

from typing import Any

from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.go_reading import parsed
from cluster.runtime.go_template import Node, TemplateError, written

ANSWER_FOLLOWS = "\x00answer\x00"  # marks where the answer to the last turn begins; no text of a chat may hold it


def require_template(template: Any) -> str:
    """Check a template as sent; empty means none.

    Raises:
        BadRequest: It cannot be read.
    """
    if not isinstance(template, str):
        raise BadRequest("json: template must be a string")
    if "{%" in template:
        raise BadRequest("template error: write the template in Go's language, as Ollama does; only a model's own file may hold another")
    try:
        parsed(template)
    except TemplateError as wrong:
        raise BadRequest(f"template error: {wrong}") from wrong
    return template


def prompt_of(template: str, messages: list[Json]) -> str:
    """Write a chat; a template that knows `.Messages` writes all at once, another one turn by turn.

    Raises:
        BadRequest: The template does not fit.
    """
    try:
        nodes = parsed(template)
        if ".Messages" in template:
            return written(nodes, _values(_joined(messages)))
        return _turn_by_turn(nodes if ".Response" in template else (*nodes, *parsed("{{ .Response }}")), _joined(messages))
    except TemplateError as wrong:
        raise BadRequest(f"template error: {wrong}") from wrong


def _joined(messages: list[Json]) -> list[Json]:
    """Make one message of neighbors that have the same role."""
    joined: list[Json] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = joined[-1] | {"content": f"{joined[-1]['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return joined


def _values(messages: list[Json]) -> Json:
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return {
        "System": system,
        "Messages": [{"Role": message["role"], "Content": message["content"]} for message in messages],
        "Response": "",
    }


def _turn_by_turn(nodes: tuple[Node, ...], messages: list[Json]) -> str:
    """Write system, prompt and response of each turn; the last one up to where its response ends."""
    texts: list[str] = []
    turn = {"System": "", "Prompt": "", "Response": ""}

    def write() -> None:
        texts.append(written(nodes, turn))
        turn.update(System="", Prompt="", Response="")

    for message in messages:
        match message["role"]:
            case "system":
                if turn["Prompt"] or turn["Response"]:
                    write()
                turn["System"] = message["content"]
            case "assistant":
                turn["Response"] = message["content"]
            case _:
                if turn["Response"]:
                    write()
                turn["Prompt"] = message["content"]
    last = written(nodes, turn | {"Response": turn["Response"] + ANSWER_FOLLOWS})
    return "".join(texts) + last.partition(ANSWER_FOLLOWS)[0]
