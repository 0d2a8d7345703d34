"""Amounts of money: integer micro-credits inside, decimal strings outside; the only code that turns one into the other."""

import re
from decimal import Decimal

MICROS = 1_000_000
PATTERN = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")


def credits_text(micros: int) -> str:
    """Write micro-credits as credits with two to six decimals, e.g. 1250000 as `1.25`, 125 as `0.000125`."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def micros_of(text: str) -> int:
    """Read a decimal string of credits.

    Raises:
        ValueError: It is not one, or has more than six decimals.
    """
    if not PATTERN.fullmatch(text):
        raise ValueError(f'`{text[:40]}` is not an amount: send a decimal string with at most six decimals, e.g. "25.00"')
    return int(Decimal(text) * MICROS)
