"""Nodes as the ledger knows them: whose they are, who earns with one, what their owners do with them.

Every query of an owner names the owner: another's node is as unknown as none. What changes is told in the feed, in the same transaction.
"""

import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InvalidRequest, NotFound, OwnNode
from ledger.identity.feed import tell_node

CACHE_S = 2.0  # how long a ban may go unnoticed
State = Literal["active", "paused", "quarantined", "revoked", "deregistered", "banned"]
Wanted = Literal["active", "paused"]
_COLUMNS = "id, name, kind, state, tier, agent_version, platform, created_at, last_seen_at, state_reason"
# What was found out about a node: its owner neither leaves this state nor the node in it.
STOPPED: frozenset[State] = frozenset({"quarantined", "banned"})


@dataclass(frozen=True, slots=True)
class Node:
    """A node as its owner sees it."""

    id: str
    name: str
    kind: str
    state: State
    tier: str
    agent_version: str | None
    platform: str | None
    created_at: datetime
    last_seen_at: datetime | None
    state_reason: str | None = None


class Nodes:
    """What owners do with their nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_nodes(
        self, person: uuid.UUID, *, limit: int, before: tuple[datetime, str] | None = None, state: State | None = None
    ) -> list[Node]:
        """List a person's nodes, newest first; deregistered ones only when their state is asked for.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        at, id_ = before or (None, None)

        async def query(connection: Connection) -> list[Node]:
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM ledger.node WHERE person_id = %(person)s "  # noqa: S608
                "AND CASE WHEN %(state)s::text IS NULL THEN state <> 'deregistered' ELSE state = %(state)s END "
                "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s::timestamptz, %(id)s::text)) "
                "ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
                {"person": person, "state": state, "at": at, "id": id_, "limit": limit},
            )
            return [Node(*row) for row in await cursor.fetchall()]

        return await self._database.run(query)

    async def change(self, origin: Origin, person: uuid.UUID, id_: str, *, name: str | None = None, state: Wanted | None = None) -> Node:
        """Rename, pause or resume a node; what is left out stays.

        Raises:
            NotFound: The person has no such node.
            InvalidRequest: The node is revoked, in quarantine or banned, so it can be neither paused nor resumed.
            DatabaseUnavailable: Whether it took effect is unknown.
        """
        _check(id_)

        async def work(connection: Connection) -> Node:
            await lock_owner(connection, person)
            node = await _read(connection, person, id_)
            if state is not None and node.state not in ("active", "paused"):
                raise InvalidRequest("state", f"This node is {node.state}; it can be neither paused nor resumed.")
            await connection.execute(
                "UPDATE ledger.node SET name = coalesce(%(name)s, name), state = coalesce(%(state)s, state), changed_at = clock_timestamp(), "
                "state_reason = CASE WHEN %(state)s::text IS NULL THEN state_reason END WHERE id = %(id)s AND person_id = %(person)s",
                {"name": name, "state": state, "id": id_, "person": person},
            )
            reason = node.state_reason if state is None else None  # why we paused it is over once its owner decides
            after = replace(node, name=name or node.name, state=state or node.state, state_reason=reason)
            if after.name != node.name:
                await note(connection, origin, "node.rename", id_, name=after.name)
            if after.state != node.state:
                await note(connection, origin, "node.pause" if after.state == "paused" else "node.resume", id_)
            if after != node:
                await tell_node(connection, id_)
            return after

        return await self._database.transact(work)

    async def deregister(self, origin: Origin, person: uuid.UUID, id_: str) -> None:
        """Take a node out for good: its agent is cut, its codes end, its history stays. Twice is fine.

        Raises:
            NotFound: The person has no such node.
            InvalidRequest: The node is banned or in quarantine: leaving does not end that.
            DatabaseUnavailable: Whether it took effect is unknown.
        """
        _check(id_)

        async def work(connection: Connection) -> None:
            await lock_owner(connection, person)
            await connection.execute(
                "UPDATE ledger.enrollment SET revoked_at = clock_timestamp() WHERE node_id = %s AND person_id = %s AND revoked_at IS NULL",
                [id_, person],
            )
            node = await _read(connection, person, id_, is_deregistered_fine=True)
            if node.state in STOPPED:
                raise InvalidRequest("state", f"This node is {node.state}; it cannot be deregistered.")
            if node.state != "deregistered":
                await set_state(connection, id_, "deregistered")
                await note(connection, origin, "node.deregister", id_)
                await tell_node(connection, id_)

        await self._database.transact(work)


def _check(id_: str) -> None:
    """Refuse what PostgreSQL could not even be asked for."""
    if "\0" in id_:
        raise NotFound("Node", id_)


async def lock_owner(connection: Connection, person: uuid.UUID) -> None:
    """Let nobody else change this person's codes and nodes until the transaction ends."""
    await connection.execute("SELECT 1 FROM ledger.person WHERE id = %s FOR NO KEY UPDATE", [person])


async def _read(connection: Connection, person: uuid.UUID, id_: str, *, is_deregistered_fine: bool = False) -> Node:
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM ledger.node WHERE id = %s AND person_id = %s",  # noqa: S608
        [id_, person],
    )
    row = await cursor.fetchone()
    node = Node(*row) if row else None
    if node is None or (node.state == "deregistered" and not is_deregistered_fine):
        raise NotFound("Node", id_)
    return node


async def set_state(connection: Connection, id_: str, state: State) -> None:
    """Set a node's state; the caller has locked its owner and tells of it."""
    await connection.execute("UPDATE ledger.node SET state = %s, changed_at = clock_timestamp() WHERE id = %s", [state, id_])


async def revoke(connection: Connection, person: uuid.UUID, id_: str) -> None:
    """Cut a node's agent until it enrolls again, in the transaction of the caller, who locked its owner; a ban or a deregistration is left as it is.

    A node in quarantine stays there, and loses its key.
    """
    cursor = await connection.execute(
        "UPDATE ledger.node SET state = CASE state WHEN 'quarantined' THEN state ELSE 'revoked' END, changed_at = clock_timestamp(), "
        "public_key = CASE state WHEN 'quarantined' THEN NULL ELSE public_key END "
        "WHERE id = %s AND person_id = %s AND state IN ('active', 'paused', 'quarantined')",
        [id_, person],
    )
    if cursor.rowcount:
        await tell_node(connection, id_)


@dataclass(frozen=True, slots=True)
class _Earning:
    """Who earns with a node, and by which key it is known."""

    owner: uuid.UUID
    is_edge: bool
    key: str | None


class NodeOwners:
    """Tells who earns with a node, and by which key it is known; cached for `CACHE_S`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, _Earning]] = {}

    async def owner(self, node: str, consumer: uuid.UUID) -> uuid.UUID:
        """Tell who earns with a job of a consumer on a node. One that was revoked or deregistered since is still paid for what it did before.

        Raises:
            NotFound: The node is unknown or banned; nobody is to be paid.
            OwnNode: It is the consumer's own, and not one of the operator's, which serve everybody.
            DatabaseUnavailable: The database does not answer.
        """
        earning = await self._look_up(node)
        if earning.is_edge and earning.owner == consumer:
            raise OwnNode(node)
        return earning.owner

    async def key(self, node: str) -> str | None:
        """Tell the public key that a node has now; None: a trusted node, which signs nothing.

        Raises:
            NotFound: The node is unknown or banned.
            DatabaseUnavailable: The database does not answer.
        """
        return (await self._look_up(node)).key

    async def _look_up(self, node: str) -> _Earning:
        known = self._known.get(node)
        if known is None or time.monotonic() - known[0] >= CACHE_S:
            self._known.pop(node, None)
            known = self._known[node] = (time.monotonic(), await self._database.run(lambda connection: _read_earning(connection, node)))
        return known[1]


async def _read_earning(connection: Connection, node: str) -> _Earning:
    cursor = await connection.execute(
        "SELECT person_id, kind = 'edge', public_key FROM ledger.node WHERE id = %s AND state <> 'banned'", [node]
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("Node", node)
    return _Earning(*row)
