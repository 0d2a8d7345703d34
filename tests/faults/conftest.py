"""Platforms to break, and the check that all is quiet afterwards."""

import contextlib

import pytest

from tests.faults.platform import LEDGER, faulty_platform, platform_on
from tests.ledger.proof.server import throw_away_server


@pytest.fixture
async def platform_with(database, ledger_with):
    """Start a platform; when the test is done, all must come to rest by itself, and the books must hold."""
    async with contextlib.AsyncExitStack() as stack:
        started = []

        async def start(*, ledger_settings=None, **options):
            ledger = await ledger_with(**(LEDGER | (ledger_settings or {})))
            started.append(await stack.enter_async_context(faulty_platform(database, ledger, **options)))
            return started[-1]

        yield start
        for platform in started:
            await platform.require_quiet()


@pytest.fixture
def server():
    """A PostgreSQL server that may be killed and frozen."""
    with throw_away_server() as server:
        yield server


@pytest.fixture
async def platform_over(server):
    """Start a platform over that server; at the end all must come to rest by itself, and the books must hold."""
    async with contextlib.AsyncExitStack() as stack:
        started = []

        async def start(**options):
            started.append(await stack.enter_async_context(platform_on(server, LEDGER, **options)))
            return started[-1]

        yield start
        for platform in started:
            await platform.require_quiet()
            await platform.require_books()
