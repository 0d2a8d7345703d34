"""How an edge node comes to be ours: a one-time code of its owner, a key made on the machine, then a signed nonce for each short token.

Whatever changes codes or nodes locks their owner first: two changes of one account never wait for each other crosswise.
"""

import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from psycopg.errors import UniqueViolation

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import (
    AgentRevoked,
    BadSignature,
    EnrollCodeInvalid,
    InvalidRequest,
    KeyInUse,
    NoSuchAgentToken,
    NotFound,
    TooManyAgents,
)
from ledger.identity import agent_proofs as proofs
from ledger.identity import nodes
from ledger.identity.feed import tell_node
from ledger.identity.networks import network_of, require_room
from ledger.ids import new_uuid7, text_of, uuid_of

CODE_LIFE_S = 600
NONCE_LIFE_S = 60
TOKEN_LIFE_S = 600
ID_PREFIX = "agent"
AUDIENCE = "agent"  # of the tokens that agents connect with


class TokenSigner(Protocol):
    """Signs our tokens; adds `iss`."""

    @property
    def kid(self) -> str:
        """Id of the key that signs now."""

    def sign(self, claims: dict[str, Any]) -> str:
        """Sign claims."""


@dataclass(frozen=True, slots=True)
class MadeCode:
    """A new code; the only time that it is seen."""

    id: uuid.UUID
    code: str
    label: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AgentToken:
    """A code, and the agent that used it, as their owner sees them."""

    id: uuid.UUID
    label: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    prefix: str
    node: str | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """What an agent says of itself when it enrolls."""

    code: str
    public_key: str
    proof: str
    agent_version: str
    platform: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class _Code:
    """A code as stored, its owner locked."""

    id: uuid.UUID
    person: uuid.UUID
    label: str
    node: str | None
    is_used: bool


def origin_text(public_url: str) -> str:
    """Tell the origin (scheme, host, port) of the ledger's address, as agents sign it."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def agent_claims(node: str, public_key: str, now: float) -> dict[str, Any]:
    """Make the claims of an agent's token; it is bound to the agent's key by its thumbprint."""
    issued = int(now)
    return {
        "aud": AUDIENCE, "sub": node, "iat": issued, "exp": issued + TOKEN_LIFE_S, "jti": uuid.uuid4().hex,
        "cnf": {"jkt": proofs.thumbprint(public_key)},
    }  # fmt: skip


class Enrollment:
    """Codes of people, and the agents that use them."""

    def __init__(self, database: Database, pepper: bytes, *, max_agents: int, per_network: int) -> None:
        self._database = database
        self._pepper = pepper
        self._max_agents = max_agents
        self._per_network = per_network  # nodes on probation; 0: no limit

    async def generate(self, origin: Origin, person: uuid.UUID, label: str, node: str | None = None) -> MadeCode:
        """Make a code for a new node, or for a node of the person's that gets a new key and keeps its history.

        Raises:
            TooManyAgents: The person has as many agents and open codes as there may be.
            NotFound: The person has no such node.
            InvalidRequest: The node is banned.
            DatabaseUnavailable: The database does not answer.
        """
        code, id_ = proofs.new_code(), new_uuid7()

        async def work(connection: Connection) -> MadeCode:
            await self._require_room(connection, person)
            if node is not None:
                await _require_own(connection, person, node)
            cursor = await connection.execute(
                "INSERT INTO ledger.enrollment (id, person_id, mac, prefix, label, node_id, created_at, expires_at) "
                "SELECT %s, %s, %s, %s, %s, %s, t, t + make_interval(secs => %s) FROM clock_timestamp() t RETURNING created_at, expires_at",
                [id_, person, proofs.code_mac(self._pepper, code), proofs.shown_part(code), label, node, CODE_LIFE_S],
            )
            row = await cursor.fetchone()
            assert row is not None
            await note(connection, origin, "agent_token.generate", text_of(ID_PREFIX, id_), label=label, node=node)
            return MadeCode(id_, code, label, row[0], row[1])

        return await self._database.transact(work)

    async def _require_room(self, connection: Connection, person: uuid.UUID) -> None:
        """Lock the person, then count: of those who ask at once each sees what the one before made."""
        await nodes.lock_owner(connection, person)
        cursor = await connection.execute(
            "SELECT count(*) FROM ledger.enrollment WHERE person_id = %s AND revoked_at IS NULL "
            "AND (used_at IS NOT NULL OR expires_at > clock_timestamp())",
            [person],
        )
        row = await cursor.fetchone()
        assert row is not None
        if row[0] >= self._max_agents:
            raise TooManyAgents(self._max_agents)

    async def list_tokens(self, person: uuid.UUID, *, limit: int, before: tuple[datetime, str] | None = None) -> list[AgentToken]:
        """List a person's codes and agents, newest first; `before` is where an earlier page ended.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        at, id_ = before or (None, None)

        async def query(connection: Connection) -> list[AgentToken]:
            cursor = await connection.execute(
                "SELECT id, label, created_at, expires_at, last_used_at, prefix, node_id, revoked_at FROM ledger.enrollment "
                "WHERE person_id = %(person)s AND (%(at)s::timestamptz IS NULL OR (created_at, id::text) < (%(at)s::timestamptz, %(id)s::text)) "
                "ORDER BY created_at DESC, id::text DESC LIMIT %(limit)s",
                {"person": person, "at": at, "id": id_, "limit": limit},
            )
            return [AgentToken(*row) for row in await cursor.fetchall()]

        return await self._database.run(query)

    async def revoke(self, origin: Origin, person: uuid.UUID, id_: str) -> None:
        """Revoke a code that nobody used, or cut the agent that used it.

        Raises:
            NoSuchAgentToken: The person has none with this id, or it is revoked.
            DatabaseUnavailable: Whether it took effect is unknown.
        """
        try:
            wanted = uuid_of(ID_PREFIX, id_)
        except ValueError:
            raise NoSuchAgentToken(id_) from None

        async def work(connection: Connection) -> None:
            await nodes.lock_owner(connection, person)
            cursor = await connection.execute(
                "UPDATE ledger.enrollment SET revoked_at = clock_timestamp() WHERE id = %s AND person_id = %s AND revoked_at IS NULL "
                "RETURNING node_id, used_at IS NOT NULL",
                [wanted, person],
            )
            row = await cursor.fetchone()
            if row is None:
                raise NoSuchAgentToken(id_)
            node, is_used = row
            await note(connection, origin, "agent_token.revoke", id_, node=node)
            if is_used:
                await nodes.revoke(connection, person, node)

        await self._database.transact(work)

    async def enroll(self, applicant: Applicant, address: str | None, request_id: str | None = None) -> str:
        """Make a node of an agent that shows a code and owns its key; answer the node's id. The same again, while the code lives: the same.

        Raises:
            EnrollCodeInvalid: Unknown, used, revoked or expired.
            KeyInUse: The key belongs to a node.
            NetworkFull: As many nodes on probation come from the agent's network as may.
            InvalidRequest: The key is none, or the proof does not fit.
            DatabaseUnavailable: Whether it took effect is unknown; repeat the same.
        """
        key = proofs.check_public_key(applicant.public_key)
        if not proofs.is_signed(key, proofs.enroll_text(applicant.code, key), applicant.proof):
            raise InvalidRequest("proof", "The proof does not fit the code and the public key.")
        if not proofs.is_code(applicant.code):
            raise EnrollCodeInvalid

        async def work(connection: Connection) -> str:
            code = await self._locked(connection, applicant.code)
            holder = await _node_of_key(connection, key)
            if code.is_used:
                if holder is None or holder != code.node:
                    raise EnrollCodeInvalid
                return holder
            if holder is not None:
                raise KeyInUse
            if code.node:
                node = await _renew(connection, code, code.node, applicant)
            else:
                node = await self._register(connection, code, applicant, network_of(address))
            await connection.execute(
                "UPDATE ledger.enrollment SET node_id = %s, used_at = clock_timestamp(), last_used_at = clock_timestamp() WHERE id = %s",
                [node, code.id],
            )
            origin = Origin(text_of("user", code.person), address, request_id)
            await note(connection, origin, "agent.enroll", node, token=text_of(ID_PREFIX, code.id), key=proofs.thumbprint(key))
            await tell_node(connection, node)
            return node

        try:
            return await self._database.transact(work)
        except UniqueViolation as taken:  # by another code, at the same moment
            raise KeyInUse from taken

    async def _register(self, connection: Connection, code: _Code, applicant: Applicant, network: str | None) -> str:
        """Make a new node; one that gets a new key instead is let in without a look at its network, for it counts already."""
        if network and self._per_network:
            await require_room(connection, network, self._per_network)
        node = text_of("node", new_uuid7())
        name = applicant.label or code.label or node
        await connection.execute(
            "INSERT INTO ledger.node (id, person_id, name, kind, public_key, agent_version, platform, network) VALUES (%s, %s, %s, 'edge', %s, %s, %s, %s::cidr)",
            [node, code.person, name, applicant.public_key, applicant.agent_version, applicant.platform, network],
        )
        return node

    async def _locked(self, connection: Connection, code: str) -> _Code:
        mac = proofs.code_mac(self._pepper, code)
        found = await (await connection.execute("SELECT person_id FROM ledger.enrollment WHERE mac = %s", [mac])).fetchone()
        if found is None:
            raise EnrollCodeInvalid
        await nodes.lock_owner(connection, found[0])
        cursor = await connection.execute(
            "SELECT e.id, e.person_id, e.label, e.node_id, e.used_at IS NOT NULL FROM ledger.enrollment e "
            "JOIN ledger.person p ON p.id = e.person_id AND p.blocked_at IS NULL "
            "WHERE e.mac = %s AND e.revoked_at IS NULL AND e.expires_at > clock_timestamp()",
            [mac],
        )
        row = await cursor.fetchone()
        if row is None:
            raise EnrollCodeInvalid
        return _Code(*row)


async def _require_own(connection: Connection, person: uuid.UUID, node: str) -> None:
    cursor = await connection.execute("SELECT state FROM ledger.node WHERE id = %s AND person_id = %s AND kind = 'edge'", [node, person])
    row = await cursor.fetchone()
    if row is None or row[0] == "deregistered":
        raise NotFound("Node", node)
    if row[0] == "banned":
        raise InvalidRequest("node_id", "This node is banned.")


async def _node_of_key(connection: Connection, key: str) -> str | None:
    cursor = await connection.execute("SELECT id FROM ledger.node WHERE public_key = %s", [key])
    row = await cursor.fetchone()
    return row[0] if row else None


async def _renew(connection: Connection, code: _Code, node: str, applicant: Applicant) -> str:
    """Give a node a new key; what used the old one is revoked."""
    await connection.execute(
        "UPDATE ledger.enrollment SET revoked_at = clock_timestamp() WHERE node_id = %s AND used_at IS NOT NULL AND revoked_at IS NULL AND id <> %s",
        [node, code.id],
    )
    cursor = await connection.execute(
        "UPDATE ledger.node SET public_key = %s, agent_version = %s, platform = %s, name = coalesce(%s, name), changed_at = clock_timestamp(), "
        "state = CASE state WHEN 'revoked' THEN 'active' ELSE state END WHERE id = %s AND person_id = %s AND state NOT IN ('banned', 'deregistered')",
        [applicant.public_key, applicant.agent_version, applicant.platform, applicant.label, node, code.person],
    )
    if not cursor.rowcount:
        raise EnrollCodeInvalid
    return node


@dataclass(frozen=True, slots=True)
class _Known:
    """What a token is judged by."""

    is_fresh: bool
    public_key: str
    may_connect: bool
    state: str
    reason: str | None


class AgentTokens:
    """Nonces, and the short tokens that agents connect with."""

    def __init__(self, database: Database, origin: str) -> None:
        self._database = database
        self._origin = origin

    async def nonce(self, node: str) -> str:
        """Make a nonce. An unknown node gets one that looks the same and is kept nowhere.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        nonce = secrets.token_urlsafe(32)

        async def insert(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO ledger.agent_nonce (hash, node_id, expires_at) SELECT %s, id, clock_timestamp() + make_interval(secs => %s) "
                "FROM ledger.node WHERE id = %s ON CONFLICT DO NOTHING",
                [proofs.nonce_hash(nonce), NONCE_LIFE_S, node],
            )

        await self._database.run(insert)
        return nonce

    async def token(self, signer: TokenSigner, node: str, nonce: str, signature: str) -> str:
        """Make a token for an agent that signed a nonce of its node; the nonce is spent, whatever comes of it.

        Raises:
            BadSignature: The signature, the nonce or the node is not right; which of them is not told.
            AgentRevoked: It is right, but the node may not connect.
            DatabaseUnavailable: The database does not answer.
        """

        async def spend(connection: Connection) -> _Known | None:
            spent = await connection.execute(
                "DELETE FROM ledger.agent_nonce WHERE hash = %s AND node_id = %s RETURNING expires_at > clock_timestamp()",
                [proofs.nonce_hash(nonce), node],
            )
            fresh = await spent.fetchone()
            cursor = await connection.execute(
                "SELECT %s, n.public_key, n.state IN ('active', 'paused', 'quarantined') AND p.blocked_at IS NULL, n.state, n.state_reason "
                "FROM ledger.node n JOIN ledger.person p ON p.id = n.person_id WHERE n.id = %s AND n.public_key IS NOT NULL",
                [fresh is not None and fresh[0], node],
            )
            row = await cursor.fetchone()
            return _Known(*row) if row else None

        known = await self._database.transact(spend)
        text = proofs.token_text(node, nonce, self._origin)
        if known is None or not known.is_fresh or not proofs.is_signed(known.public_key, text, signature):
            raise BadSignature
        if not known.may_connect:
            raise AgentRevoked(known.state, known.reason)
        await self._database.run(lambda connection: _note_use(connection, node))
        return signer.sign(agent_claims(node, known.public_key, time.time()))

    async def clean(self) -> int:
        """Forget nonces that have expired; answer how many.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def delete(connection: Connection) -> int:
            return (await connection.execute("DELETE FROM ledger.agent_nonce WHERE expires_at < clock_timestamp()")).rowcount

        return await self._database.run(delete)


async def _note_use(connection: Connection, node: str) -> None:
    """Note that an agent came; a lost note is no harm."""
    await connection.execute(
        "WITH seen AS (UPDATE ledger.node SET last_seen_at = clock_timestamp() WHERE id = %s) UPDATE ledger.enrollment "
        "SET last_used_at = clock_timestamp() WHERE node_id = %s AND used_at IS NOT NULL AND revoked_at IS NULL",
        [node, node],
    )
