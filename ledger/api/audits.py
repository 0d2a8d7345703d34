"""The internal routes about audits: Serve offers samples and sends canaries, the auditor takes samples and reports verdicts."""

from ledger import wire
from ledger.api.services import route_of
from ledger.context import LedgerContext
from ledger.verification.admissions import Answer, Offer
from ledger.verification.samples import Sample
from ledger.verification.verdicts import Verdict

OFFERERS, AUDITORS = frozenset({"serve"}), frozenset({"auditor"})
COUNTERS = frozenset({"edge", "serve"})  # who holds an agent's counts against ours


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
            detail=asked.detail, why_not=asked.why_not,
        )
    )  # fmt: skip
    context.metrics.verdicts.labels(asked.rule, "flagged" if asked.is_flagged else "clean").inc(not done.existed)
    return wire.AuditReported(status="exists" if done.existed else "ok", node=done.node, state=done.state, strikes=done.strikes)


async def _count_alarm(context: LedgerContext, asked: wire.CountAlarm) -> wire.CountAlarmTaken:
    done = await context.verdicts.alarm(asked.job, asked.node, asked.claimed, asked.counted, asked.kind)
    return wire.CountAlarmTaken(status=done.status, alarms=done.alarms, state=done.state)


async def _take_canaries(context: LedgerContext, asked: wire.TakeCanaries) -> wire.CanaryTasks:
    found = await context.admissions.take([Offer(**offer.model_dump()) for offer in asked.offers], asked.nodes)
    return wire.CanaryTasks(
        tasks=tuple(wire.CanaryTask(id=one.id, node=one.node, model=one.model, digest=one.digest, kind=one.kind) for one in found)
    )


async def _report_canary(context: LedgerContext, asked: wire.CanaryReport) -> wire.CanaryReported:
    said = asked.model_dump(exclude={"sample"})
    sample = Sample(**asked.sample.model_dump()) if asked.sample else None
    return wire.CanaryReported(status=await context.admissions.report(Answer(**said, sample=sample)))


offer = route_of(OFFERERS, "audits", wire.AuditSample, _offer)
take = route_of(AUDITORS, "audits", wire.TakeAudits, _take)
report = route_of(AUDITORS, "audits", wire.AuditVerdict, _report)
count_alarm = route_of(COUNTERS, "audits", wire.CountAlarm, _count_alarm)
take_canaries = route_of(OFFERERS, "audits", wire.TakeCanaries, _take_canaries)
report_canary = route_of(OFFERERS, "audits", wire.CanaryReport, _report_canary)
