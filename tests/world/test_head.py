"""The head's Ray dies at once, without stored state: row 22 of the fault matrix. The supervisor starts it anew, the machines join again."""

import json
import sys
import time
from collections import Counter

import pytest

from tests.books import contradictions, unquiet
from tests.crowd import summary
from tests.waiting import wait_for
from tests.world.network import why_not
from tests.world.platform import CrowdOnTheHead, wait_until_all_are_well

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)
]  # fmt: skip
PROXY_TARGET_S = 10  # of which starting the client takes two
NEW_JOBS_TARGET_S = 90
NO_HOLDS_TARGET_S = 120


def test_row_2_new_requests_are_served_soon_after_the_proxy_was_killed(platform, machines):
    wait_until_all_are_well(machines)
    began = time.monotonic()
    platform.machine.kill("/haproxy -db")  # not what starts it again
    wait_for(
        lambda: {one.ended for one in CrowdOnTheHead(platform, 1, seed=time.monotonic_ns()).outcomes()} == {"ok"},
        3 * PROXY_TARGET_S,
        "a served job",
    )
    sys.stdout.write(f"\nrow 2: new jobs are served {time.monotonic() - began:.1f} s after the proxy's death\n")
    wait_for(lambda: not unquiet(platform.admin_url), NO_HOLDS_TARGET_S, "quiet books")


def test_row_22_after_the_death_of_the_head_machines_join_again_and_no_hold_stays_open(platform, machines):
    wait_until_all_are_well(machines)
    joins = [one.joins for one in machines]
    crowd = CrowdOnTheHead(platform, 60, seed=22)
    crowd.wait_for(10)
    began = time.monotonic()
    platform.machine.kill("gcs_server", "raylet/raylet")
    wait_for(lambda: not unquiet(platform.admin_url) or crowd.process.poll() is None, 5, "the crowd to go on")
    outcomes = crowd.outcomes(300)
    wait_until_all_are_well(machines, 2 * NEW_JOBS_TARGET_S)
    again = CrowdOnTheHead(platform, 12, seed=23).outcomes()
    served_s = time.monotonic() - began
    assert {outcome.ended for outcome in again} == {"ok"}, again
    wait_for(lambda: not unquiet(platform.admin_url), NO_HOLDS_TARGET_S, f"no open holds: {unquiet(platform.admin_url)}")
    quiet_s = time.monotonic() - began
    figures = summary(outcomes) | {"all machines serve again after": round(served_s), "no hold open after": round(quiet_s)}
    figures |= {"refusals": dict(Counter(outcome.detail[:60] for outcome in outcomes if outcome.ended == "refused"))}
    figures |= {"joins": [one.joins - before for one, before in zip(machines, joins, strict=True)]}
    sys.stdout.write(f"\nrow 22: {json.dumps(figures, indent=1)}\n")
    assert {outcome.ended for outcome in outcomes} <= {"ok", "incomplete", "refused", "broken"}, figures
    assert [one for one in contradictions(platform.admin_url, outcomes) if one[0] != "not paid"] == []
    assert served_s <= 3 * NEW_JOBS_TARGET_S
    assert quiet_s <= 3 * NO_HOLDS_TARGET_S
    assert platform.gfe("ledger", "audit").returncode == 0
