"""A job's steps as spans for an OpenTelemetry collector.

The job's id is the trace's id, and names the span of the whole job too: so whoever goes on with a job, another replica after a crash or the
loop that settles, adds to the same trace, and nothing has to be handed on or kept. Spans tell names, nodes, counts and outcomes, never a
prompt, an answer or a key. What cannot be sent is dropped: no job waits for a collector.

Source: OpenTelemetry's specification of traces, and of OTLP over HTTP.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

from serve_app.tracing.steps import Fact

MOST_KEPT = 4096  # spans that wait to be sent; more are dropped
BATCH = 512
SEND_EVERY_S = 2.0
SEND_LIMIT_S = 5.0


class _Ids(RandomIdGenerator):
    """Makes ids at random, but for the span of a whole job."""

    job: uuid.UUID | None = None

    def generate_trace_id(self) -> int:
        return self.job.int if self.job else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return _span_of(self.job) if self.job else super().generate_span_id()


class CollectedTraces:
    """Sends spans to a collector, in the background. `share`: of all jobs; which ones follows from their ids, so a trace is whole or not there."""

    def __init__(self, url: str, share: float, instance: str) -> None:
        self._share = share
        self._ids = _Ids()
        self._provider = TracerProvider(
            ALWAYS_ON, Resource({"service.name": "gfe-serve", "service.instance.id": instance}), id_generator=self._ids, shutdown_on_exit=False
        )  # fmt: skip
        sender = OTLPSpanExporter(url, timeout=SEND_LIMIT_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(sender, max_queue_size=MOST_KEPT, schedule_delay_millis=1000 * SEND_EVERY_S, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer("gfe")

    @contextmanager
    def step(self, job: uuid.UUID, name: str, /, **facts: Fact) -> Iterator[None]:
        """Tell a step of a job: what is done inside, and whether it failed."""
        if not self._tells_of(job):
            yield
            return
        span = self._tracer.start_span(name, _within(job), SpanKind.CLIENT, _attributes(facts))
        try:
            yield
        except Exception as failed:
            span.set_status(Status(StatusCode.ERROR, type(failed).__name__))
            raise
        finally:
            span.end()

    def whole(self, job: uuid.UUID, began: float, /, *, is_failed: bool, **facts: Fact) -> None:
        """Tell a job that ended now; `began` in monotonic seconds."""
        if not self._tells_of(job):
            return
        now_ns = time.time_ns()
        began_ns = now_ns - int(1e9 * (time.monotonic() - began))
        self._ids.job = job
        span = self._tracer.start_span("job", Context(), SpanKind.SERVER, _attributes(facts), start_time=began_ns)
        self._ids.job = None
        if is_failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now_ns)

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()

    def _tells_of(self, job: uuid.UUID) -> bool:
        return job.int % 2**32 < self._share * 2**32


def _span_of(job: uuid.UUID) -> int:
    return job.int % 2**64


def _within(job: uuid.UUID) -> Context:
    whole = SpanContext(job.int, _span_of(job), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(whole), Context())


def _attributes(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {f"gfe.{name}": fact for name, fact in facts.items()}
