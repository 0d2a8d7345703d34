"""Nodes as the ledger knows them: who earns with one."""

import time
import uuid

from ledger.db import Connection, Database
from ledger.errors import NotFound

CACHE_S = 2.0  # how long a ban may go unnoticed


class NodeOwners:
    """Tells who earns with a node; cached for `CACHE_S`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, uuid.UUID]] = {}

    async def owner(self, node: str) -> uuid.UUID:
        """Tell who earns with a node.

        Raises:
            NotFound: The node is unknown or banned; nobody is to be paid.
            DatabaseUnavailable: The database does not answer.
        """
        known = self._known.get(node)
        if known is not None and time.monotonic() - known[0] < CACHE_S:
            return known[1]

        async def query(connection: Connection) -> uuid.UUID | None:
            cursor = await connection.execute("SELECT person_id FROM ledger.node WHERE id = %s AND state <> 'banned'", [node])
            row = await cursor.fetchone()
            return row[0] if row else None

        owner = await self._database.run(query)
        if owner is None:
            self._known.pop(node, None)
            raise NotFound("Node", node)
        self._known[node] = (time.monotonic(), owner)
        return owner
