"""How attempts and nodes are written in the node protocol (design section 4)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from cluster.attempt_log import decode, encode
from cluster.jobs import Attempt, Deadlines, JobKind
from cluster.nodes import Gpu, Node, NodeKind, OfferedModel

BEAT_LINE = b'{"beat":true}\n'


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """Write an attempt."""
    said: dict[str, Any] = {
        "job": attempt.job, "attempt": attempt.number, "node": attempt.node, "kind": attempt.kind, "model": attempt.model,
        "model_digest": attempt.model_digest, "request": attempt.request, "max_tokens": attempt.max_tokens,
        "deadlines": [attempt.deadlines.first_token_s, attempt.deadlines.idle_s, attempt.deadlines.total_s],
    }  # fmt: skip
    if attempt.delivered:
        said["delivered"] = [encode(event).decode() for event in attempt.delivered]
    return said


def attempt_of(said: Any) -> Attempt:
    """Read an attempt.

    Raises:
        ValueError: It is not one.
    """
    try:
        first_token_s, idle_s, total_s = map(float, said["deadlines"])
        return Attempt(
            job=str(said["job"]), number=int(said["attempt"]), node=str(said["node"]), kind=JobKind(said["kind"]), model=str(said["model"]),
            model_digest=str(said["model_digest"]), request=dict(said["request"]), max_tokens=int(said["max_tokens"]),
            deadlines=Deadlines(first_token_s=first_token_s, idle_s=idle_s, total_s=total_s),
            delivered=tuple(decode(line.encode()) for line in said.get("delivered", ())),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ValueError(f"not an attempt: {wrong}") from wrong


def node_line(node: Node) -> bytes:
    """Write a node as a line."""
    return json.dumps({"node": asdict(node)}, separators=(",", ":")).encode() + b"\n"


def counts_line(node: Node) -> bytes:
    """Write what changes with every job as a line."""
    return json.dumps({"id": node.id, "running": node.running, "admitted": node.admitted}, separators=(",", ":")).encode() + b"\n"


def news_of(line: bytes, known: dict[str, Node]) -> Iterator[Node]:
    """Read a line of the watch: the node it is about, as it is now; nothing for a beat. `known` is kept up to date.

    Raises:
        ValueError: It is not such a line.
    """
    said = json.loads(line)
    try:
        if "node" in said:
            node = node_of(said["node"])
        elif "id" in said:
            node = replace(known[said["id"]], running=int(said["running"]), admitted=int(said["admitted"]))
        else:
            return
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not news of a node: {wrong}") from wrong
    known[node.id] = node
    yield node


def node_of(said: Mapping[str, Any]) -> Node:
    """Read a node.

    Raises:
        ValueError: It is not one.
    """
    try:
        rest = {name: value for name, value in said.items() if name not in {"kind", "models", "gpus"}}
        return Node(
            kind=NodeKind(said["kind"]),
            models=tuple(OfferedModel(**{**model, "capabilities": tuple(model["capabilities"])}) for model in said["models"]),
            gpus=tuple(Gpu(**gpu) for gpu in said["gpus"]),
            **rest,
        )
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not a node: {wrong}") from wrong
