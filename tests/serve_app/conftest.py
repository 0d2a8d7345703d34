"""The platform in one process."""

import contextlib

import pytest

from tests.platform_in_process import running_platform


@pytest.fixture
async def platform_with(database, ledger_with):
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, credits="10.00", ledger_settings=None, **options):
            ledger = await ledger_with(welcome_credits=credits, **(ledger_settings or {}))
            return await stack.enter_async_context(running_platform(database, ledger, **options))

        yield start


@pytest.fixture
async def platform(platform_with):
    return await platform_with()
