"""A platform, receivers, and a replica that delivers."""

import pytest

from tests.serve_app.webhooks.desk import replica
from tests.serve_app.webhooks.receiver import receiving


@pytest.fixture
async def platform(platform_with):
    return await platform_with(credits="1000.00", slots=16)


@pytest.fixture
async def receiver():
    async with receiving() as one:
        yield one


@pytest.fixture
async def other():
    async with receiving() as one:
        yield one


@pytest.fixture
async def delivering_replica(platform, database):
    async with replica(platform, database) as one:
        yield one
