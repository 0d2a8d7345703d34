"""How long things may take on the way of a job, in seconds; one class holds them all (faults reference 2.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines of the cluster."""

    connect_s: float = 2.0
    admit_s: float = 5.0
    first_token_s: float = 90.0
    idle_s: float = 20.0
    total_s: float = 900.0
    beat_s: float = 5.0
    suspect_s: float = 5.0
    absent_s: float = 10.0
    snapshot_s: float = 30.0
    ticket_s: float = 2.0
    attempts: int = 3
    node_wait_s: float = 30.0
    inventory_s: float = 5.0


LIMITS = Limits()
