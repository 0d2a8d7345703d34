"""200 jobs on three joined machines while one loses its raylet, one freezes and one is cut off: every job ends, none is paid twice."""

import json
import sys
import time

import pytest

from tests.books import attempts_of, contradictions, unquiet
from tests.crowd import LATE, SLOW, summary
from tests.waiting import wait_for
from tests.world.conftest import NAMES
from tests.world.network import why_not
from tests.world.platform import CrowdOnTheHead, nodes_of, wait_until_all_are_well

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow, pytest.mark.timeout(600)
]  # fmt: skip
JOBS = 200
FROZEN_S = 25  # longer than every limit of ours and of Ray's
CUT_S = 25
FAILOVER_LIMIT_S = 12
SILENCE_LIMIT_S = 25
SETTLED_LIMIT_S = 120


def test_all_machines_are_listed_with_their_gpus_and_models(platform, machines):
    nodes = platform.nodes()
    for name in NAMES:
        assert [gpu["name"] for gpu in nodes[name]["gpus"]] == ["RTX 3060"]
        assert "fake:words=16" in {model["name"] for model in nodes[name]["models"]}
        assert (nodes[name]["healthy"], nodes[name]["slots"]) == (True, 6)
    said = platform.gfe("nodes").stdout
    assert all(name in said for name in NAMES)
    assert "RTX 3060 12 GiB" in said


def test_a_drained_machine_gets_no_jobs_until_it_is_resumed(platform, machines):
    drained = platform.gfe("nodes", "drain", "barn")
    assert (drained.returncode, drained.stdout.strip()) == (0, "barn takes no new jobs"), drained.stderr
    assert "draining" in platform.gfe("nodes", "show", "barn").stdout
    before = platform.nodes()["barn"]["running"]
    outcomes = CrowdOnTheHead(platform, 24, seed=7).outcomes()
    assert {outcome.ended for outcome in outcomes} == {"ok"}, outcomes
    assert nodes_of(platform, outcomes).keys() <= {"loft", "shed"}
    assert before == platform.nodes()["barn"]["running"] == 0
    assert platform.gfe("nodes", "resume", "barn").stdout.strip() == "barn takes jobs again"
    wait_for(machines[1].is_well, 20, "barn to be well again")
    outcomes = CrowdOnTheHead(platform, 24, seed=8).outcomes()
    assert "barn" in nodes_of(platform, outcomes)


def test_two_hundred_jobs_end_well_while_machines_die_freeze_and_are_cut_off(platform, machines):
    wait_until_all_are_well(machines)
    loft, barn, shed = machines
    crowd = CrowdOnTheHead(platform, JOBS, seed=200)
    crowd.wait_for(20)
    loft.machine.kill("raylet/raylet")
    crowd.wait_for(60)
    barn.machine.freeze()
    frozen_at = time.monotonic()
    try:
        crowd.wait_for(100)
        wait_for(lambda: time.monotonic() - frozen_at >= FROZEN_S, FROZEN_S + 1, "the end of the freeze")
    finally:
        barn.machine.thaw()
    shed.machine.cut()
    cut_at = time.monotonic()
    try:
        crowd.wait_for(160)
        wait_for(lambda: time.monotonic() - cut_at >= CUT_S, CUT_S + 1, "the end of the cut")
    finally:
        shed.machine.heal()
    outcomes = crowd.outcomes()
    wait_for(lambda: not unquiet(platform.admin_url), SETTLED_LIMIT_S, f"quiet books: {unquiet(platform.admin_url)}")
    attempts = attempts_of(platform.admin_url, [job for outcome in outcomes for job in outcome.jobs])
    moved = [outcome for outcome in outcomes if outcome.jobs and attempts[outcome.jobs[-1]] > 1]
    own_s = {LATE.model: 5.0, SLOW.model: 0.1}  # how long the scripted runtime itself takes to its first word
    failover_s = max(((outcome.first_s or 0) - own_s.get(outcome.model, 0) for outcome in moved), default=0)
    figures = summary(outcomes) | {"moved to another machine": len(moved), "failover before the first text": round(failover_s, 1)}
    figures |= {"served by": nodes_of(platform, outcomes)}
    sys.stdout.write(f"\n200 jobs: {json.dumps(figures, indent=1)}\n")
    for outcome in outcomes:
        if outcome.ended != "ok":
            sys.stdout.write(f"{outcome.number}: {outcome.ended} {outcome.detail} first={outcome.first_s} gap={outcome.byte_gap_s:.1f}\n")
    assert len(outcomes) == JOBS
    assert {outcome.ended for outcome in outcomes} <= {"ok", "incomplete", "refused"}, figures
    assert contradictions(platform.admin_url, outcomes) == []
    audit = platform.gfe("ledger", "audit")
    assert audit.returncode == 0, audit.stdout
    assert figures["longest gap between two bytes"] <= SILENCE_LIMIT_S
    assert failover_s <= 3 * FAILOVER_LIMIT_S
    wait_until_all_are_well(machines)
    again = CrowdOnTheHead(platform, 48, seed=201).outcomes()
    assert {outcome.ended for outcome in again} == {"ok"}, again
    assert len(nodes_of(platform, again)) >= 2, "those that looked slow while they were struck may get nothing for a while"
