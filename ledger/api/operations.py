"""The internal operations: one request carries a batch, each operation gets its own answer."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ledger import wire
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError, LedgerUnavailable, ModelNotAllowed, NotAuthenticated, NotPermitted, RateLimited
from ledger.identity.credentials import Principal
from ledger.identity.limits import Bucket
from ledger.money import receipts
from ledger.money.requests import CaptureRequest, Done, HoldRequest, OpenHold, Placed, Served, Share, VoidRequest
from ledger.problems import problem, problem_of

MAX_BODY_BYTES = 4 * 1024 * 1024
PLACE_SCOPE = "jobs:write"
CALLERS = frozenset({"serve"})  # the services that run jobs; the edge gateway reads the feed and nothing else
Answered = wire.Answer | LedgerError
Parsed = wire.Operation | LedgerError


async def operations(request: Request) -> Response:
    """`POST /internal/v1/operations`."""
    context: LedgerContext = request.app.state.context
    try:
        service = context.services.verify(request.headers.get("authorization"))
        if service not in CALLERS:
            raise NotPermitted("operations")
        batch = _parsed(await _body(request))
    except (NotAuthenticated, NotPermitted) as refused:
        return problem_of(refused)
    except InvalidRequest as refused:
        return problem(413 if refused.param == "body" else 400, "Invalid request", str(refused), refused.code)
    answers = await answer_all(context, service, batch)
    for answer in answers:
        if isinstance(answer, LedgerError):
            context.metrics.refusals.labels(answer.code).inc()
    body = wire.Answers.model_construct(answers=tuple(map(_as_answer, answers))).model_dump_json()
    return Response(body, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest("body", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _parsed(body: bytes) -> Sequence[Parsed]:
    """Read a batch; when it does not fit as a whole, one by one, so that a bad operation costs its neighbors nothing.

    Raises:
        InvalidRequest: It is no batch at all.
    """
    try:
        return wire.OPERATIONS.validate_json(body).operations
    except ValidationError as refused:
        why = str(refused.errors(include_input=False, include_url=False)[:3])
    try:
        found = json.loads(body)["operations"]
    except (ValueError, TypeError, LookupError):
        found = None
    if not isinstance(found, list) or not 1 <= len(found) <= wire.MAX_OPERATIONS:
        raise InvalidRequest("operations", why)
    return [_parsed_one(one) for one in found]


def _parsed_one(found: object) -> Parsed:
    try:
        return wire.OPERATION.validate_json(json.dumps(found))
    except ValidationError as refused:
        first = refused.errors(include_input=False, include_url=False)[0]
        return InvalidRequest(".".join(map(str, first["loc"])), str(first["msg"]))


async def answer_all(context: LedgerContext, service: str, batch: Sequence[Parsed]) -> list[Answered]:
    """Do a batch: credentials in one look, then holds in one go, captures and voids in another."""
    answers: dict[int, Answered] = {}
    principals = await context.credentials.verify_all({op.credential for op in batch if isinstance(op, wire.PlaceHold | wire.Introspect)})
    places: list[tuple[int, wire.PlaceHold, Principal]] = []
    resolves: list[tuple[int, CaptureRequest | VoidRequest]] = []
    for n, op in enumerate(batch):
        if isinstance(op, LedgerError):
            answers[n] = op
        elif isinstance(op, wire.PlaceHold | wire.Introspect):
            known = principals[op.credential]
            if isinstance(known, LedgerError):
                answers[n] = known
            elif isinstance(op, wire.Introspect):
                answers[n] = wire.Introspected(caller=known.caller)
            elif PLACE_SCOPE not in known.scopes:
                answers[n] = NotPermitted(PLACE_SCOPE)
            else:
                places.append((n, op, known))
        elif isinstance(op, wire.FindHolds):
            answers[n] = await _find(context, service, op)
        elif isinstance(op, wire.SignReceipt):
            answers[n] = await _sign(context, op)
        else:
            resolves.append((n, _resolution(op, service)))
    # The holds to be resolved are read first; then both halves meet in one batch of the writer, and share its commit.
    try:
        held = await context.settling.open_holds([request.id for _, request in resolves])
    except DatabaseUnavailable:
        return [answers.get(n) or LedgerUnavailable() for n in range(len(batch))]
    for half in await asyncio.gather(_resolve(context, resolves, held), _place(context, service, places)):
        answers |= half
    return [answers[n] for n in range(len(batch))]


async def _place(context: LedgerContext, service: str, places: list[tuple[int, wire.PlaceHold, Principal]]) -> dict[int, Answered]:
    if not places:
        return {}
    try:
        answers, rooms = await _within_limits(context, places)
        admitted = [place for place in places if place[0] not in answers]
        now = datetime.now(UTC)
        placed = await context.holds.place([_request_of(context, op, caller, service, now) for _, op, caller in admitted])
    except DatabaseUnavailable:
        return {n: LedgerUnavailable() for n, _, _ in places}
    for (n, _, caller), result in zip(admitted, placed, strict=True):
        answers[n] = _placed(result, caller, rooms.get(n)) if isinstance(result, Placed) else result
    return answers


async def _within_limits(
    context: LedgerContext, places: list[tuple[int, wire.PlaceHold, Principal]]
) -> tuple[dict[int, Answered], dict[int, wire.Room]]:
    """Refuse models that a key is not for, then what is beyond a limit per minute: one statement for the whole batch. Tell the others' room."""
    answers: dict[int, Answered] = {}
    rooms: dict[int, wire.Room] = {}
    wanted: dict[Bucket, int] = {}
    asked: list[tuple[int, tuple[Bucket, ...]]] = []
    for n, op, caller in places:
        if caller.key is not None and (models := caller.key.limits.get("models")) is not None and op.model not in models:
            answers[n] = ModelNotAllowed(op.model)
            continue
        buckets = _buckets(caller, context.settings.submits_per_minute)
        asked.append((n, buckets))
        for bucket in buckets:
            wanted[bucket] = wanted.get(bucket, 0) + 1
    taken = await context.limits.take(wanted)
    granted = {subject: found.count for subject, found in taken.items()}
    for n, buckets in asked:
        if empty := [bucket for bucket in buckets if granted[bucket.subject] < 1]:
            longest = max(empty, key=lambda bucket: bucket.wait_s)
            answers[n] = RateLimited("jobs per minute", longest.wait_s, longest.capacity)
        for bucket in buckets:
            granted[bucket.subject] -= 1
        left, tightest = min((max(0, granted[bucket.subject]) + taken[bucket.subject].left, bucket) for bucket in buckets)
        rooms[n] = wire.Room.model_construct(limit=tightest.capacity, left=left, reset_s=tightest.reset_s(left))
    return answers, rooms


def _buckets(caller: Principal, per_minute: int) -> tuple[Bucket, ...]:
    of_person = Bucket(f"submit:{caller.person}", per_minute)
    own = caller.key.limits.get("per_minute") if caller.key else None
    return (of_person,) if own is None else (of_person, Bucket(f"key:{caller.id}", own))


def _request_of(context: LedgerContext, op: wire.PlaceHold, caller: Principal, service: str, now: datetime) -> HoldRequest:
    return HoldRequest(
        id=op.id, person=caller.person, key=caller.id, service=service, model=op.model, prompt_tokens=op.prompt_tokens,
        max_tokens=op.max_tokens, ttl_s=op.ttl_s, idempotency_key=op.idempotency_key or None, digest=op.request_digest,
        discount_percent=context.settings.batch_discount_percent if op.batch else 0, budgets=caller.key.budgets(now) if caller.key else (),
    )  # fmt: skip


def _placed(placed: Placed, caller: Principal, room: wire.Room | None) -> wire.HoldPlaced:
    price = wire.Price.model_construct(
        version=placed.price.version, flat=placed.price.flat, prompt_per_million=placed.price.prompt_per_million,
        completion_per_million=placed.price.completion_per_million,
    )  # fmt: skip
    return wire.HoldPlaced.model_construct(
        status="exists" if placed.existed else "ok", id=placed.id, caller=caller.caller, price=price, held=placed.held, room=room
    )


async def _resolve(
    context: LedgerContext, resolves: list[tuple[int, CaptureRequest | VoidRequest]], known: Mapping[uuid.UUID, OpenHold]
) -> dict[int, Answered]:
    if not resolves:
        return {}
    try:
        done = await context.settling.resolve([request for _, request in resolves], known)
    except DatabaseUnavailable:
        return {n: LedgerUnavailable() for n, _ in resolves}
    return {n: _settled(result) if isinstance(result, Done) else result for (n, _), result in zip(resolves, done, strict=True)}


def _settled(done: Done) -> wire.Settled:
    return wire.Settled.model_construct(status="exists" if done.existed else "ok", cost=done.cost)


def _resolution(op: wire.Capture | wire.Void, service: str) -> CaptureRequest | VoidRequest:
    if isinstance(op, wire.Void):
        said = op.served
        served = None if said is None else Served(said.node, said.attempt, said.prompt_tokens, said.completion_tokens)
        return VoidRequest(id=op.id, service=service, reason=op.reason, retryable=op.retryable, served=served)
    return CaptureRequest(
        id=op.id, service=service, outcome=op.outcome, prompt_tokens=op.prompt_tokens, completion_tokens=op.completion_tokens,
        counted_by=op.counted_by, node=op.node, attempt=op.attempt,
        shares=tuple(Share(share.node, share.attempt, share.tokens) for share in op.shares),
    )  # fmt: skip


async def _find(context: LedgerContext, service: str, op: wire.FindHolds) -> Answered:
    try:
        found = await context.holds.find(service, op.older_than_s, op.limit)
    except DatabaseUnavailable:
        return LedgerUnavailable()
    return wire.HoldsFound(holds=tuple(wire.OpenHold(id=id_, age_s=age) for id_, age in found))


async def _sign(context: LedgerContext, op: wire.SignReceipt) -> Answered:
    try:
        job = await context.database.run(lambda connection: receipts.settled_job(connection, op.id))
    except DatabaseUnavailable:
        return LedgerUnavailable()
    except LedgerError as refused:
        return refused
    claims = receipts.claims_of(op.id, job, op.model_dump())
    return wire.ReceiptSigned(token=context.signing_keys.sign(claims, receipts.TYPE))


def _as_answer(answer: Answered) -> wire.Answer:
    if isinstance(answer, LedgerError):
        fields = {name: value for name, value in vars(answer).items() if isinstance(value, int | str)}
        return wire.Refused(code=answer.code, fields=fields)
    return answer
