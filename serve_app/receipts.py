"""Receipts: what is kept of a node's, what the ledger is asked to sign for the consumer, and how anybody checks what it signed. Pure.

A consumer's receipt is a JWT (`typ` `gfe-receipt+jwt`, RFC 7519) under the ledger's keys; the node's signature is inside
(docs/concepts/receipts.md).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jwt
from jwt.utils import base64url_decode

from cluster import receipts as signed
from cluster.jobs import End
from ledger.client import AgentReceipt, SignReceipt
from serve_app.store.answers import told_of
from serve_app.store.records import JobRecord

TYPE, AUDIENCE = "gfe-receipt+jwt", "receipt"
VOUCHED = ("model_digest", "text_sha256", "prompt_tokens", "completion_tokens", "reason")  # what a node signs beside job, lease and node
REQUIRED = ["iss", "sub", "job", "text_sha256", "model_digest"]


def receipt_text(end: End) -> str | None:
    """Write what a node vouched for as it is kept with the job; None: it vouched for nothing."""
    return json.dumps(asdict(end.receipt) | {"reason": end.reason}, separators=(",", ":")) if end.receipt else None


def to_sign(record: JobRecord) -> SignReceipt:
    """Tell the ledger what it is to sign beside what its books say: which weights answered, the hash of the answer, what the node vouched for."""
    told = told_of(record.result, record.marks)
    content, thinking = "".join(text.content for text in told), "".join(text.thinking for text in told)
    return SignReceipt(
        id=record.id, model_digest=record.weights or "", text_sha256=signed.text_sha256(content, thinking),
        agent=AgentReceipt(**record.receipt) if record.receipt else None,
    )  # fmt: skip


# --- checking -------------------------------------------------------------------------------------------------------------------------


class BadReceipt(Exception):
    """A receipt is not what it says; its text tells why."""


def check(token: str, jwks: Mapping[str, Any], job: str) -> dict[str, Any]:
    """Check both signatures of a job's receipt with the ledger's public keys (a JWK set, RFC 7517); answer its claims.

    Raises:
        BadReceipt: It was changed, is signed by somebody else, or belongs to another job.
    """
    claims = _claims(token, jwks)
    if claims["job"] != job:
        raise BadReceipt(f"It is the receipt of {claims['job']}, not of {job}.")
    if claims.get("agent") is not None:
        _check_node(claims, claims["agent"])
    return claims


def check_answer(claims: Mapping[str, Any], content: str, thinking: str) -> None:
    """Check that a receipt is of this answer.

    Raises:
        BadReceipt: It is of another one.
    """
    if signed.text_sha256(content, thinking) != claims["text_sha256"]:
        raise BadReceipt("The answer is not the one that the receipt is of: its hash is another.")


def _claims(token: str, jwks: Mapping[str, Any]) -> dict[str, Any]:
    try:
        head = jwt.get_unverified_header(token)
        keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(dict(jwks)).keys}
    except jwt.PyJWKSetError as wrong:
        raise BadReceipt(f"The platform's keys cannot be read: {wrong}") from wrong
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as wrong:
        raise BadReceipt("This is no receipt: it cannot be read.") from wrong
    if head.get("typ") != TYPE:
        raise BadReceipt("This is no receipt of a job but another kind of token.")
    if head.get("kid") not in keys:
        raise BadReceipt("None of these keys signed it: it is another platform's, or the keys were saved at another time.")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, keys[head["kid"]], algorithms=["EdDSA"], audience=AUDIENCE, options={"require": REQUIRED, "verify_iat": False}
        )
    except (jwt.PyJWTError, ValueError) as wrong:
        raise BadReceipt("The platform's signature does not fit: the receipt was changed.") from wrong
    return claims


def _check_node(claims: Mapping[str, Any], agent: Mapping[str, Any]) -> None:
    """Check the node's part.

    Raises:
        BadReceipt: The node's key did not sign this, or it signed something else than the platform.
    """
    try:
        receipt = signed.Receipt(job=claims["job"], lease=claims["attempt"], node=claims["node"], **{name: agent[name] for name in VOUCHED})
        is_signed = signed.is_signed_by(receipt, agent["signature"], base64url_decode(claims["node_key"]))
    except (KeyError, TypeError, ValueError) as wrong:
        raise BadReceipt("The node's part of the receipt cannot be read.") from wrong
    if not is_signed:
        raise BadReceipt(f"The signature of {claims['node']} does not fit what it is said to have vouched for.")
    for name, what in (("text_sha256", "answer"), ("model_digest", "model")):
        if agent[name] != claims[name]:
            raise BadReceipt(f"{claims['node']} vouches for another {what} than the platform.")
