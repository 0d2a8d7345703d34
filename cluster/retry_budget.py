"""Bounds how much of the traffic may be retries, so that a failing cluster is not loaded twice (faults reference 2.2). Pure.

A token bucket: each job brings a tenth of a retry, each retry takes a whole one (Beyer et al., Site Reliability Engineering, chapter 21).
"""

EARNED_PER_JOB = 0.1
MOST = 100.0


class RetryBudget:
    """One replica's budget; full at the start."""

    def __init__(self) -> None:
        self._left = MOST

    def earn(self) -> None:
        """A job came."""
        self._left = min(MOST, self._left + EARNED_PER_JOB)

    def take(self) -> bool:
        """Take a retry, if there is one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
