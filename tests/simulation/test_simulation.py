"""Many seeds, each a world in which everything breaks; and that a seed always tells the same."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.driver import STEPS, run, shortest

WORLDS = int(os.environ.get("GFE_SIMULATED_WORLDS", "50"))
FIRST = int(os.environ.get("GFE_SIMULATION_SEED", "1000"))
GROUPS = 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
# On every change two fifths of the worlds; by night all.
@pytest.mark.parametrize("group", [pytest.param(group, marks=[pytest.mark.nightly] if group > 1 else []) for group in range(GROUPS)])
def test_whatever_breaks_every_job_ends_once_and_is_paid_for_once(group):
    steps = 0
    for seed in range(FIRST + group, FIRST + WORLDS, GROUPS):
        outcome = run(seed)
        steps += outcome.steps
        assert outcome.defect is None, told(outcome)
    assert steps == STEPS * len(range(FIRST + group, FIRST + WORLDS, GROUPS))


def test_there_are_ten_thousand_steps_in_them():
    assert WORLDS * STEPS >= 10_000


def told(outcome):
    """What replays the defect: the seed, and the shortest list of events that leads to it."""
    best = shortest(outcome)
    events = "\n".join(f"  {event}" for event in best.events[: best.steps])
    return f"seed {outcome.seed}, step {outcome.steps}: {outcome.defect}\nshortest list of events: {best.defect}\n{events}"


@pytest.mark.parametrize("seed", [pytest.param(3, marks=pytest.mark.nightly), 11])
def test_a_seed_tells_the_same_story_in_every_process(seed):
    stories = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--steps", "60"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=False,
        )  # fmt: skip
        assert len(done.stdout) > 2000, done.stderr.decode()
        stories.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(stories) == 1


def test_jobs_are_done_while_everything_breaks():
    """A simulation in which nothing succeeds would find nothing."""
    lines = []
    outcome = run(5, trace=lines.append)
    assert outcome.jobs > 20
    assert sum("job_adopted" in line for line in lines) + sum("attempt_failed" in line for line in lines) > 0
