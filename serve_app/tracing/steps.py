"""A job's steps, told to whom the operator wants to know: hold, record, wait, attempt, end, settle. By default nobody.

`serve_app/tracing/otlp.py` sends them to an OpenTelemetry collector.
"""

import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from serve_app.settings import ServeSettings

Fact = str | int | float | bool


class Traces(Protocol):
    """Where a job's steps are told. `facts` become attributes under `gfe.`."""

    def step(self, job: uuid.UUID, name: str, /, **facts: Fact) -> AbstractContextManager[None]:
        """Tell a step of a job: what is done inside."""

    def whole(self, job: uuid.UUID, began: float, /, *, is_failed: bool, **facts: Fact) -> None:
        """Tell a job that ended now; `began` in monotonic seconds."""

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""


class NoTraces:
    """Tells nobody."""

    def step(self, job: uuid.UUID, name: str, /, **facts: Fact) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def whole(self, job: uuid.UUID, began: float, /, *, is_failed: bool, **facts: Fact) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def traces_of(settings: ServeSettings, instance: str) -> Traces:
    """Make what the settings ask for."""
    if not settings.traces_url:
        return NoTraces()
    from serve_app.tracing.otlp import CollectedTraces  # noqa: PLC0415 - a second and 20 MB, for those who want it

    return CollectedTraces(settings.traces_url, settings.traces_share, instance)
