"""What an edge gateway knows of nodes: the ledger's feed, in the edge gateway's words."""

import asyncio
import time
from contextlib import suppress

from cluster.edge.facts import NodeFacts
from ledger.client import LedgerError
from serve_app.feed import LedgerFeed, NodeFact

LOOK_LIMIT_S = 2.0
LOOK_AGAIN_S = 0.5
Admitted = frozenset[tuple[str, str]] | None


class Directory:
    """Facts by node id. A node that is new is looked for at once: it may have enrolled a moment ago."""

    def __init__(self, feed: LedgerFeed) -> None:
        self._feed = feed
        self._made: dict[str, tuple[NodeFact, Admitted, NodeFacts]] = {}
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")

    def facts(self, node: str) -> NodeFacts | None:
        """Tell what is known of an edge node; None: nothing. The same object while nothing changed."""
        fact = self._feed.nodes.get(node)
        if fact is None or fact.kind != "edge":
            self._made.pop(node, None)
            return None
        admitted = self._feed.admitted(node)
        made = self._made.get(node)
        if made is None or made[0] is not fact or made[1] != admitted:
            facts = NodeFacts(name=fact.name, state=fact.state, tier=fact.tier, key=fact.key, public_key=fact.public_key, admitted=admitted)
            self._made[node] = made = (fact, admitted, facts)
        return made[2]

    async def find(self, node: str) -> NodeFacts | None:
        """The same, after a look into the feed where the node is not known; those who ask together share one look."""
        if (known := self.facts(node)) is not None:
            return known
        asked_at = time.monotonic()
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(LOOK_LIMIT_S), self._looking:
                if self.facts(node) is None and self._looked_at < asked_at:
                    await asyncio.sleep(max(0.0, self._looked_at + LOOK_AGAIN_S - time.monotonic()))
                    self._looked_at = time.monotonic()
                    await self._feed.poll()
        return self.facts(node)
