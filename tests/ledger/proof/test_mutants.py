"""The proof finds defects: every mutant of the kernel is killed, and the kernel itself is not."""

import pytest

from tests.ledger.proof.mutants import MUTANTS, InSql, difference_found, mutated


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_defect_of_the_kernel_is_found(server_url, template, name):
    assert difference_found(MUTANTS[name], server_url, template), f"survived: {name}"


def test_the_hunt_finds_nothing_in_the_product_as_it_is(server_url, template):
    assert difference_found(None, server_url, template) is None


def test_every_mutant_still_names_text_of_the_kernel():
    for mutant in MUTANTS.values():
        if isinstance(mutant, InSql):
            mutated(mutant.changes)
