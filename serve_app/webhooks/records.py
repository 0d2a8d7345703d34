"""Webhooks as values: endpoints, what is to be sent, and the log of deliveries."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from serve_app.webhooks.signing import Signer

JOB_EVENTS = ("job.succeeded", "job.failed", "job.canceled")  # in the order of the states of jobs, from the first end state on
TEST = "webhook.test"
GONE = 410  # the receiver says that it wants no more (Standard Webhooks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an account wants to hear of its jobs' ends. `key`: of this API key's jobs only."""

    id: uuid.UUID
    user: str
    key: str | None
    url: str
    events: tuple[str, ...]
    has_result: bool
    description: str
    version: int
    rotated_at: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_why: str | None
    created_at: datetime

    @property
    def signer(self) -> Signer:
        """Whose secret signs what goes there."""
        return Signer.of_endpoint(self.id, self.version, self.rotated_at)


class DeliveryState(IntEnum):
    """How far a delivery is."""

    PENDING = 0
    DELIVERED = 1
    GIVEN_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is ours to try now. `claim` names the try: what another one writes of it meanwhile stands. `age_s` counts from its first try on."""

    id: uuid.UUID
    claim: uuid.UUID
    user: str
    webhook: uuid.UUID | None
    job: uuid.UUID | None
    type: str
    url: str
    lane: str
    attempts: int
    age_s: float
    created_at: datetime
    has_result: bool
    signer: Signer | None  # None: the endpoint is gone or disabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A line of the log."""

    seq: int
    id: uuid.UUID
    webhook: uuid.UUID | None
    job: uuid.UUID | None
    type: str
    url: str
    state: DeliveryState
    attempts: int
    status: int | None
    error: str | None
    created_at: datetime
    tried_at: datetime | None
    next_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt: the receiver's status, or why there is none."""

    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.error is None
