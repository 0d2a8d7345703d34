"""How attempts and nodes are written in the node protocol (design section 4)."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cluster.attempt_log import decode, encode
from cluster.jobs import Attempt, Deadlines, JobKind
from cluster.nodes import Gpu, Node, NodeKind, OfferedModel


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
        raise ValueError(f"an attempt lacks {wrong}") from wrong


def node_json(node: Node) -> dict[str, Any]:
    """Write a node."""
    return asdict(node)


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
