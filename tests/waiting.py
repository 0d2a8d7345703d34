"""Waiting for a condition with a limit, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

ASKED_EVERY_S = 0.01
ASKED_OF_OTHERS_EVERY_S = 0.2  # a question to another process costs something


async def until(condition: Callable[[], Any], limit_s: float = 60, says: str | Callable[[], str] = "") -> Any:
    """Wait, beside what runs in this loop, until the condition holds; answer what it found.

    Raises:
        AssertionError: it did not hold within `limit_s` seconds; tells what was awaited.
    """
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, missed(condition, limit_s, says)
        await asyncio.sleep(ASKED_EVERY_S)
    return found


def wait_for(condition: Callable[[], Any], limit_s: float = 60, says: str | Callable[[], str] = "") -> Any:
    """Wait for something that another process does, as `until`."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, missed(condition, limit_s, says)
        time.sleep(ASKED_OF_OTHERS_EVERY_S)
    return found


def missed(condition: Callable[[], Any], limit_s: float, says: str | Callable[[], str]) -> str:
    return f"waited {limit_s} s for {(says() if callable(says) else says) or condition}"
