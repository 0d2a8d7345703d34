"""What Prometheus sees of the auditor."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ledger.client import AuditVerdict


class AuditorMetrics:
    """The process's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.verdicts = Counter("gfe_auditor_verdicts", "Verdicts, by rule and finding.", ["rule", "found"], registry=r)
        self.tokens = Counter("gfe_auditor_tokens", "Tokens that were judged.", registry=r)
        self.seconds = Histogram("gfe_auditor_examination_seconds", "How long a sample took.", registry=r, buckets=(1, 3, 10, 30, 100, 300))
        self.failures = Counter("gfe_auditor_failures", "What did not answer, by whom.", ["who"], registry=r)
        for who in ("ledger", "reference"):
            self.failures.labels(who)
        self.given_up = Counter("gfe_auditor_given_up", "Samples that were left to be taken again.", registry=r)
        self.looked_at = Gauge("gfe_auditor_looked_timestamp_seconds", "When the ledger was last asked for work, and answered.", registry=r)

    def note(self, verdict: AuditVerdict) -> None:
        """Note a verdict that the ledger has."""
        self.verdicts.labels(verdict.rule, "flagged" if verdict.is_flagged else "clean").inc()
        self.tokens.inc(verdict.tokens)
