"""`GET /api/computing/jobs/<id>/receipt/`: what a job was and what it cost, signed by the ledger; its owner's alone."""

from typing import Any

import jwt
from starlette.requests import Request

from ledger.client import NotFound
from serve_app.api.answering_json import both
from serve_app.api.jobs import own_job
from serve_app.context import ServeContext
from serve_app.errors import NotYourJob, UnknownJob
from serve_app.receipts import to_sign


async def receipt(request: Request, context: ServeContext) -> Any:
    """Answer a settled job's receipt, and its claims for people to read; until it is settled: 409."""
    try:
        record = await own_job(request, context, "jobs:read")
        token = await context.ledger.sign_receipt(to_sign(record))
    except (NotYourJob, NotFound) as hidden:  # whose it is, nobody else learns
        raise UnknownJob from hidden
    return {"receipt": token, "claims": jwt.decode(token, options={"verify_signature": False})}


ROUTES = both("/api/computing/jobs/{id}/receipt/", receipt)
