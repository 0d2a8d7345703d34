"""The consumer's receipt: what the books say of a settled job, and beside it what the service that ran it says of its answer.

Whatever is about money is read from the books when the receipt is asked for: the transaction that settled the job, and its refund.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ledger.amounts import credits_text
from ledger.db import Connection
from ledger.errors import JobNotSettled, NotFound
from ledger.ids import text_of
from ledger.money.holds import STATES
from ledger.money.posting import Kind
from ledger.money.requests import job_of

AUDIENCE = "receipt"
TYPE = "gfe-receipt+jwt"
_SETTLED = """
SELECT t.kind, t.meta, t.held_at, t.at, EXISTS (SELECT FROM ledger.txn r WHERE r.reverses = t.id), EXISTS (SELECT FROM ledger.hold h WHERE h.id = u.id)
  FROM (SELECT %s::uuid AS id) u LEFT JOIN ledger.txn t ON t.id = u.id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledJob:
    """How a job's hold was resolved, and what the transaction keeps of it."""

    kind: Kind
    meta: Mapping[str, Any]
    held_at: datetime
    at: datetime
    is_refunded: bool


async def settled_job(connection: Connection, id_: uuid.UUID) -> SettledJob:
    """Read what the books say of a job.

    Raises:
        JobNotSettled: Its hold is open.
        NotFound: The books know no such job.
    """
    row = await (await connection.execute(_SETTLED, [id_])).fetchone()
    assert row is not None
    kind, meta, held_at, at, is_refunded, is_open = row
    if kind is None and is_open:
        raise JobNotSettled
    if kind is None or Kind(kind) not in STATES:
        raise NotFound("Job", job_of(id_))
    return SettledJob(kind=Kind(kind), meta=meta, held_at=held_at or at, at=at, is_refunded=is_refunded)


def claims_of(id_: uuid.UUID, job: SettledJob, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Write the claims of a job's receipt, the same each time. `answer`: what the service says (`SignReceipt` in `ledger/wire.py`).

    What the node vouches for is left out where the books do not know the key that it did so with.
    """
    meta, is_captured = job.meta, job.kind is Kind.CAPTURE
    cost = int(meta.get("cost", 0))
    key = meta.get("node_key")
    agent = {"agent": answer["agent"]} if is_captured and key and answer.get("agent") else {}
    return {
        "aud": AUDIENCE, "sub": text_of("user", uuid.UUID(meta["user"])), "iat": int(job.at.timestamp()), "job": job_of(id_),
        "outcome": meta["outcome"] if is_captured else STATES[job.kind], "model": meta["model"], "model_digest": answer["model_digest"],
        "text_sha256": answer["text_sha256"], "node": meta.get("node"), "node_key": key, "attempt": meta.get("attempt"),
        "shares": [{"node": node, "attempt": attempt, "tokens": tokens} for node, attempt, tokens in meta.get("shares", ())],
        "usage": {name: meta[name] for name in ("prompt_tokens", "completion_tokens", "counted_by")} if is_captured else None,
        "cost": credits_text(cost), "refunded": credits_text(cost if job.is_refunded else 0), "held": credits_text(int(meta["held"])),
        "price": _price(*meta["price"]), "held_at": _moment(job.held_at), "settled_at": _moment(job.at), **agent,
    }  # fmt: skip


def _price(version: int, flat: int, prompt: int, completion: int) -> dict[str, Any]:
    rates = {"job": flat, "prompt_per_million": prompt, "completion_per_million": completion}
    return {"version": version} | {name: credits_text(rate) for name, rate in rates.items()}


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
