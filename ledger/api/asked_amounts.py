"""Amounts that people send: a decimal string, or a whole JSON number. Their texts are the seed's."""

from decimal import Decimal, InvalidOperation
from typing import Any

from ledger.amounts import MICROS

NOT_A_NUMBER = "A valid number is required."
FRACTION = 'Send amounts as decimal strings, e.g. "25.00".'
MAX_LETTERS = 40


def micros_asked(given: Any, *, least: int = 0, most: int, decimals: int = 6) -> int:
    """Read an amount into micro-credits.

    Raises:
        ValueError: It is none, too small, too large or too fine; its text says which.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(NOT_A_NUMBER)  # noqa: TRY004 - a wrong body, told in the seed's words
    if isinstance(given, float):
        raise ValueError(FRACTION)  # noqa: TRY004
    text = str(given).strip() if isinstance(given, str) else str(given)[: MAX_LETTERS + 1]
    if len(text) > MAX_LETTERS or not text.isascii() or "_" in text:
        raise ValueError(NOT_A_NUMBER)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(NOT_A_NUMBER) from None
    if not amount.is_finite() or "e" in text.lower():
        raise ValueError(NOT_A_NUMBER)
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > decimals:
        raise ValueError(f"Ensure that there are no more than {decimals} decimal places.")
    micros = int(amount * MICROS)
    if micros < least:
        raise ValueError(f"Ensure this value is greater than or equal to {_shown(least)}.")
    if micros > most:
        raise ValueError(f"Ensure this value is less than or equal to {_shown(most)}.")
    return micros


def _shown(micros: int) -> str:
    return f"{Decimal(micros) / MICROS:.2f}"
