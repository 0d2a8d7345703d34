"""The kernel against its model: whatever is sent, both answer the same and hold the same."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.proof.machine import Books, machine_over

settings.register_profile(
    "ledger_proof", max_examples=60, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)  # fmt: skip


def test_the_kernel_and_its_model_never_differ(database):
    books = Books(database.pay_url, database.admin_url)
    try:
        run_state_machine_as_test(machine_over(books), settings=settings.get_profile("ledger_proof"))
    finally:
        books.close()
    assert books.steps > 60, books.steps
