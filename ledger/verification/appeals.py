"""Appeals: a provider objects to what was found, an operator decides. And what operators do without being asked: lift a quarantine, pardon."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg.errors import UniqueViolation

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import AppealDecided, AppealOpen, InvalidRequest, NotFound
from ledger.identity.feed import tell_node
from ledger.ids import new_uuid7, text_of, uuid_of
from ledger.verification import admissions, records, rules
from ledger.verification.forfeiture import give_back
from ledger.verification.notices import tell_owner
from ledger.verification.records import Locked

ID_PREFIX = "appeal"
MAX_NOTE = 2000  # characters
AppealState = Literal["OPEN", "UPHELD", "REFUSED"]
_COLUMNS = "id, node_id, person_id, note, state, answer, created_at, decided_at"


@dataclass(frozen=True, slots=True)
class Appeal:
    """A provider's objection, and what became of it."""

    id: uuid.UUID
    node: str
    person: uuid.UUID
    note: str
    state: AppealState
    answer: str | None
    created_at: datetime
    decided_at: datetime | None


class Appeals:
    """Files and decides appeals, lifts quarantines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def file(self, origin: Origin, person: uuid.UUID, node_id: str, text: str) -> Appeal:
        """File an appeal of a person's own node.

        Raises:
            NotFound: The person has no such node.
            InvalidRequest: Nothing was found that an appeal could be about.
            AppealOpen: One is open already.
            DatabaseUnavailable: Whether it took effect is unknown; a repeat tells.
        """

        async def work(connection: Connection) -> Appeal:
            node = await _own(connection, person, node_id)
            record = await records.read_record(connection, node.id)
            is_stopped = node.state in {"quarantined", "banned"}
            if not record.strikes and not is_stopped and not await admissions.has_refused(connection, node.id):
                raise InvalidRequest("node", "Nothing was found about this node that an appeal could be about.")
            cursor = await connection.execute(
                f"INSERT INTO ledger.appeal (id, node_id, person_id, note) VALUES (%s, %s, %s, %s) RETURNING {_COLUMNS}",  # noqa: S608
                [new_uuid7(), node.id, person, text],
            )
            made = await cursor.fetchone()
            assert made is not None
            await note(connection, origin, "appeal.filed", node.id, appeal=text_of(ID_PREFIX, made[0]))
            return Appeal(*made)

        try:
            return await self._database.transact(work)
        except UniqueViolation as open_already:
            raise AppealOpen from open_already

    async def decide(self, id_: str, *, is_upheld: bool, answer: str, origin: Origin) -> Appeal:
        """Decide an appeal. Upheld: the node is pardoned, and gets back what it lost.

        Raises:
            NotFound: There is none.
            AppealDecided: It is decided already.
            DatabaseUnavailable: Whether it took effect is unknown; look at it before deciding again.
        """
        wanted = _read_id(id_)

        async def work(connection: Connection) -> Appeal:
            cursor = await connection.execute(f"SELECT {_COLUMNS} FROM ledger.appeal WHERE id = %s", [wanted])  # noqa: S608
            found = await cursor.fetchone()
            node = await records.lock(connection, found[1]) if found else None
            if node is None:
                raise NotFound("Appeal", id_[:60])
            cursor = await connection.execute(
                "UPDATE ledger.appeal SET state = %s, answer = %s, decided_at = clock_timestamp() WHERE id = %s AND state = 'OPEN' "  # noqa: S608
                f"RETURNING {_COLUMNS}",
                ["UPHELD" if is_upheld else "REFUSED", answer, wanted],
            )
            row = await cursor.fetchone()
            if row is None:
                raise AppealDecided
            decided = Appeal(*row)
            await note(connection, origin, f"appeal.{decided.state.lower()}", node.id, appeal=id_, reason=answer)
            if is_upheld:
                await _lift(connection, node, answer, origin, "upheld")
            else:
                await tell_owner(connection, node, "refused", answer)
            return decided

        return await self._database.transact(work)

    async def lift(self, node_id: str, *, is_pardoned: bool, reason: str, origin: Origin) -> None:
        """Let a node in quarantine work again; its strikes stay, unless it is pardoned. Only a pardon ends a ban.

        Raises:
            NotFound: There is no such node.
            InvalidRequest: It is neither in quarantine nor, for a pardon, banned, struck, or without admission of a model.
            DatabaseUnavailable: Whether it took effect is unknown; look at it before trying again.
        """

        async def work(connection: Connection) -> None:
            node = None if "\0" in node_id else await records.lock(connection, node_id)
            if node is None:
                raise NotFound("Node", node_id[:60])
            if node.state != "quarantined" and not (is_pardoned and await _may_be_pardoned(connection, node)):
                raise InvalidRequest("node", f"This node is {node.state}: there is no quarantine to lift. Only a pardon ends a ban.")
            await _lift(connection, node, reason, origin, "pardon" if is_pardoned else "lift")

        await self._database.transact(work)


async def _may_be_pardoned(connection: Connection, node: Locked) -> bool:
    """Whether there is anything that a pardon ends."""
    record = await records.read_record(connection, node.id)
    return node.state == "banned" or bool(record.flags or record.alarms_at) or await admissions.has_refused(connection, node.id)


async def _lift(connection: Connection, node: Locked, reason: str, origin: Origin, what: Literal["lift", "pardon", "upheld"]) -> None:
    """Let a node work again, pardoned unless it is only lifted; the feed is told last."""
    is_pardoned, returned = what != "lift", 0
    if is_pardoned and node.state == "banned":
        returned = await give_back(connection, node)
        if returned:
            await note(connection, origin, "node.gave_back", node.id, amount=returned)
    if node.state in {"quarantined", "banned"}:
        await records.set_state(connection, node, "active" if node.has_key or node.kind == "trusted" else "revoked", None)
    await records.write_step(connection, node.id, "pardon" if is_pardoned else "lift", reason, origin=origin)
    record = await records.read_record(connection, node.id)
    await records.set_audit_percent(connection, node, rules.audit_percent(node.tier, record.flags))
    if is_pardoned:
        await admissions.forgive(connection, node.id)
    await tell_owner(connection, node, what, reason, amount=returned or None)
    await tell_node(connection, node.id)


async def _own(connection: Connection, person: uuid.UUID, node_id: str) -> Locked:
    node = None if "\0" in node_id else await records.lock(connection, node_id)
    if node is None or node.person != person:
        raise NotFound("Node", node_id[:60])
    return node


def _read_id(text: str) -> uuid.UUID:
    try:
        return uuid_of(ID_PREFIX, text)
    except ValueError as wrong:
        raise NotFound("Appeal", text[:60]) from wrong


async def list_appeals(connection: Connection, limit: int, before: tuple[datetime, str] | None, state: AppealState | None) -> list[Appeal]:
    """List appeals, newest first."""
    at, id_ = before or (None, None)
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM ledger.appeal WHERE (%(state)s::text IS NULL OR state = %(state)s) "  # noqa: S608
        "AND (%(at)s::timestamptz IS NULL OR (created_at, id::text) < (%(at)s::timestamptz, %(id)s::text)) "
        "ORDER BY created_at DESC, id::text DESC LIMIT %(limit)s",
        {"state": state, "at": at, "id": id_, "limit": limit},
    )
    return [Appeal(*row) for row in await cursor.fetchall()]


async def newest_appeal(connection: Connection, node: str) -> Appeal | None:
    """Read a node's newest appeal."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM ledger.appeal WHERE node_id = %s ORDER BY created_at DESC, id DESC LIMIT 1",  # noqa: S608
        [node],
    )
    row = await cursor.fetchone()
    return Appeal(*row) if row else None
