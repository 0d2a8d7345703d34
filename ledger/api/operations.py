"""The internal operations: one request carries a batch, each operation gets its own answer."""

from collections.abc import Sequence

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ledger import wire
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import LedgerError, LedgerUnavailable, NotAuthenticated, NotPermitted
from ledger.identity.api_keys import KeyRow
from ledger.money.holds import CaptureRequest, Done, HoldRequest, Placed, VoidRequest
from ledger.problems import problem, problem_of

MAX_BODY_BYTES = 4 * 1024 * 1024
Answered = wire.Answer | LedgerError


async def operations(request: Request) -> Response:
    """`POST /internal/v1/operations`."""
    context: LedgerContext = request.app.state.context
    try:
        service = context.services.verify(request.headers.get("authorization"))
        batch = wire.OPERATIONS.validate_json(await request.body())
    except NotAuthenticated as refused:
        return problem_of(refused)
    except ValidationError as refused:
        return problem(400, "Invalid request", str(refused.errors(include_input=False)[:3]), "invalid_request")
    answers = await answer_all(context, service, batch.operations)
    body = wire.Answers.model_construct(answers=tuple(map(_as_answer, answers))).model_dump_json()
    return Response(body, media_type="application/json")


async def answer_all(context: LedgerContext, service: str, batch: Sequence[wire.Operation]) -> list[Answered]:
    """Do a batch: credentials in one look, holds in one go, captures and voids in another."""
    answers: dict[int, Answered] = {}
    keys = await context.keys.verify_all({op.credential for op in batch if isinstance(op, wire.PlaceHold | wire.Introspect)})
    places: list[tuple[int, wire.PlaceHold, KeyRow]] = []
    resolves: list[tuple[int, CaptureRequest | VoidRequest]] = []
    for n, op in enumerate(batch):
        if isinstance(op, wire.PlaceHold | wire.Introspect):
            known = keys[op.credential]
            if isinstance(known, LedgerError):
                answers[n] = known
            elif isinstance(op, wire.Introspect):
                answers[n] = wire.Introspected(caller=known.caller)
            elif "jobs:write" not in known.scopes:
                answers[n] = NotPermitted("jobs:write")
            else:
                places.append((n, op, known))
        elif isinstance(op, wire.FindHolds):
            answers[n] = await _find(context, service, op)
        else:
            resolves.append((n, _resolution(op, service)))
    try:
        answers |= await _place(context, service, places)
    except DatabaseUnavailable:
        answers |= {n: LedgerUnavailable() for n, _, _ in places}
    try:
        done = await context.holds.resolve([request for _, request in resolves])
    except DatabaseUnavailable:
        done = [LedgerUnavailable() for _ in resolves]
    for (n, _), result in zip(resolves, done, strict=True):
        answers[n] = wire.Settled(status="exists" if result.existed else "ok", cost=result.cost) if isinstance(result, Done) else result
    return [answers[n] for n in range(len(batch))]


async def _place(context: LedgerContext, service: str, places: list[tuple[int, wire.PlaceHold, KeyRow]]) -> dict[int, Answered]:
    if not places:
        return {}
    named = await context.holds.ids_of_keys([(key.person, op.idempotency_key) for _, op, key in places if op.idempotency_key])
    requests = [
        HoldRequest(
            id=named[key.person, op.idempotency_key] if op.idempotency_key else op.id,
            person=key.person, key=key.id, service=service, model=op.model, prompt_tokens=op.prompt_tokens, max_tokens=op.max_tokens, ttl_s=op.ttl_s,
            compared_by=f"{key.person}:{op.request_digest}" if op.idempotency_key else None, idempotency_key=op.idempotency_key,
        )
        for _, op, key in places
    ]  # fmt: skip
    placed = await context.holds.place(requests)
    return {n: _placed(result, key) if isinstance(result, Placed) else result for (n, _, key), result in zip(places, placed, strict=True)}


def _placed(placed: Placed, key: KeyRow) -> wire.HoldPlaced:
    price = wire.Price.model_construct(
        version=placed.price.version, flat=placed.price.flat, prompt_per_million=placed.price.prompt_per_million,
        completion_per_million=placed.price.completion_per_million,
    )  # fmt: skip
    return wire.HoldPlaced.model_construct(
        status="exists" if placed.existed else "ok", id=placed.id, caller=key.caller, price=price, held=placed.held
    )


def _resolution(op: wire.Capture | wire.Void, service: str) -> CaptureRequest | VoidRequest:
    if isinstance(op, wire.Void):
        return VoidRequest(id=op.id, service=service, reason=op.reason, retryable=op.retryable)
    return CaptureRequest(
        id=op.id, service=service, outcome=op.outcome, prompt_tokens=op.prompt_tokens, completion_tokens=op.completion_tokens,
        counted_by=op.counted_by, node=op.node, attempt=op.attempt,
    )  # fmt: skip


async def _find(context: LedgerContext, service: str, op: wire.FindHolds) -> Answered:
    try:
        found = await context.holds.find(service, op.older_than_s, op.limit)
    except DatabaseUnavailable:
        return LedgerUnavailable()
    return wire.HoldsFound(holds=tuple(wire.OpenHold(id=id_, age_s=age) for id_, age in found))


def _as_answer(answer: Answered) -> wire.Answer:
    if isinstance(answer, LedgerError):
        fields = {name: value for name, value in vars(answer).items() if isinstance(value, int | str)}
        return wire.Refused(code=answer.code, fields=fields)
    return answer
