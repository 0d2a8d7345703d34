"""Waits, beside the browser, until something is so."""

import time
from collections.abc import Callable
from typing import Any


def eventually(ask: Callable[[], Any], limit_s: float) -> Any:
    """Ask until the answer is one; answer it."""
    end = time.monotonic() + limit_s
    while not (found := ask()):
        assert time.monotonic() < end, f"it never came: {found}"
        time.sleep(0.3)
    return found
