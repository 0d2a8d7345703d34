"""What operators may do. Each route wants the scope `operator`, which only a sign-in of an operator has; everything is in the audit log."""

import asyncio
import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger import audit_log
from ledger.amounts import credits_text
from ledger.api.admin_shapes import (
    CorrectionRow,
    CorrectionRows,
    Finding,
    Findings,
    HoldRow,
    HoldRows,
    LogRow,
    LogRows,
    NewCorrection,
    NewPrice,
    NewRefund,
    People,
    PersonRow,
    RefundAnswer,
    Why,
    WithdrawalRow,
    WithdrawalRows,
)
from ledger.api.callers import Context, caller_with, of
from ledger.api.cursors import Cursor, Limit, read_mark, write_mark
from ledger.api.money_shapes import PriceAnswer
from ledger.api.routes import both, moment
from ledger.audit_log import note
from ledger.db import Connection
from ledger.errors import InvalidRequest, NotFound
from ledger.identity.credentials import Principal
from ledger.identity.people import OPERATOR_SCOPE
from ledger.ids import text_of, uuid_of
from ledger.money import books
from ledger.money.audit import audit_at
from ledger.money.prices import set_price
from ledger.money.requests import VoidRequest
from ledger.operators import people, refunds
from ledger.operators.corrections import Correction
from ledger.operators.people import Listed
from ledger.payments import rows, withdrawals
from ledger.payments.rows import Payment

router = APIRouter(prefix="/api/admin", redirect_slashes=False)
Operator = Annotated[Principal, caller_with(OPERATOR_SCOPE)]
Text = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$", description="Beginning of a name or an address.")]
UNKNOWN = (401, 403, 404, 503)


def _id(prefix: str, text: str, kind: str) -> uuid.UUID:
    """Read an id of a path.

    Raises:
        NotFound: It is none of this kind.
    """
    try:
        return uuid_of(prefix, text)
    except ValueError as wrong:
        raise NotFound(kind, text[:60]) from wrong


# --- people and nodes ---------------------------------------------------------------------------------------------------------------


@both(router, "GET", "/users/", id="admin_list_users")
async def list_users(context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None, q: Text = "") -> People:
    """List accounts, newest first."""
    found = await people.list_people(context.database, q, limit + 1, read_mark(cursor))
    last = found[limit - 1] if len(found) > limit else None
    return People(results=[_person(row) for row in found[:limit]], next=write_mark((last.created_at, str(last.id)) if last else None))


def _person(row: Listed) -> PersonRow:
    return PersonRow(
        id=text_of("user", row.id), username=row.username, email=row.email, role=row.role, is_operator=row.is_operator,
        blocked_at=moment(row.blocked_at) if row.blocked_at else None, created_at=moment(row.created_at), total=credits_text(row.total),
        held=credits_text(row.held),
    )  # fmt: skip


@both(router, "GET", "/users/{user_id}/", id="admin_get_user", refusals=UNKNOWN)
async def get_user(context: Context, caller: Operator, user_id: str) -> PersonRow:
    """Look one account up."""
    return _person(await people.get_listed(context.database, _id("user", user_id, "User")))


@both(router, "POST", "/users/{user_id}/block/", id="admin_block_user", status=204, refusals=UNKNOWN)
async def block_user(context: Context, caller: Operator, user_id: str, body: Why, request: Request) -> Response:
    """Block an account: its sign-ins and keys stop working within seconds; its money stays."""
    await people.block(context.database, _id("user", user_id, "User"), caller.person, body.reason, of(caller, request))
    context.credentials.forget_sessions()
    return Response(status_code=204)


@both(router, "POST", "/users/{user_id}/unblock/", id="admin_unblock_user", status=204, refusals=UNKNOWN)
async def unblock_user(context: Context, caller: Operator, user_id: str, request: Request) -> Response:
    """Let an account work again."""
    await people.unblock(context.database, _id("user", user_id, "User"), of(caller, request))
    return Response(status_code=204)


@both(router, "POST", "/nodes/{node_id}/ban/", id="admin_ban_node", status=204, refusals=UNKNOWN)
async def ban_node(context: Context, caller: Operator, node_id: str, body: Why, request: Request) -> Response:
    """Ban a node: it gets no jobs and earns nothing from now on."""
    await people.ban_node(context.database, node_id, body.reason, of(caller, request))
    return Response(status_code=204)


# --- money --------------------------------------------------------------------------------------------------------------------------


@both(router, "GET", "/holds/", id="admin_list_holds")
async def list_holds(context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None) -> HoldRows:
    """List open holds, oldest first."""
    found = await books.open_holds(context.database, limit + 1, read_mark(cursor))
    last = found[limit - 1] if len(found) > limit else None
    results = [
        HoldRow(
            job_id=text_of("job", one.id), user=text_of("user", uuid.UUID(one.user)), model=one.model, amount=credits_text(one.amount),
            created_at=moment(one.at), expires_at=moment(one.expires_at),
        )
        for one in found[:limit]
    ]  # fmt: skip
    return HoldRows(results=results, next=write_mark((last.at, str(last.id)) if last else None))


@both(router, "POST", "/holds/{job_id}/void/", id="admin_void_hold", status=204, refusals=(400, 401, 403, 404, 409, 503))
async def void_hold(context: Context, caller: Operator, job_id: str, body: Why, request: Request) -> Response:
    """Give a hold back whose job will not end any more."""
    id_ = _id("job", job_id, "Hold")
    held = (await context.settling.open_holds([id_])).get(id_)
    if held is None:
        raise NotFound("Hold", job_id)
    await context.database.transact(lambda connection: note(connection, of(caller, request), "hold.voided", job_id, reason=body.reason))
    asked = VoidRequest(id=id_, service=str(held.meta.get("service")), reason=body.reason, retryable=False)
    (answer,) = await context.settling.resolve([asked])
    if isinstance(answer, Exception):
        raise answer
    return Response(status_code=204)


@both(router, "GET", "/withdrawals/", id="admin_list_withdrawals")
async def list_withdrawals(
    context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None, status: Annotated[str, Query(pattern="^(PENDING|SUCCESS|FAILED)$")] | None = None
) -> WithdrawalRows:  # fmt: skip
    """List withdrawals, newest first."""
    found = await books.withdrawals(context.database, limit + 1, read_mark(cursor), status)
    last = found[limit - 1] if len(found) > limit else None
    results = [
        WithdrawalRow(
            id=text_of(rows.PREFIXES["WITHDRAWAL"], one.id), user=one.username, amount=credits_text(one.amount), destination=one.destination, status=one.status,
            reason=one.reason, approvals=one.approvals, created_at=moment(one.at),
        )
        for one in found[:limit]
    ]  # fmt: skip
    return WithdrawalRows(results=results, next=write_mark((last.at, str(last.id)) if last else None))


@both(router, "POST", "/withdrawals/{withdrawal_id}/pay/", id="admin_pay_withdrawal", refusals=(400, 401, 403, 404, 409, 503))
async def pay_withdrawal(context: Context, caller: Operator, withdrawal_id: str, request: Request) -> WithdrawalRow:
    """Note that a withdrawal was paid; a large one is done when a second operator says so too."""
    await context.sign_in.require_fresh(caller.person, caller.session)
    id_ = rows.read_id(withdrawal_id)
    done = await withdrawals.mark_paid(context.payments, id_, caller.person, of(caller, request))
    return await _withdrawal(context.database.run, done)


@both(router, "POST", "/withdrawals/{withdrawal_id}/refuse/", id="admin_refuse_withdrawal", refusals=(400, 401, 403, 404, 409, 503))
async def refuse_withdrawal(context: Context, caller: Operator, withdrawal_id: str, body: Why, request: Request) -> WithdrawalRow:
    """Refuse a withdrawal: its money goes back to the earnings."""
    done = await withdrawals.refuse(context.payments, rows.read_id(withdrawal_id), caller.person, body.reason, of(caller, request))
    return await _withdrawal(context.database.run, done)


async def _withdrawal(run: books.Run, payment: Payment) -> WithdrawalRow:
    username, approvals = await books.owner_and_approvals(run, payment.id, payment.person)
    return WithdrawalRow(
        id=payment.text_id, user=username, amount=credits_text(payment.amount), destination=payment.destination, status=payment.status,
        reason=payment.reason, approvals=approvals, created_at=moment(payment.created_at),
    )  # fmt: skip


@both(router, "POST", "/prices/", id="admin_set_price", status=201)
async def make_price(context: Context, caller: Operator, body: NewPrice, request: Request) -> PriceAnswer:
    """Set a price; holds that are open keep the one they were made with."""

    async def work(connection: Connection) -> PriceAnswer:
        await note(connection, of(caller, request), "price.set", body.model or "default", job=body.job)
        row = await set_price(connection, body.model, body.job, body.prompt_per_million, body.completion_per_million)
        return PriceAnswer(
            version=row.version, job=credits_text(row.flat), prompt_per_million=credits_text(row.prompt_per_million),
            completion_per_million=credits_text(row.completion_per_million),
        )  # fmt: skip

    made = await context.database.transact(work)
    context.prices.forget()
    return made


@both(router, "POST", "/refunds/", id="admin_refund", status=201, refusals=(400, 401, 402, 403, 404, 409, 503))
async def refund(context: Context, caller: Operator, body: NewRefund, request: Request) -> RefundAnswer:
    """Give back what a job cost, from those who were paid for it; once."""
    done = await refunds.refund(context.database, _id("job", body.job_id, "Job"), body.reason, of(caller, request))
    return RefundAnswer(id=text_of("txn", done.id), amount=credits_text(done.amount))


@both(router, "GET", "/corrections/", id="admin_list_corrections")
async def list_corrections(context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None) -> CorrectionRows:
    """List corrections, newest first."""
    found = await context.corrections.list(limit + 1, read_mark(cursor))
    last = found[limit - 1] if len(found) > limit else None
    return CorrectionRows(
        results=[_correction(one) for one in found[:limit]], next=write_mark((last.created_at, str(last.id)) if last else None)
    )


def _correction(one: Correction) -> CorrectionRow:
    return CorrectionRow(
        id=text_of("cor", one.id), user=text_of("user", one.person), pocket=one.pocket, amount=credits_text(one.amount), reason=one.reason,
        proposed_by=text_of("user", one.proposed_by), state=one.state, created_at=moment(one.created_at),
    )  # fmt: skip


@both(router, "POST", "/corrections/", id="admin_propose_correction", status=201, refusals=(400, 401, 402, 403, 404, 503))
async def propose_correction(context: Context, caller: Operator, body: NewCorrection, request: Request) -> CorrectionRow:
    """Move credits between `platform:goodwill` and somebody's pocket; above a limit a second operator has to approve."""
    if not body.amount:
        raise InvalidRequest("amount", "Ensure this value is not zero.")
    person = _id("user", body.user, "User")
    return _correction(await context.corrections.propose(person, body.pocket, body.amount, body.reason, caller.person, of(caller, request)))


@both(router, "POST", "/corrections/{correction_id}/approve/", id="admin_approve_correction", refusals=(400, 401, 402, 403, 404, 409, 503))
async def approve_correction(context: Context, caller: Operator, correction_id: str, request: Request) -> CorrectionRow:
    """Agree as the second operator; it is posted."""
    id_ = _id("cor", correction_id, "Correction")
    return _correction(await context.corrections.approve(id_, caller.person, of(caller, request)))


@both(router, "POST", "/corrections/{correction_id}/refuse/", id="admin_refuse_correction", refusals=(401, 403, 404, 409, 503))
async def refuse_correction(context: Context, caller: Operator, correction_id: str, request: Request) -> CorrectionRow:
    """Refuse it."""
    return _correction(await context.corrections.refuse(_id("cor", correction_id, "Correction"), of(caller, request)))


# --- proof --------------------------------------------------------------------------------------------------------------------------


@both(router, "GET", "/audit/", id="admin_audit", refusals=(401, 403, 503))
async def audit(context: Context, caller: Operator) -> Findings:
    """Check every rule of the books on one snapshot."""
    found = await asyncio.to_thread(audit_at, context.settings.database_url)
    rules = [Finding(rule=one.rule, held=one.is_held, violations=[list(map(str, row)) for row in one.violations]) for one in found]
    return Findings(held=all(one.held for one in rules), rules=rules)


@both(router, "GET", "/audit-log/", id="admin_audit_log")
async def read_log(
    context: Context,
    caller: Operator,
    limit: Limit = 20,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before.")] = None,
    *,
    verify: Annotated[bool, Query(description="Check the hash chain too.")] = False,
) -> LogRows:
    """Read the audit log, newest first."""
    lines = await context.database.run(lambda connection: audit_log.read(connection, limit + 1, before))
    broken = await context.database.run(audit_log.verify) if verify else None
    results = [
        LogRow(
            at=moment(line.at),
            **{name: getattr(line, name) for name in ("seq", "actor", "action", "target", "address", "request_id", "detail")},
        )
        for line in lines[:limit]
    ]
    return LogRows(results=results, next=str(lines[limit - 1].seq) if len(lines) > limit else None, broken_at=broken)
