"""Answers that are the same for everybody, made at most every few seconds, once for all who ask meanwhile."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any


class KeptAnswers:
    """Keeps one answer per name."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Any]] = {}
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, name: str, seconds: float, make: Callable[[], Awaitable[Any]]) -> Any:
        """Answer what was made within so many seconds, or make it now. What cannot be made is not kept."""
        async with self._making[name]:
            kept = self._kept.get(name)
            if kept is None or time.monotonic() - kept[0] > seconds:
                kept = self._kept[name] = (time.monotonic(), await make())
            return kept[1]
