"""When the agent connects again after a connection ended, or that it does not (security reference 5.5). Pure: clock and chance are arguments."""

import random
from collections import deque
from dataclasses import dataclass

from cluster.edge import protocol as wire

FIRST_S = 0.5
LAST_S = 60.0
AT_WORK_S = 2.0  # the longest wait while jobs run here: without a connection for 15 s they are given up
STEADY_S = 60.0  # a connection that held so long begins the waits anew
DEPLOY_S = 10.0
OVERLOADED_S = 30.0
REPLACED_S = 60.0
REPLACED_WITHIN_S = 300.0
EXIT_REFUSED = 77
EXIT_TOO_OLD = 78
ABNORMAL = 1006  # WebSocket's own code of a connection that broke


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a connection, or the try of one, ended.

    `code` is WebSocket's close code, or 1006; `status` the HTTP status of a refusal before there was a connection; `lasted_s` how long it held;
    `is_at_work`: jobs run here.
    """

    code: int = ABNORMAL
    status: int | None = None
    retry_after_s: float | None = None
    lasted_s: float = 0.0
    is_at_work: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Connect again after so many seconds; with a token that is new where `renews`."""

    wait_s: float
    renews: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not connect again: a person has to do something."""

    exit_code: int
    what: str
    hint: str


TOO_OLD = GiveUp(
    EXIT_TOO_OLD,
    "this agent is too old for the platform",
    "upgrade it: pip install --upgrade gpu-for-everyone, or run the platform's install.sh again",
)
ELSEWHERE = GiveUp(
    EXIT_REFUSED,
    "this node's key is in use on another machine",
    "run one agent per node: enroll this machine with a code of its own, and revoke the key if you did not copy it",
)


class Reconnect:
    """Counts failures in a row and decides."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._replaced: deque[float] = deque()
        self._was_unauthorized = False

    def after(self, ended: Ended, now: float) -> Again | GiveUp:
        """Decide what follows."""
        if ended.lasted_s >= STEADY_S:
            self._failures = 0
            self._was_unauthorized = False
        if ended.status == 426 or ended.code == wire.CLOSE_VERSION:
            return TOO_OLD
        if ended.code == wire.CLOSE_REPLACED:
            return self._replaced_at(now)
        if ended.code == wire.CLOSE_UNAUTHORIZED or ended.status in {401, 403}:
            return self._unauthorized()
        if ended.code == wire.CLOSE_RESTART:
            return Again(self._rng.uniform(0, DEPLOY_S))
        wait_s = self._back_off(AT_WORK_S if ended.is_at_work else LAST_S)
        if ended.code == wire.CLOSE_OVERLOADED:
            wait_s = max(wait_s, self._rng.uniform(OVERLOADED_S, 2 * OVERLOADED_S))
        asked_s = min(ended.retry_after_s or 0.0, 10 * LAST_S)
        if ended.status == 503:  # it says so to everybody: they do not all come at one moment
            asked_s *= self._rng.uniform(1, 2)
        return Again(max(wait_s, asked_s))

    def _replaced_at(self, now: float) -> Again | GiveUp:
        self._replaced.append(now)
        while now - self._replaced[0] > REPLACED_WITHIN_S:
            self._replaced.popleft()
        return Again(REPLACED_S) if len(self._replaced) < 2 else ELSEWHERE

    def _unauthorized(self) -> Again:
        """A new token once, at once; whether the node may still connect is what its ledger says when it is asked for one."""
        if self._was_unauthorized:
            return Again(self._back_off(), renews=True)
        self._was_unauthorized = True
        return Again(0.0, renews=True)

    def _back_off(self, most_s: float = LAST_S) -> float:
        """Full jitter; once the waits are at their longest, no two connects are closer than that.

        The many tries of an agent at work make no later wait longer: else it would be away for a minute after an outage of a few seconds.
        """
        longest = min(most_s, FIRST_S * 2**self._failures)
        self._failures += longest < most_s
        wait_s = self._rng.uniform(0, longest)
        return LAST_S + wait_s / 4 if longest >= LAST_S else wait_s
