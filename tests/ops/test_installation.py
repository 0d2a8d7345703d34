"""Alerts fire when parts of a running installation are killed or stand still. Each part takes its time to come back."""

import os
import signal

import pytest

from cluster import processes
from tests.ops.scraped import TOLD_LIMIT_S, Scraped
from tests.ops.watched import fires, rules
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def scraped(new_installation):
    """An installation of the module's own, started."""
    installation = new_installation(26500)
    installation.up()
    installation.wait_until_green()
    return Scraped(installation)


def test_alerts_fire_when_parts_of_an_installation_are_killed(scraped):
    installation = scraped.installation
    scraped.until_quiet(*rules())

    for part, alert in (("edge", "EdgeDown"), ("auditor", "AuditorDown"), ("ledger", "LedgerDown"), ("postgres", "DatabaseSilent")):
        pid = installation.pid_of(part)
        os.kill(pid, signal.SIGSTOP)  # killed, the supervisor would have it back before anybody scrapes
        try:
            scraped.until_fires(alert)
        finally:
            os.kill(pid, signal.SIGCONT)
        scraped.until_quiet(alert)

    installation.wait_until_green()
    os.kill(installation.pid_of("worker"), signal.SIGKILL)
    scraped.until_fires("NodeLost")
    installation.wait_until_green()

    before = set(scraped.scrape().taken[-1][1]["ray_gfe_dispatcher_told_timestamp_seconds"])
    os.kill(installation.pid_of("dispatcher"), signal.SIGKILL)

    def is_another():
        now = set(scraped.scrape().taken[-1][1].get("ray_gfe_dispatcher_told_timestamp_seconds", ()))
        return len(now) == 1 and not now & before

    wait_for(is_another, TOLD_LIMIT_S, lambda: "the figures of the Dispatcher that was killed stay")

    ray = installation.pid_of("ray")
    os.kill(ray, signal.SIGSTOP)  # so that it does not start anew
    for name in ("gcs", "raylet"):
        for process in installation.processes():
            if name in processes.command_of(process.pid):
                processes.send(process, signal.SIGKILL)
    scraped.until_fires("JobApiDown")
    assert fires("DispatcherDown", scraped.scrapes)
    os.kill(ray, signal.SIGCONT)
