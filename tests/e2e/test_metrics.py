"""A running installation exposes every metric that boards and rules ask for, and no alert is on while it is well."""

import time

import pytest

from cluster.metrics import TELL_S
from tests.ops.scraped import TOLD_LIMIT_S, Scraped, families
from tests.ops.watched import KNOWN, holds, names, rules
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]


def test_every_metric_of_boards_and_rules_exists(green):
    scraped, missing = Scraped(green), set()
    assert green.chat()[0] == 200

    def all_there():
        there = {name for page in scraped.pages() for name in families(page)}
        missing.clear()
        missing.update({*names(), *KNOWN} - there)
        return not missing

    wait_for(all_there, TOLD_LIMIT_S, lambda: f"nobody exposes {sorted(missing)}")
    scrapes = scraped.scrape()
    for name, metric in KNOWN.items():
        for labels in scrapes.taken[-1][1].get(name, {}):
            assert set(metric.labels) <= {label for label, _ in labels}, name


def test_no_alert_is_on_in_a_healthy_installation(green):
    scraped = Scraped(green)
    alerts = [name for name, rule in rules().items() if rule["labels"]["severity"] != "task"]  # other tests leave operators work
    scraped.until_quiet(*alerts)
    time.sleep(TELL_S + 1)
    scrapes = scraped.scrape()
    assert [alert for alert in alerts if holds(alert, scrapes)] == []


def test_a_job_and_its_settlement_are_counted(green):
    scraped = Scraped(green)
    assert green.chat()[0] == 200

    def settled():
        series = scraped.scrape().taken[-1][1]
        wanted = {("outcome", "succeeded"), ("sync", "yes")}
        ended = sum(value for labels, value in series.get("ray_gfe_jobs_ended_total", {}).items() if wanted <= labels)
        return ended >= 1 and sum(series.get("ray_gfe_settled_total", {}).values()) >= 1

    wait_for(settled, TOLD_LIMIT_S, lambda: "the job is not counted")
