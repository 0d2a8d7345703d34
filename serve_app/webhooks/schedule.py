"""When a delivery that failed is tried again, and when it is given up. Pure: time and chance are arguments."""

from random import Random

FIRST_S = 10.0
LONGEST_S = 2 * 3600.0
SOONEST_S = 1.0
GIVE_UP_S = 24 * 3600.0
DISABLE_S = 5 * 24 * 3600.0  # so long an endpoint may fail without one success


def next_try_s(attempts: int, age_s: float, rng: Random) -> float | None:
    """Choose how long to wait after the attempt of this number, of a delivery of this age; None: it is given up.

    Full jitter: anything up to a bound that doubles, so that what failed together does not come back together. The last try is at 24 hours.
    """
    if age_s >= GIVE_UP_S:
        return None
    bound = min(LONGEST_S, FIRST_S * 2 ** min(attempts - 1, 30))
    return min(max(SOONEST_S, rng.uniform(0, bound)), max(SOONEST_S, GIVE_UP_S - age_s))
