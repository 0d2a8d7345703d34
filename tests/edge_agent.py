"""An edge agent as the ledger sees it: a key pair and what it signs."""

import base64
import uuid

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.audit_log import Origin
from ledger.db import connect
from ledger.identity.people import ALL_SCOPES, register

ORIGIN = "http://127.0.0.1:8080"


def base64url(value):
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


class Agent:
    """A machine with a key."""

    def __init__(self, http):
        self.http = http
        self.key = Ed25519PrivateKey.generate()
        self.public_key = base64url(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, *lines):
        return base64url(self.key.sign("\n".join(lines).encode()))

    async def enroll(self, code, **changes):
        body = {"code": code, "public_key": self.public_key, "agent_version": "0.1.0", "platform": "linux-x86_64"}
        body["proof"] = self.sign("gfe.agent.enroll.v1", code, self.public_key)
        return await self.http.post("/api/core/agent/enroll/", json=body | changes)

    async def nonce(self, node):
        answer = await self.http.post("/api/core/agent/nonce/", json={"node_id": node})
        assert answer.status_code == 200, answer.text
        return answer.json()["nonce"]

    async def token(self, node, *, nonce=None, origin=ORIGIN, **changes):
        nonce = nonce or await self.nonce(node)
        body = {"node_id": node, "nonce": nonce, "signature": self.sign("gfe.agent.token.v1", node, nonce, origin)}
        return await self.http.post("/api/core/agent/token/", json=body | changes)


class Account:
    """A person with a key, and what the person does with agents."""

    def __init__(self, http, key):
        self.http = http
        self.headers = {"Authorization": f"Bearer {key}"}

    async def call(self, method, path, **more):
        return await self.http.request(method, f"/api/core/{path}", headers=self.headers, **more)

    async def generate(self, **body):
        answer = await self.call("POST", "agent-token/generate/", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def enrolled(self, **body):
        """A new agent of this account's, and its node."""
        agent = Agent(self.http)
        answer = await agent.enroll((await self.generate(**body))["token"])
        assert answer.status_code == 201, answer.text
        return agent, answer.json()["node_id"]

    async def tokens(self):
        return (await self.call("GET", "agent-token/list/")).json()["results"]

    async def nodes(self, **query):
        return (await self.call("GET", "nodes/", params=query)).json()["results"]


async def account(ledger, database, name=None, scopes=ALL_SCOPES):
    """Make a person with a key."""
    connection = await connect(database.ledger_url, name="test")
    person = await register(connection, name or f"person-{uuid.uuid4().hex[:8]}", role="USER", welcome=0, open_jobs=5)
    await connection.close()
    made = Account(ledger.http, await ledger.context.keys.create(person.id, "test", scopes, {}, Origin("test")))
    made.person = person.id
    return made


def execute(database, query, parameters=()):
    """Do what no route does: let time pass, ban, block."""
    with psycopg.connect(database.admin_url) as admin:
        cursor = admin.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []
