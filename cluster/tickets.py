"""Slots that were given to waiting jobs and do not show in a node's own count yet. Pure."""

from collections import deque


class Tickets:
    """A ticket counts against its node's free slots until the node admitted a job after it, or its time is over."""

    def __init__(self, ticket_s: float) -> None:
        self._ticket_s = ticket_s
        self._open: dict[str, deque[float]] = {}  # node -> when each of its tickets runs out

    def give(self, node: str, now: float) -> None:
        """Give a slot of a node away."""
        self._open.setdefault(node, deque()).append(now + self._ticket_s)

    def used(self, node: str, count: int) -> None:
        """The node admitted so many jobs: as many tickets show in its own count now."""
        tickets = self._open.get(node, deque())
        for _ in range(min(count, len(tickets))):
            tickets.popleft()

    def drop(self, node: str) -> None:
        """The node is gone, or began anew."""
        self._open.pop(node, None)

    def outstanding(self, node: str) -> int:
        """Count a node's tickets that are neither used nor known to have run out."""
        return len(self._open.get(node, ()))

    def run_out(self, now: float) -> list[str]:
        """Take away the tickets whose time is over; answer the nodes that had some."""
        nodes = []
        for node, tickets in list(self._open.items()):
            if tickets and tickets[0] <= now:
                nodes.append(node)
            while tickets and tickets[0] <= now:
                tickets.popleft()
            if not tickets:
                del self._open[node]
        return nodes
