"""Job rows as values: what is written of a job, and what is read."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any


class JobState(IntEnum):
    """The internal states; an end state never changes."""

    QUEUED = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELED = 4


WIRE_STATES = {
    JobState.QUEUED: "PENDING",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELED: "CANCELED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it begins; `node` is None while it waits for one."""

    id: uuid.UUID
    user: str
    username: str
    key: str
    kind: str
    model: str
    node: str | None
    held: int
    request: str
    terms: str
    why: str
    prompt: str = ""  # its first characters
    is_sync: bool = True
    webhook: str | None = None  # the URL that is told of its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A job runs, or moved to another attempt. `served`: JSON of what earlier nodes served, where it goes on in the middle."""

    id: uuid.UUID
    attempt: int
    node: str
    is_running: bool
    served: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A job's end, on the node and by the attempt that it ended with. `owed` is what the ledger still has to be told."""

    id: uuid.UUID
    node: str | None
    attempt: int
    state: JobState
    is_incomplete: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    counted_by: str | None
    owed: str | None
    cost: int
    error: str | None
    result: str | None
    marks: str | None = None  # how the result was told (serve_app/store/answers.py)
    served: str | None = None  # JSON: what earlier nodes served of it
    why: str | None = None  # when there was more than the first decision
    weights: str | None = None  # digest of the model that answered
    receipt: str | None = None  # JSON: what the node that ended it vouched for


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A settlement that the ledger has not acknowledged. `served`: JSON of what earlier nodes served; `age_s`: since the job's end."""

    id: uuid.UUID
    what: str
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    node: str
    attempt: int
    served: str | None = None
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as it is kept."""

    id: uuid.UUID
    user: str
    username: str
    model: str
    state: JobState
    is_incomplete: bool
    attempt: int
    node: str | None
    held: int
    cost: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    counted_by: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    request: dict[str, Any]
    result: str | None
    marks: str | None
    why: list[dict[str, Any]]
    weights: str | None = None
    receipt: dict[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it changes any more but its settlement."""
        return self.state not in {JobState.QUEUED, JobState.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHead:
    """A job as lists show it: its row alone, without its texts."""

    id: uuid.UUID
    state: JobState
    prompt: str
    model: str
    cost: int | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A job whose driver was lost, now ours. `is_wanted`: it runs on by itself, or somebody reads it."""

    id: uuid.UUID
    user: str
    username: str
    key: str
    kind: str
    model: str
    state: JobState
    attempt: int
    node: str | None
    held: int
    is_wanted: bool
    is_sync: bool
    request: dict[str, Any]
    terms: dict[str, Any]
    served: str | None
    why: list[dict[str, Any]]
