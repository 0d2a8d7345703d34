"""What a check found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: whether it is fine, what was found, what to do otherwise."""

    check: str
    is_fine: bool
    found: str
    remedy: str = ""
