"""What processes inside Ray tell Prometheus: names, meanings, and how figures reach Ray's exporter.

A call of Ray's own counters costs microseconds. So a process counts in plain numbers, and every `TELL_S` a `Teller` hands Ray the differences.
It shows them within about ten seconds more, and drops those of processes that ended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

TELL_S = 5.0


@dataclass(frozen=True, slots=True)
class RayMetric:
    """A metric by the name that we give it; `is_total`: it only grows while its process lives."""

    name: str
    says: str
    labels: tuple[str, ...] = ()
    is_total: bool = False

    @property
    def exported(self) -> str:
        """Its name as Prometheus sees it."""
        return f"ray_{self.name}_total" if self.is_total else f"ray_{self.name}"


Figures = Mapping[tuple[RayMetric, tuple[str, ...]], float]  # by metric and values of its labels; totals since the process began
Meter = Callable[[float, dict[str, str]], None]  # takes a gauge's value, or what a total grew by

NODES = RayMetric("gfe_nodes", "Nodes that the Dispatcher knows, by kind and state.", ("kind", "state"))
NODES_LOST = RayMetric("gfe_nodes_lost", "Times that a node which was well was not any more, by kind.", ("kind",), is_total=True)
SLOTS = RayMetric("gfe_slots", "Slots of nodes that take jobs, by whether a job runs there.", ("state",))
WAITING = RayMetric("gfe_jobs_waiting", "Jobs that wait for a slot.")
OLDEST_WAIT = RayMetric("gfe_oldest_wait_seconds", "How long the job that waits longest has waited.")
DISPATCHER_TOLD = RayMetric("gfe_dispatcher_told_timestamp_seconds", "When the Dispatcher last told its figures.")
STANDBY_NODES = RayMetric("gfe_standby_nodes", "Standby nodes, by where they stand.", ("state",))
DISPATCHER_METRICS = (NODES, NODES_LOST, SLOTS, WAITING, OLDEST_WAIT, DISPATCHER_TOLD, STANDBY_NODES)


class Teller:
    """Tells what a process counted. A gauge that is not among the figures any more becomes 0."""

    def __init__(self, meter_of: Callable[[RayMetric], Meter]) -> None:
        self._meter_of = meter_of
        self._meters: dict[RayMetric, Meter] = {}
        self._told: dict[tuple[RayMetric, tuple[str, ...]], float] = {}

    def tell(self, figures: Figures) -> None:
        """Tell figures; what did not change since is left out, but for gauges."""
        gone = {key: 0.0 for key in self._told if key not in figures and not key[0].is_total}
        for key, value in (*figures.items(), *gone.items()):
            metric, values = key
            known = self._told.get(key)
            self._told[key] = value
            if metric.is_total and known is not None:
                if value > known:
                    self._meter(metric)(value - known, dict(zip(metric.labels, values, strict=True)))
            else:
                self._meter(metric)(value, dict(zip(metric.labels, values, strict=True)))

    def _meter(self, metric: RayMetric) -> Meter:
        if metric not in self._meters:
            self._meters[metric] = self._meter_of(metric)
        return self._meters[metric]


def ray_meter(metric: RayMetric) -> Meter:
    """Make a metric of Ray's. Not before `cluster.connect`, which sets what Ray reads at its import."""
    from ray.util.metrics import Counter, Gauge  # noqa: PLC0415 - see above

    class Total(Counter):  # type: ignore[misc]
        def add(self, value: float, tags: dict[str, str]) -> None:
            """Count, also nothing: `rate()` does not see a series' first value, so each is there before its first event."""
            self._record(value, tags=tags)

    if metric.is_total:
        return Total(metric.name, metric.says, tag_keys=metric.labels).add
    return Gauge(metric.name, metric.says, tag_keys=metric.labels).set  # type: ignore[no-any-return]
