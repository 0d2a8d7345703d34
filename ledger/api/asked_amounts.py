"""Amounts that people send: a decimal string, or a whole JSON number. Their texts are the seed's."""

import math
import re
from typing import Any

from pydantic_core import PydanticCustomError

from ledger.amounts import MICROS

REQUIRED = "This field is required."
NOT_A_NUMBER = "A valid number is required."
FRACTION = 'Send amounts as decimal strings, e.g. "25.00".'
DECIMALS = 6
MOST_MICROS = 10**21  # whatever is larger is refused as too large, without ever being computed with
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_MOST_DIGITS = 15


def wrong(text: str) -> PydanticCustomError:
    """Make an error of a field that says just this."""
    return PydanticCustomError("amount", "{text}", {"text": text})


def micros_asked(given: Any, *, least: int | None = None, most: int | None = None, decimals: int = DECIMALS) -> int:
    """Read an amount of credits into micro-credits.

    Raises:
        PydanticCustomError: It is none, a JSON number with a fraction, too small, too large or too fine; its text says which.
    """
    micros = _read(given, decimals)
    if least is not None and micros < least:
        raise wrong(f"Ensure this value is greater than or equal to {_shown(least)}.")
    if most is not None and micros > most:
        raise wrong(f"Ensure this value is less than or equal to {_shown(most)}.")
    return micros


def _read(given: Any, decimals: int) -> int:
    if given is None:
        raise wrong(REQUIRED)
    if isinstance(given, float) and math.isfinite(given):
        raise wrong(FRACTION)
    if isinstance(given, int) and not isinstance(given, bool):
        return max(-MOST_MICROS, min(given * MICROS, MOST_MICROS))
    found = _NUMBER.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise wrong(NOT_A_NUMBER)
    sign, whole, fraction = found.groups(default="")
    if len(fraction) > decimals:
        raise wrong(f"Ensure that there are no more than {decimals} decimal places.")
    digits = whole.lstrip("0")
    micros = MOST_MICROS if len(digits) > _MOST_DIGITS else int(digits or "0") * MICROS + int(fraction.ljust(DECIMALS, "0"))
    return -micros if sign else micros


def _shown(micros: int) -> str:
    sign = "-" if micros < 0 else ""
    return f"{sign}{abs(micros) // MICROS}.{abs(micros) % MICROS // 10_000:02d}"
