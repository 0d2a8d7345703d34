"""What is told: messages as JSON. A frame of the socket is one message, or a list of them when several came at once. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.nodes import Snapshot
from ledger.client import credits_text, job_id
from serve_app.catalog import Catalog
from serve_app.live.changes import Change
from serve_app.store.counts import Totals
from serve_app.store.records import WIRE_STATES

MODELS_TOLD = 500
NAME_LETTERS = 200


class Kind(StrEnum):
    """What can be listened to."""

    JOBS = "jobs"
    STATS = "stats"
    MODELS = "models"
    BALANCE = "balance"
    PROVIDER_STATS = "provider_stats"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, written. `seq`: everything up to this number has been told with it; None where it says nothing of jobs."""

    type: str
    text: str
    seq: int | None = None


def message(type_: str, seq: int | None = None, **fields: Any) -> Message:
    """Write a message."""
    said = {"type": type_} | ({} if seq is None else {"seq": seq}) | fields
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    if not _is_text(text):  # half a surrogate pair in the name of a node's model would end every socket that it is sent on
        text = json.dumps(said, separators=(",", ":"))
    return Message(type_, text, seq)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


BALANCE_HINT = message("balance_update")
PROVIDER_HINT = message("provider_stats_update")


def frame_of(messages: Sequence[Message]) -> str:
    """Put messages into one frame."""
    if len(messages) == 1:
        return messages[0].text
    return f"[{','.join(one.text for one in messages)}]"


def event_of(messages: Iterable[Message]) -> bytes:
    """Write messages as server-sent events."""
    return "".join(
        ("" if one.seq is None else f"id: {one.seq}\n") + f"event: {one.type}\ndata: {one.text}\n\n" for one in messages
    ).encode()


def beat(seq: int) -> Message:
    """Say that nothing is new up to a number."""
    return message("beat", seq)


def error_message(code: str, detail: str) -> Message:
    """Say what was wrong with a frame."""
    return message("error", code=code, detail=detail)


def jobs_update(jobs: Iterable[Change], seq: int) -> Message:
    """Write the first page."""
    return message("jobs_update", seq, jobs=[row_of(one) for one in jobs])


class News:
    """A change as it is told: the whole row to who does not know the job yet, else what can have changed of it. Written once for all."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._written: dict[bool, Message] = {}

    def told_to(self, *, who_knows_it: bool) -> Message:
        """Write it, or take what was written."""
        if who_knows_it not in self._written:
            job = _news_of(self.change) if who_knows_it else row_of(self.change)
            self._written[who_knows_it] = message("job_update", self.change.number, job=job)
        return self._written[who_knows_it]


def row_of(change: Change) -> dict[str, Any]:
    """Write a job as lists show it."""
    return {
        "id": job_id(change.id), "status": WIRE_STATES[change.state], "prompt": change.prompt, "model": change.model, "cost": _cost(change),
        "created_at": change.created_at.isoformat(), "completed_at": change.ended_at.isoformat() if change.ended_at else None,
    }  # fmt: skip


def _news_of(change: Change) -> dict[str, Any]:
    news: dict[str, Any] = {"id": job_id(change.id), "status": WIRE_STATES[change.state]}
    if change.ended_at is not None:
        news |= {"cost": _cost(change), "completed_at": change.ended_at.isoformat()}
    return news


def _cost(change: Change) -> str | None:
    return None if change.cost is None else credits_text(change.cost)


def stats_update(snapshot: Snapshot, catalog: Catalog, totals: Totals) -> Message:
    """Write how much of the cluster there is now, and how much it has done."""
    return message(
        "stats_update", active_nodes=sum(node.is_healthy for node in snapshot.nodes.values()), total_jobs=totals.jobs,
        completed_jobs=totals.completed, available_models=sum(map(catalog.allows, snapshot.models())), waiting_jobs=sum(snapshot.waiting.values()),
    )  # fmt: skip


def models_update(snapshot: Snapshot, catalog: Catalog) -> Message:
    """Write which models are offered now, and by how many nodes; so many of them that a node with a million names hurts nobody."""
    offered = snapshot.models()
    names = [name for name in sorted(offered) if catalog.allows(name) and len(name) <= NAME_LETTERS][:MODELS_TOLD]
    return message("models_update", models=[{"name": name, "nodes": len(offered[name])} for name in names])
