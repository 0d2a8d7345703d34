"""A small mixed soak; larger ones by `python -m bench.soak`."""

import json

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_jobs_end_well_or_honestly_while_something_breaks_every_few_seconds(tmp_path, figure):
    figures = await soak(300, 5, tmp_path / "history", in_flight=24)
    figure("soak", "300 jobs", json.dumps(figures))
