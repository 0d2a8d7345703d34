"""How long things may take on the way of a job, in seconds; one class holds them all (faults reference 2.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines of the cluster."""

    connect_s: float = 2.0  # to a node or a runtime
    admit_s: float = 4.0  # until a node said `admitted` or `busy`
    first_token_s: float = 90.0  # with a model load
    idle_s: float = 20.0  # between tokens
    total_s: float = 900.0
    beat_s: float = 2.0  # a running attempt says something at least so often
    silence_s: float = 7.0  # a driver that hears nothing for so long gives the node up
    suspect_s: float = 5.0  # a watched node that says nothing for so long gets no new jobs
    absent_s: float = 10.0  # a replica that does not ask for so long waits for nothing any more
    snapshot_s: float = 30.0  # how long a snapshot is used when the Dispatcher is silent
    ticket_s: float = 2.0  # how long a granted slot counts as taken
    attempts: int = 3
    before_first_s: float = 45.0  # all attempts before the first token together; then no other is begun
    continue_s: float = 8.0  # from a node's loss in mid-answer until another one goes on
    node_wait_s: float = 30.0
    async_wait_s: float = 600.0
    inventory_s: float = 5.0


LIMITS = Limits()
