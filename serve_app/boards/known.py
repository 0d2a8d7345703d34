"""Every metric that there is: read from the registries that expose them, and a list of those that are not ours but that we look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.edge.metrics import EdgeMetrics
from cluster.metrics import DISPATCHER_METRICS, RayMetric
from ledger.metrics import Metrics as LedgerMetrics
from serve_app.auditor.metrics import AuditorMetrics
from serve_app.metrics import SERVE_METRICS

LEDGER, EDGE, AUDITOR, DISPATCHER, REPLICA, RAY = "ledger", "edge gateway", "auditor", "Dispatcher", "Serve replica", "Ray"
OF_RAY = ("NodeAddress", "SessionName", "WorkerId")  # what Ray adds to each of ours, among others
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True)
class Known:
    """A metric as boards and rules may name it. `kind`: counter, gauge or histogram."""

    name: str
    kind: str
    says: str
    labels: tuple[str, ...]
    by: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series; a counter's name is its series' already."""
        return tuple(self.name + suffix for suffix in SUFFIXES["histogram"]) if self.kind == "histogram" else (self.name,)

    @property
    def unit(self) -> str:
        """What its number is."""
        if "timestamp_seconds" in self.name:
            return "Unix time, s"
        for part, unit in (("_seconds", "s"), ("_micros", "micro-credits"), ("_percentage", "%"), ("_bytes", "bytes"), ("mem_", "bytes")):
            if part in self.name:
                return unit
        return "%" if self.name.endswith("_utilization") else "count"


# Ray's own, of each machine of the cluster.
FOREIGN = (
    Known("ray_node_cpu_utilization", "gauge", "Use of all cores of a machine of the cluster.", ("ip",), RAY),
    Known("ray_node_mem_used", "gauge", "Memory that is used on a machine.", ("ip",), RAY),
    Known("ray_node_mem_total", "gauge", "Memory that a machine has.", ("ip",), RAY),
    Known("ray_node_disk_utilization_percentage", "gauge", "How full the disk of Ray's folder is, on each machine.", ("ip",), RAY),
)


def all_known() -> list[Known]:
    """List every metric, by who exposes it."""
    return [
        *_of_registry(LedgerMetrics(), LEDGER),
        *_of_registry(EdgeMetrics(), EDGE),
        *_of_registry(AuditorMetrics(), AUDITOR),
        *(_of_ray(metric, DISPATCHER) for metric in DISPATCHER_METRICS),
        *(_of_ray(metric, REPLICA) for metric in SERVE_METRICS),
        *FOREIGN,
    ]


def _of_registry(metrics: Any, by: str) -> Iterator[Known]:
    """Read the metrics that are attributes of an object. Their labels have no public name in the library."""
    for metric in vars(metrics).values():
        if hasattr(metric, "describe") and hasattr(metric, "_labelnames"):
            [family] = metric.describe()
            name = family.name + "_total" if family.type == "counter" else family.name
            yield Known(name, family.type, family.documentation, tuple(metric._labelnames), by)  # noqa: SLF001


def _of_ray(metric: RayMetric, by: str) -> Known:
    return Known(metric.exported, "counter" if metric.is_total else "gauge", metric.says, metric.labels, by)
