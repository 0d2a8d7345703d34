"""Writes `docs/reference/metrics.md` from the metrics themselves: `python -m serve_app.boards.metrics_reference docs/reference/metrics.md`."""

import sys
from itertools import groupby
from pathlib import Path

from serve_app.boards.alerts import ALERTS, OBJECTIVE
from serve_app.boards.known import AUDITOR, DISPATCHER, EDGE, LEDGER, RAY, REPLICA, Known, all_known

HEAD = f"""# Metrics and alerts

Made by `python -m serve_app.boards.metrics_reference docs/reference/metrics.md`; do not edit.

Boards for Grafana and rules for Prometheus are in `helm/gpu-for-everyone/boards/`, made by `python -m serve_app.boards helm/gpu-for-everyone/boards`. The objective is that
{OBJECTIVE:.1%} of what consumers ask, over 30 days, does not fail by the platform's fault. A counter's name ends in `_total`; a histogram has the
series `_bucket`, `_sum` and `_count`.
"""
WHERE = {
    LEDGER: "`http://<ledger>:8080/metrics`, for the ledger's own machine alone. With several processes take the `max`: all tell the same database's figures.",
    EDGE: "`http://<edge gateway>:8085/metrics`.",
    AUDITOR: "`http://<auditor>:8094/metrics`.",
    DISPATCHER: "Ray's metrics export of the machine where it runs (port 8081), with Ray's own labels beside (`WorkerId`, `NodeAddress`, …), every 5 s.",
    REPLICA: "Ray's metrics export of the head (port 8081), one series per replica (`WorkerId`), every 5 s: always take a `sum` or `max`.",
    RAY: "Ray's metrics export of each machine (port 8081). Ray exposes hundreds more; these are used here.",
}  # fmt: skip


def _line(metric: Known) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.says} |"


def reference() -> str:
    """Write the page."""
    lines = [HEAD]
    for by, metrics in groupby(all_known(), key=lambda metric: metric.by):
        title = by if by[0].isupper() else by.capitalize()
        lines += [
            f"## {title}",
            "",
            WHERE[by],
            "",
            "| Name | Kind | Labels | Unit | Meaning |",
            "|---|---|---|---|---|",
            *map(_line, metrics),
            "",
        ]
    lines += ["## Alerts", "", "`page`: somebody now; `warning`: somebody today; `task`: an operator at their next sitting.", ""]
    lines += ["| Alert | Severity | Lasts | Meaning |", "|---|---|---|---|"]
    lines += [f"| [{alert.name}](../runbooks/{alert.name}.md) | {alert.severity} | {alert.lasts} | {alert.summary} |" for alert in ALERTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
