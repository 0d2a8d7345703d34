"""What operators do with accounts and nodes: look them up, block and unblock, ban a node; who is an operator at all."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InvalidFields, InvalidRequest, NotFound
from ledger.identity.feed import tell, tell_node
from ledger.identity.passwords import Passwords, problems_of
from ledger.identity.people import Person, find_person, problems_of_name, register
from ledger.identity.sessions import close_all
from ledger.ids import new_uuid7, text_of

MAX_PAGE = 100
MAX_NODE_NAME = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as an operator sees it; amounts in micro-credits."""

    id: uuid.UUID
    username: str
    email: str | None
    role: str
    is_operator: bool
    blocked_at: datetime | None
    created_at: datetime
    total: int
    held: int


_LISTED = (
    "SELECT p.id, p.username, p.email, p.role, p.is_operator, p.blocked_at, p.created_at, coalesce(sum(a.posted), 0)::bigint, "
    "coalesce(sum(a.held), 0)::bigint FROM ledger.person p LEFT JOIN ledger.account a "
    "ON a.address IN ('consumer:' || p.id || ':promo', 'consumer:' || p.id || ':paid') WHERE "
)


async def list_people(database: Database, text: str, limit: int, before: tuple[datetime, str] | None) -> list[Listed]:
    """List accounts whose name or address begins with a text, newest first."""

    async def query(connection: Connection) -> list[Listed]:
        at, id_ = before or (None, None)
        cursor = await connection.execute(
            _LISTED + "(%(text)s = '' OR starts_with(p.name_key, lower(%(text)s)) OR starts_with(lower(p.email), lower(%(text)s))) "
            "AND (%(at)s::timestamptz IS NULL OR (p.created_at, p.id::text) < (%(at)s::timestamptz, %(id)s::text)) "
            "GROUP BY p.id ORDER BY p.created_at DESC, p.id::text DESC LIMIT %(limit)s",
            {"text": text, "at": at, "id": id_, "limit": limit},
        )
        return [Listed(*row) for row in await cursor.fetchall()]

    return await database.run(query)


async def get_listed(database: Database, id_: uuid.UUID) -> Listed:
    """Look one account up.

    Raises:
        NotFound: There is none.
    """

    async def query(connection: Connection) -> Listed | None:
        cursor = await connection.execute(_LISTED + "p.id = %s GROUP BY p.id", [id_])
        row = await cursor.fetchone()
        return Listed(*row) if row else None

    found = await database.run(query)
    if found is None:
        raise NotFound("User", text_of("user", id_))
    return found


async def block(database: Database, id_: uuid.UUID, operator: uuid.UUID | None, reason: str, origin: Origin) -> None:
    """Block an account: its sign-ins and keys stop working within seconds; its money stays.

    Raises:
        NotFound: There is none.
        InvalidRequest: An operator would block themselves.
    """
    if id_ == operator:
        raise InvalidRequest("user", "Nobody blocks themselves.")

    async def work(connection: Connection) -> bool:
        cursor = await connection.execute(
            "UPDATE ledger.person SET blocked_at = coalesce(blocked_at, clock_timestamp()) WHERE id = %s RETURNING 1", [id_]
        )
        if await cursor.fetchone() is None:
            return False
        await note(connection, origin, "person.blocked", text_of("user", id_), reason=reason)
        await close_all(connection, id_)
        await tell(connection, "person_blocked", text_of("user", id_))
        return True

    if not await database.transact(work):
        raise NotFound("User", text_of("user", id_))


async def unblock(database: Database, id_: uuid.UUID, origin: Origin) -> None:
    """Let an account work again; its sign-ins stay ended.

    Raises:
        NotFound: There is none.
    """

    async def work(connection: Connection) -> bool:
        cursor = await connection.execute("UPDATE ledger.person SET blocked_at = NULL WHERE id = %s RETURNING 1", [id_])
        if await cursor.fetchone() is None:
            return False
        await note(connection, origin, "person.unblocked", text_of("user", id_))
        return True

    if not await database.transact(work):
        raise NotFound("User", text_of("user", id_))


async def ban_node(database: Database, node: str, reason: str, origin: Origin) -> None:
    """Ban a node: it gets no jobs and earns nothing from now on, and what it was not paid out stays where it is.

    Raises:
        NotFound: There is none.
    """

    async def work(connection: Connection) -> bool:
        cursor = await connection.execute(
            "UPDATE ledger.node SET state = 'banned', state_reason = %s, changed_at = clock_timestamp() WHERE id = %s RETURNING 1",
            [reason, node],
        )
        if await cursor.fetchone() is None:
            return False
        await note(connection, origin, "node.banned", node, reason=reason)
        await tell_node(connection, node)
        return True

    if not await database.transact(work):
        raise NotFound("Node", node)


async def add_node(connection: Connection, name: str, owner: str, origin: Origin) -> str:
    """Register a machine of the operator's trust domain; answer its id. Only the command line calls this: what joins can run any code.

    Raises:
        NotFound: There is no such owner.
        InvalidRequest: The name is empty or too long.
    """
    if not 1 <= len(name) <= MAX_NODE_NAME or not name.isprintable():
        raise InvalidRequest("name", f"A name of 1 to {MAX_NODE_NAME} printable characters is required.")
    person = await find_person(connection, owner)
    if person is None:
        raise NotFound("User", owner)
    node = text_of("node", new_uuid7())
    await connection.execute("INSERT INTO ledger.node (id, person_id, name, kind) VALUES (%s, %s, %s, 'trusted')", [node, person.id, name])
    await note(connection, origin, "node.invited", node, name=name, owner=text_of("user", person.id))
    await tell_node(connection, node)
    return node


async def create_operator(
    connection: Connection, username: str, password: str | None, passwords: Passwords, open_jobs: int, origin: Origin
) -> Person:
    """Make somebody an operator; a new account needs a password. Only the command line calls this: no API can.

    Raises:
        InvalidFields: The name or the password will not do.
    """
    person = await find_person(connection, username)
    if password is not None and (texts := problems_of(password, username, None)):
        raise InvalidFields({"password": texts})
    if person is None:
        if texts := problems_of_name(username):
            raise InvalidFields({"username": texts})
        if password is None:
            raise InvalidFields({"password": ["A new account needs a password."]})
        person = await register(connection, username, role="USER", welcome=0, open_jobs=open_jobs)
    hashed = None if password is None else await passwords.hash(password)
    await connection.execute(
        "UPDATE ledger.person SET is_operator = true, password_hash = coalesce(%s, password_hash) WHERE id = %s", [hashed, person.id]
    )
    await note(connection, origin, "operator.created", text_of("user", person.id))
    return person


async def remove_operator(connection: Connection, username: str, origin: Origin) -> None:
    """Take the right away; what they signed in with ends.

    Raises:
        NotFound: There is no such account.
    """
    person = await find_person(connection, username)
    if person is None:
        raise NotFound("User", username)
    await connection.execute("UPDATE ledger.person SET is_operator = false WHERE id = %s", [person.id])
    await note(connection, origin, "operator.removed", text_of("user", person.id))
    await close_all(connection, person.id)
