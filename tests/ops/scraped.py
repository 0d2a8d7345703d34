"""A running installation as Prometheus sees it: the pages of its parts, those of Ray's export among them."""

import json
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.ops.promql import Scrapes
from tests.ops.watched import fires, holds
from tests.waiting import wait_for

PAGES = ("console", "edge_node", "auditor", "metrics_export")  # by the names of their ports
TOLD_LIMIT_S = 60  # Ray shows what it is told ten seconds later
MENDED_LIMIT_S = 120


class Scraped:
    """Scrapes an installation; who does not answer is not in the scrape."""

    def __init__(self, installation):
        self.installation = installation
        ports = json.loads((installation.home.root / "run" / "ports.json").read_text())
        self.urls = [f"http://127.0.0.1:{ports[name]}/metrics" for name in PAGES]
        self.scrapes = Scrapes()

    def pages(self):
        found = []
        for url in self.urls:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    found.append(answer.read().decode())
            except OSError:
                continue
        return found

    def scrape(self):
        self.scrapes.add(time.time(), *self.pages())
        return self.scrapes

    def until_fires(self, alert, limit_s=TOLD_LIMIT_S):
        wait_for(lambda: fires(alert, self.scrape()), limit_s, lambda: f"{alert} does not fire")

    def until_quiet(self, *alerts):
        def loud():
            scrapes = self.scrape()
            return [alert for alert in alerts if holds(alert, scrapes)]

        wait_for(lambda: not loud(), MENDED_LIMIT_S, lambda: f"still on: {loud()}")


def families(page):
    """Names as they are announced, with those of their series: some have no series before something happened."""
    for family in text_string_to_metric_families(page):
        yield family.name
        yield family.name + "_total"
        yield from (family.name + suffix for suffix in ("_bucket", "_sum", "_count") if family.type == "histogram")
