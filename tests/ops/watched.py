"""What boards and rules ask, as they are written in the files that Grafana and Prometheus read."""

import json
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from cluster.metrics import Teller
from serve_app.boards.known import all_known
from tests.ops.promql import Scrapes, answer, read, seconds, selectors

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "helm" / "gpu-for-everyone" / "boards"
STEP_S = 15  # Prometheus looks so often
KNOWN = {series: metric for metric in all_known() for series in metric.series}


def rules():
    """Read the rules by their names."""
    groups = yaml.safe_load((BOARDS / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def expressions():
    """List every expression, by where it stands."""
    found = {f"rules.yml: {name}": rule["expr"] for name, rule in rules().items()}
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found |= {f"{path.name}: {panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


def names():
    """Name every series that is asked for."""
    return {selector.name for text in expressions().values() for selector, _ in selectors(read(text))}


def holds(alert, scrapes):
    """Whether an alert's expression holds at the last scrape."""
    return bool(answer(read(rules()[alert]["expr"]), scrapes, scrapes.taken[-1][0]))


def fires(alert, scrapes, within_s=900):
    """Whether an alert fires if all stays as it was scraped last: the clock goes on, the figures stand, as those of a broken part do."""
    rule, (last, series) = rules()[alert], scrapes.taken[-1]
    expression, lasts = read(rule["expr"]), seconds(rule["for"])
    step, since = max(STEP_S, lasts / 20), None
    later = Scrapes(list(scrapes.taken))
    while (at := later.taken[-1][0]) <= last + within_s + lasts:
        since = (at if since is None else since) if answer(expression, later, at) else None
        if since is not None and at - since >= lasts:
            return True
        later.taken.append((at + step, series))
    return False


class RaysPage:
    """Told figures as Ray's export shows them, without Ray; the test of a whole installation reads Ray's own."""

    def __init__(self):
        self._registry = CollectorRegistry()
        self._teller = Teller(self._meter_of)

    def _meter_of(self, metric):
        made = (Counter if metric.is_total else Gauge)(f"ray_{metric.name}", metric.says, metric.labels, registry=self._registry)

        def meter(value, tags):
            series = made.labels(**tags) if tags else made
            series.inc(value) if metric.is_total else series.set(value)

        return meter

    def of(self, figures):
        """Tell figures; answer the page."""
        self._teller.tell(figures)
        return generate_latest(self._registry).decode()
