"""Nothing that was acknowledged is lost, however often the database and its clients are killed."""

import pytest

from tests.ledger.proof.torture import torture


@pytest.mark.slow
def test_ten_seconds_of_torture_lose_nothing():
    figures = torture(10)
    assert figures.is_clean, figures
    assert figures.kills > 1
    assert figures.acknowledged > 100
