"""What Prometheus sees of the ledger. Figures of the database are looked up by a loop, so that a scrape never waits for it."""

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ledger.db import Connection

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Looked:
    """Figures of the database at one moment."""

    open_holds: int
    oldest_hold_s: float
    overdue_holds: int
    oldest_overdue_hold_s: float
    waiting_events: int
    oldest_event_s: float
    pending_withdrawals: int
    clearing_micros: int
    waiting_samples: int
    oldest_sample_s: float
    quarantined_nodes: int
    open_appeals: int


class Metrics:
    """The service's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.refusals = Counter("gfe_ledger_refusals", "Requests and operations refused, by code.", ["code"], registry=r)
        self.batch = Histogram("gfe_ledger_writer_batch_size", "Operations per batch of the writer.", registry=r, buckets=BUCKETS)
        self.open_holds = Gauge("gfe_ledger_open_holds", "Holds that are open.", registry=r)
        self.oldest_hold = Gauge("gfe_ledger_oldest_hold_seconds", "Age of the oldest open hold.", registry=r)
        self.overdue_holds = Gauge("gfe_ledger_holds_overdue", "Open holds whose time is over; the leader releases them.", registry=r)
        self.oldest_overdue_hold = Gauge(
            "gfe_ledger_oldest_overdue_hold_seconds", "For how long the time of the oldest of them has been over.", registry=r
        )
        self.waiting_events = Gauge("gfe_ledger_payment_events_waiting", "Events of payment gateways that wait to be worked.", registry=r)
        self.oldest_event = Gauge("gfe_ledger_oldest_payment_event_seconds", "Age of the oldest of them.", registry=r)
        self.withdrawals = Gauge("gfe_ledger_withdrawals_pending", "Withdrawals that wait for an operator.", registry=r)
        self.clearing = Gauge("gfe_ledger_clearing_micros", "Micro-credits on clearing accounts; they must return to zero.", registry=r)
        self.violations = Gauge(
            "gfe_ledger_audit_violations", "Rules of the books that the last audit found broken.", ["audit"], registry=r
        )
        self.audited_at = Gauge("gfe_ledger_audit_timestamp_seconds", "When the last audit ended.", ["audit"], registry=r)
        self.looked_at = Gauge(
            "gfe_ledger_looked_timestamp_seconds", "When the database last told the figures that are looked up there.", registry=r
        )
        self.waiting_samples = Gauge("gfe_ledger_audit_samples_waiting", "Samples that wait for their audit.", registry=r)
        self.oldest_sample = Gauge(
            "gfe_ledger_oldest_audit_sample_seconds", "Age of the oldest of them; it is dropped after 71 hours.", registry=r
        )
        self.quarantined = Gauge("gfe_ledger_nodes_quarantined", "Nodes in quarantine: an operator should look.", registry=r)
        self.appeals = Gauge("gfe_ledger_appeals_open", "Appeals that wait for an operator.", registry=r)
        self.verdicts = Counter("gfe_ledger_node_audits", "Verdicts about nodes, by rule and finding.", ["rule", "found"], registry=r)

    def note_audit(self, name: str, violations: int) -> None:
        """Note how an audit ended."""
        self.violations.labels(name).set(violations)
        self.audited_at.labels(name).set(time.time())

    def note_look(self, looked: Looked) -> None:
        """Note figures of the database."""
        self.open_holds.set(looked.open_holds)
        self.oldest_hold.set(looked.oldest_hold_s)
        self.overdue_holds.set(looked.overdue_holds)
        self.oldest_overdue_hold.set(looked.oldest_overdue_hold_s)
        self.waiting_events.set(looked.waiting_events)
        self.oldest_event.set(looked.oldest_event_s)
        self.withdrawals.set(looked.pending_withdrawals)
        self.clearing.set(looked.clearing_micros)
        self.waiting_samples.set(looked.waiting_samples)
        self.oldest_sample.set(looked.oldest_sample_s)
        self.quarantined.set(looked.quarantined_nodes)
        self.appeals.set(looked.open_appeals)
        self.looked_at.set_to_current_time()


async def look(connection: Connection) -> Looked:
    """Look the figures up, in one statement."""
    cursor = await connection.execute(
        "SELECT (SELECT count(*) FROM ledger.hold), (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8 FROM ledger.hold), "
        "(SELECT count(*) FROM ledger.hold WHERE expires_at < clock_timestamp()), "
        "(SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(expires_at))), 0)::float8 FROM ledger.hold), "
        "(SELECT count(*) FROM ledger.payment_event WHERE worked_at IS NULL), "
        "(SELECT coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 FROM ledger.payment_event WHERE worked_at IS NULL), "
        "(SELECT count(*) FROM ledger.payment WHERE status = 'PENDING' AND kind = 'WITHDRAWAL'), "
        "(SELECT coalesce(sum(posted), 0)::bigint FROM ledger.account WHERE address LIKE 'clearing:%'), "
        "(SELECT count(*) FROM ledger.audit_sample), "
        "(SELECT coalesce(extract(epoch FROM clock_timestamp() - min(wanted_at)), 0)::float8 FROM ledger.audit_sample), "
        "(SELECT count(*) FROM ledger.node WHERE state = 'quarantined'), (SELECT count(*) FROM ledger.appeal WHERE state = 'OPEN')"
    )
    row = await cursor.fetchone()
    assert row is not None
    return Looked(*row)
