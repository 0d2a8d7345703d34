"""What wakes an operator, and when. Each alert has a runbook, `docs/runbooks/<name>.md`."""

import json
from dataclasses import dataclass
from enum import StrEnum

from serve_app.boards.expressions import AUDITED_AT, READY_NODES, failed_share, quantile, since

OBJECTIVE = 0.995  # of what consumers ask, over 30 days
FAST_BURN, SLOW_BURN = 14.4, 6.0  # times as fast as the objective allows: 2 % of a month's allowance in an hour, 5 % in six hours
FIRST_TOKEN_S = 10  # 95 % of jobs that somebody reads along
WAIT_S = 5  # likewise, for a slot
UNSETTLED_S = 300
OVERDUE_S = 60
RUNBOOKS = "docs/runbooks"


class Severity(StrEnum):
    """Who should look: somebody now, somebody today, an operator at their next sitting."""

    PAGE = "page"
    WARNING = "warning"
    TASK = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule. `lasts`: how long the expression must hold, in Prometheus's words."""

    name: str
    severity: Severity
    group: str
    expression: str
    lasts: str
    summary: str

    @property
    def runbook(self) -> str:
        """Where it says what to do, from the repository's root."""
        return f"{RUNBOOKS}/{self.name}.md"


def _burns(factor: float, short: str, long: str) -> str:
    allowed = f"{factor * (1 - OBJECTIVE):.3g}"
    return f"({failed_share(short)} > {allowed}) and ({failed_share(long)} > {allowed})"


PAGE, WARNING, TASK = Severity.PAGE, Severity.WARNING, Severity.TASK
ALERTS = (
    # --- jobs ----------------------------------------------------------------------------------------------------------------------
    Alert(
        name="AvailabilityBurnsFast", severity=PAGE, group="jobs", expression=_burns(FAST_BURN, "5m", "1h"), lasts="2m",
        summary="Consumers' requests fail so often that the month's allowance is gone in two days",
    ),
    Alert(
        name="AvailabilityBurnsSlowly", severity=WARNING, group="jobs", expression=_burns(SLOW_BURN, "30m", "6h"), lasts="15m",
        summary="Consumers' requests fail more often than the objective allows",
    ),
    Alert(
        name="FirstTokenSlow", severity=WARNING, group="jobs", expression=f"{quantile(0.95, 'ray_gfe_first_tokens_total')} > {FIRST_TOKEN_S}", lasts="10m",
        summary=f"One answer in twenty takes more than {FIRST_TOKEN_S} s to begin",
    ),
    Alert(
        name="QueueWaitLong", severity=WARNING, group="jobs",
        expression=f"({quantile(0.95, 'ray_gfe_waits_total')} > {WAIT_S}) or (max(ray_gfe_oldest_wait_seconds) > 600)", lasts="10m",
        summary=f"One job in twenty waits more than {WAIT_S} s for a slot, or one has waited ten minutes",
    ),
    Alert(
        name="SettlementLate", severity=WARNING, group="jobs", expression=f"max(ray_gfe_oldest_unsettled_seconds) > {UNSETTLED_S}", lasts="2m",
        summary="A job ended minutes ago and the ledger has not acknowledged what it costs",
    ),
    Alert(
        name="JobApiDown", severity=PAGE, group="jobs",
        expression=f"({since('ray_gfe_serve_told_timestamp_seconds')} > 60) or absent(ray_gfe_serve_told_timestamp_seconds)", lasts="1m",
        summary="No replica of the job APIs tells its figures",
    ),
    # --- cluster -------------------------------------------------------------------------------------------------------------------
    Alert(
        name="DispatcherDown", severity=PAGE, group="cluster",
        expression=f"({since('ray_gfe_dispatcher_told_timestamp_seconds')} > 60) or absent(ray_gfe_dispatcher_told_timestamp_seconds)", lasts="1m",
        summary="The Dispatcher does not tell its figures: nobody gives slots to jobs that wait",
    ),
    Alert(
        name="NoNodeReady", severity=PAGE, group="cluster",
        expression=f"{READY_NODES} == 0", lasts="1m",
        summary="No node takes jobs",
    ),
    Alert(
        name="NodeLost", severity=WARNING, group="cluster", expression='sum(increase(ray_gfe_nodes_lost_total{kind="trusted"}[15m])) > 0', lasts="0m",
        summary="A machine of your own stopped answering",
    ),
    Alert(
        name="StandbyNodeLate", severity=WARNING, group="cluster", expression='sum(ray_gfe_standby_nodes{state="late"}) > 0', lasts="1m",
        summary="A standby node was asked for a quarter of an hour ago, and is not there",
    ),
    Alert(
        name="EdgeDown", severity=PAGE, group="cluster", expression="absent(gfe_edge_agents)", lasts="1m",
        summary="No edge gateway answers: other people's machines get no jobs",
    ),
    Alert(
        name="DiskNearlyFull", severity=WARNING, group="cluster", expression="max by (ip) (ray_node_disk_utilization_percentage) > 90", lasts="10m",
        summary="A disk is nearly full",
    ),
    # --- ledger --------------------------------------------------------------------------------------------------------------------
    Alert(
        name="LedgerDown", severity=PAGE, group="ledger", expression="absent(gfe_ledger_open_holds)", lasts="1m",
        summary="No ledger answers: no new job is taken, nobody signs in",
    ),
    Alert(
        name="DatabaseSilent", severity=PAGE, group="ledger", expression=f"{since('gfe_ledger_looked_timestamp_seconds')} > 30", lasts="1m",
        summary="PostgreSQL has not answered the ledger for a minute",
    ),
    Alert(
        name="BooksRed", severity=PAGE, group="ledger", expression="max by (audit) (gfe_ledger_audit_violations) > 0", lasts="0m",
        summary="An audit found a rule of the books broken",
    ),
    Alert(
        name="BooksUnaudited", severity=WARNING, group="ledger",
        expression=f"({since(AUDITED_AT)} > 600) or absent({AUDITED_AT})", lasts="5m",
        summary="The books have not been audited for ten minutes",
    ),
    Alert(
        name="HoldsOverdue", severity=WARNING, group="ledger", expression=f"max(gfe_ledger_oldest_overdue_hold_seconds) > {OVERDUE_S}", lasts="1m",
        summary="A hold's time is over and nobody releases it: a consumer's credits stay reserved",
    ),
    Alert(
        name="ClearingNotZero", severity=WARNING, group="ledger",
        expression="(max(gfe_ledger_clearing_micros) != 0) and on () (max(gfe_ledger_withdrawals_pending) == 0)", lasts="1h",
        summary="Credits lie on a clearing account although no withdrawal is under way",
    ),
    Alert(
        name="PaymentEventsWaiting", severity=WARNING, group="ledger", expression="max(gfe_ledger_oldest_payment_event_seconds) > 600", lasts="1m",
        summary="An event of a payment gateway has not been worked: somebody's deposit may be missing",
    ),
    Alert(
        name="WithdrawalsWaiting", severity=TASK, group="ledger", expression="max(gfe_ledger_withdrawals_pending) > 0", lasts="1d",
        summary="A withdrawal has waited for an operator for a day",
    ),
    # --- providers -----------------------------------------------------------------------------------------------------------------
    Alert(
        name="AuditorDown", severity=WARNING, group="providers",
        expression=f"({since('gfe_auditor_looked_timestamp_seconds')} > 300) or absent(gfe_auditor_looked_timestamp_seconds)", lasts="5m",
        summary="No auditor asks the ledger for work: providers are not verified, new models not admitted",
    ),
    Alert(
        name="AuditorGivesUp", severity=WARNING, group="providers", expression="sum(increase(gfe_auditor_given_up_total[1h])) > 0", lasts="0m",
        summary="The auditor could not finish a sample, most often because its reference does not answer",
    ),
    Alert(
        name="AuditSamplesOld", severity=WARNING, group="providers", expression="max(gfe_ledger_oldest_audit_sample_seconds) > 86400", lasts="5m",
        summary="A sample has waited for its audit for a day; after three it is forgotten",
    ),
    Alert(
        name="AppealsOpen", severity=TASK, group="providers", expression="max(gfe_ledger_appeals_open) > 0", lasts="1h",
        summary="A provider appeals against a verdict",
    ),
)  # fmt: skip


def rules() -> str:
    """Write the alerts as a file of rules for Prometheus."""
    lines = ["# Made by `python -m serve_app.boards helm/gpu-for-everyone/boards`; do not edit.", "groups:"]
    for group in dict.fromkeys(alert.group for alert in ALERTS):
        lines += [f"  - name: gfe-{group}", "    rules:"]
        for alert in ALERTS:
            if alert.group == group:
                lines += _rule(alert)
    return "\n".join(lines) + "\n"


def _rule(alert: Alert) -> list[str]:
    """Write one rule; texts are quoted as JSON does, which YAML reads."""
    return [
        f"      - alert: {alert.name}",
        f"        expr: {json.dumps(alert.expression)}",
        f"        for: {alert.lasts}",
        "        labels:",
        f"          severity: {alert.severity}",
        "        annotations:",
        f"          summary: {json.dumps(alert.summary)}",
        f"          runbook_url: {alert.runbook}",
    ]
