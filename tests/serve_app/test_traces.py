"""A job's trace, as a real collector is told of it."""

import asyncio
import uuid

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from ledger.client import uuid_of_job
from serve_app.settings import ServeSettings
from serve_app.tracing.otlp import CollectedTraces
from serve_app.tracing.steps import NoTraces, traces_of
from tests.edge_platform import free_port

SECRET = "a word that nobody else may read"


class Collector:
    """An OTLP receiver on loopback."""

    def __init__(self):
        self.bodies, self.spans, self.services = [], [], set()

    async def take(self, request):
        self.bodies.append(await request.read())
        found = ExportTraceServiceRequest.FromString(self.bodies[-1])
        for resource in found.resource_spans:
            self.services |= {one.value.string_value for one in resource.resource.attributes if one.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    def named(self, name):
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@pytest.fixture
async def collector():
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield found
    await runner.cleanup()


def facts_of(span):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def told(traces, platform):
    await platform.settled()
    await asyncio.to_thread(traces.close)


async def test_a_job_is_one_trace_from_its_hold_to_its_settlement(platform_with, collector):
    traces = CollectedTraces(collector.url, 1.0, "replica_a")
    platform = await platform_with(traces=traces)
    answer = await platform.chat(text=SECRET)
    job = answer.headers["X-GFE-Job"]
    await told(traces, platform)
    assert collector.services == {"gfe-serve"}
    assert sorted(span.name for span in collector.spans) == ["attempt", "end", "hold", "job", "record", "settle"]
    assert {span.trace_id for span in collector.spans} == {uuid_of_job(job).bytes}
    [whole], [hold], [attempt], [settle] = (collector.named(name) for name in ("job", "hold", "attempt", "settle"))
    assert whole.parent_span_id == b""
    assert {span.parent_span_id for span in collector.spans if span is not whole} == {whole.span_id}
    assert whole.start_time_unix_nano <= hold.start_time_unix_nano + 5_000_000  # two clocks
    assert hold.end_time_unix_nano <= attempt.start_time_unix_nano < attempt.end_time_unix_nano <= settle.end_time_unix_nano
    assert facts_of(whole) == {
        "gfe.job": job, "gfe.model": "fake:words=3", "gfe.state": "succeeded", "gfe.node": "node_local", "gfe.attempts": 1, "gfe.completion_tokens": 3,
    }  # fmt: skip
    assert facts_of(attempt) == {"gfe.node": "node_local", "gfe.attempt": 1, "gfe.model": "fake:words=3"}
    assert not any(SECRET.encode() in body or platform.key.encode() in body for body in collector.bodies)


async def test_an_attempt_that_failed_is_told_beside_the_one_that_did_not(platform_with, collector):
    traces = CollectedTraces(collector.url, 1.0, "replica_a")
    platform = await platform_with(nodes=2, traces=traces)
    for script in platform.scripts:
        script.always = "fake:500"
    assert (await platform.chat()).status_code == 502
    await told(traces, platform)
    attempts = collector.named("attempt")
    assert [(span.status.code, span.status.message, facts_of(span)["gfe.attempt"]) for span in attempts] == [
        (Status.STATUS_CODE_ERROR, "RuntimeFailed", 1), (Status.STATUS_CODE_ERROR, "RuntimeFailed", 2), (Status.STATUS_CODE_ERROR, "RuntimeFailed", 3),
    ]  # fmt: skip
    [whole] = collector.named("job")
    assert (whole.status.code, facts_of(whole)["gfe.state"]) == (Status.STATUS_CODE_ERROR, "failed")
    assert collector.named("wait")


async def test_without_a_collector_jobs_run_all_the_same(platform_with):
    traces = CollectedTraces(f"http://127.0.0.1:{free_port()}/v1/traces", 1.0, "replica_a")
    platform = await platform_with(traces=traces)
    assert (await platform.chat()).status_code == 200
    await told(traces, platform)


async def test_a_share_of_all_jobs_is_told_the_same_ones_by_everybody(collector):
    jobs = [uuid.uuid7() if hasattr(uuid, "uuid7") else uuid.uuid4() for _ in range(400)]
    for instance in ("replica_a", "replica_b"):
        traces = CollectedTraces(collector.url, 0.25, instance)
        for job in jobs:
            with traces.step(job, "settle"):
                pass
        await asyncio.to_thread(traces.close)
    told_of = [span.trace_id for span in collector.spans]
    assert 40 < len(set(told_of)) < 180
    assert len(told_of) == 2 * len(set(told_of))


def test_nobody_is_told_unless_somebody_is_named(tmp_path):
    assert isinstance(traces_of(ServeSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "ledger.sock"), "replica_a"), NoTraces)
