"""Waiting for a condition with a limit, instead of sleeping and hoping."""

import asyncio
import time


async def until(condition, limit_s=60):
    """Wait until the condition holds; says which one did not."""
    end = time.monotonic() + limit_s
    while not (held := condition()):
        assert time.monotonic() < end, f"{condition} did not hold within {limit_s} s"
        await asyncio.sleep(0.01)
    return held
