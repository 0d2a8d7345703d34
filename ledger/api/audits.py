"""The internal routes about audits: Serve offers samples and tells of alarms, the auditor takes samples and reports verdicts."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ledger import wire
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError, LedgerUnavailable, NotPermitted
from ledger.problems import status_of
from ledger.verification.samples import Sample
from ledger.verification.verdicts import Verdict

OFFERERS, AUDITORS = frozenset({"serve"}), frozenset({"auditor"})
COUNTERS = frozenset({"edge", "serve"})  # who holds an agent's counts against ours
MAX_BODY_BYTES = wire.MAX_SEALED + 16 * 1024
Asked = TypeVar("Asked", bound=wire.Wire)
Handler = Callable[[Request], Awaitable[Response]]


def _route(services: frozenset[str], asked: type[Asked], answer: Callable[[LedgerContext, Asked], Awaitable[wire.Wire]]) -> Handler:
    """Make a route that these services may call."""

    async def route(request: Request) -> Response:
        context: LedgerContext = request.app.state.context
        try:
            if context.services.verify(request.headers.get("authorization")) not in services:
                raise NotPermitted("audits")
            said = await answer(context, await _read(request, asked))
        except LedgerError as refused:
            return _refused(refused)
        except DatabaseUnavailable:
            return _refused(LedgerUnavailable())
        return Response(said.model_dump_json(), media_type="application/json")

    return route


async def _read(request: Request, asked: type[Asked]) -> Asked:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest("body", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        return asked.model_validate_json(bytes(body))
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
        raise InvalidRequest(".".join(map(str, first["loc"])), str(first["msg"])) from wrong


def _refused(error: LedgerError) -> Response:
    fields = {name: value for name, value in vars(error).items() if isinstance(value, int | str)}
    return Response(wire.Refused(code=error.code, fields=fields).model_dump_json(), status_of(error)[0], media_type="application/json")


async def _offer(context: LedgerContext, asked: wire.AuditSample) -> wire.AuditOffered:
    return wire.AuditOffered(status=await context.samples.offer(Sample(**asked.model_dump())))


async def _take(context: LedgerContext, asked: wire.TakeAudits) -> wire.AuditTasks:
    found = await context.samples.take(asked.limit)
    return wire.AuditTasks(
        tasks=tuple(
            wire.AuditTask(
                id=task.job, job=task.job, node=task.node, node_key=task.node_key, model=task.model, model_digest=task.model_digest,
                weights_sha256=task.weights_sha256, rule_inputs=task.rule_inputs, sealed=task.sealed, wanted_at=task.wanted_at,
            )
            for task in found
        )
    )  # fmt: skip


async def _report(context: LedgerContext, asked: wire.AuditVerdict) -> wire.AuditReported:
    done = await context.verdicts.report(
        Verdict(
            job=asked.id, is_flagged=asked.is_flagged, rule=asked.rule, score=asked.score, windows=asked.windows, tokens=asked.tokens,
            detail=asked.detail,
        )
    )  # fmt: skip
    context.metrics.verdicts.labels(asked.rule, "flagged" if asked.is_flagged else "clean").inc(not done.existed)
    return wire.AuditReported(status="exists" if done.existed else "ok", node=done.node, state=done.state, strikes=done.strikes)


async def _count_alarm(context: LedgerContext, asked: wire.CountAlarm) -> wire.CountAlarmTaken:
    done = await context.verdicts.alarm(asked.job, asked.node, asked.claimed, asked.counted)
    return wire.CountAlarmTaken(status=done.status, alarms=done.alarms, state=done.state)


offer = _route(OFFERERS, wire.AuditSample, _offer)
take = _route(AUDITORS, wire.TakeAudits, _take)
report = _route(AUDITORS, wire.AuditVerdict, _report)
count_alarm = _route(COUNTERS, wire.CountAlarm, _count_alarm)
