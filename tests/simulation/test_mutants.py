"""The simulation finds defects: the quick mutants here, all of them by `python -m tests.simulation.mutants`."""

import pytest

from tests.simulation.mutants import MUTANTS, killed_by

QUICK = (
    "a node takes more than its slots",
    "a slot is released twice",
    "text is told twice",
    "an answer without its end is a success",
    "one token too many is charged",
    "the second settlement pays another node",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_defect_is_found(name):
    assert killed_by(MUTANTS[name]), f"survived: {name}"
