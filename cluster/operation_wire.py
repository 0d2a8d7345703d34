"""How operations on models are written in the node protocol: one object asks, NDJSON lines answer, the last one with `success` or `error`."""

import json
from typing import Any

from cluster.errors import ClusterError, OperationRefused
from cluster.model_operations import Action, Progress

SUCCESS = "success"
SUCCESS_LINE = b'{"status":"success"}\n'
MAX_NAME = 300


def asked_operation(said: Any) -> tuple[Action, str, bool]:
    """Read what is asked: the action, the model, and whether it is forced.

    Raises:
        ValueError: It is nothing that can be asked.
    """
    fields = said if isinstance(said, dict) else {}
    action, model, is_forced = fields.get("action"), fields.get("model"), fields.get("force", False)
    if action not in list(Action):
        raise ValueError(f"`action` is one of {', '.join(Action)}")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise ValueError(f"`model` is a name of 1 to {MAX_NAME} characters")
    if is_forced is not True and is_forced is not False:
        raise ValueError("`force` is true or false")
    return Action(action), model, is_forced


def progress_line(progress: Progress) -> bytes:
    """Write a step; bytes only where some are moved."""
    said: dict[str, Any] = {"status": progress.status, "elapsed_s": progress.elapsed_s}
    if progress.completed_bytes is not None:
        said["completed_bytes"] = progress.completed_bytes
    if progress.total_bytes is not None:
        said["total_bytes"] = progress.total_bytes
    return json.dumps(said).encode() + b"\n"


def refusal_line(failed: ClusterError) -> bytes:
    """Write how it failed."""
    return json.dumps({"error": str(failed), "hint": getattr(failed, "hint", "")}).encode() + b"\n"


def refusal_of(said: Any) -> OperationRefused:
    """Read how it failed."""
    if not isinstance(said, dict):
        return OperationRefused("the node did not say why it cannot")
    return OperationRefused(str(said.get("error") or "the node refused"), str(said.get("hint") or ""))
