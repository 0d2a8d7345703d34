"""What the tests of payments share."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
from standardwebhooks.webhooks import Webhook

from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply


def bearer(key, idempotency_key=None):
    return {"Authorization": f"Bearer {key}"} | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})


async def deposit(ledger, amount="25.00", key=None, **more):
    return await ledger.http.post("/api/payments/deposit/", json={"amount": amount} | more, headers=bearer(ledger.key, key))


async def withdraw(ledger, amount, key=None, **more):
    return await ledger.http.post("/api/payments/withdraw/", json={"amount": amount} | more, headers=bearer(ledger.key, key))


async def transaction(ledger, id_):
    answer = await ledger.http.get(f"/api/payments/transactions/{id_}/", headers=bearer(ledger.key))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def wallet(ledger):
    return (await ledger.http.get("/api/payments/wallet/", headers=bearer(ledger.key))).json()


def signed(ledger, body, *, id_=None, age=timedelta(), secret=None):
    """Sign a body as the mock gateway does."""
    text, now = json.dumps(body), datetime.now(UTC) - age
    id_ = id_ or f"msg_{uuid.uuid4().hex}"
    signature = Webhook(secret or (ledger.folder / "mock_webhook_secret").read_text()).sign(id_, now, text)
    return {"webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}, text


def event_of(made, outcome="succeeded", **changes):
    return {"type": f"deposit.{outcome}", "deposit_id": made["id"], "amount": made["amount"], "currency": "USD"} | changes


async def send(ledger, made, outcome="succeeded", *, path=None, **how):
    headers, text = signed(ledger, event_of(made, outcome, **how.pop("changes", {})), **how)
    return await ledger.http.post(f"/api/payments/webhook/mock/{path or made['id']}/", content=text, headers=headers)


def rows_of(database, query, *arguments):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        cursor = admin.execute(query, arguments)
        return cursor.fetchall() if cursor.description else []


async def person_of(ledger):
    return (await ledger.context.keys.verify(ledger.key)).person


async def give_earnings(ledger, database, micros):
    """Put earnings beside everything else."""
    person = await person_of(ledger)
    connection = await connect(database.pay_url, name="test")
    ids = await accounts.open_accounts(connection, ["world:test", accounts.earned(person)])
    legs = ((ids["world:test"], -micros), (ids[accounts.earned(person)], micros))
    assert await apply(connection, [Post(id=new_uuid7(), kind=Kind.ADJUSTMENT, legs=legs)]) == [Status.OK]
    await connection.close()
    return person


def balance_of(database, address):
    found = rows_of(database, "SELECT posted FROM ledger.account WHERE address = %s", address)
    return found[0][0] if found else 0


async def make_person(ledger, database, name):
    from ledger.identity.people import register

    connection = await connect(database.ledger_url, name="test")
    person = await register(connection, name, role="USER", welcome=0, open_jobs=1)
    await connection.close()
    return person.id
