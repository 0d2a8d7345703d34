"""Audits of nodes: what their owners read and object to, what operators see and decide."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger.api.callers import Context, caller_with, of
from ledger.api.cursors import Cursor, Limit, read_mark, write_mark
from ledger.api.routes import both, moment
from ledger.api.verification_shapes import (
    AppealRow,
    AppealRows,
    AppealState,
    Decision,
    Lift,
    NewAppeal,
    NodeAudits,
    StepRow,
    SuspectRow,
    SuspectRows,
    VerdictRow,
    VerdictRows,
)
from ledger.identity.credentials import Principal
from ledger.identity.people import OPERATOR_SCOPE
from ledger.ids import text_of
from ledger.verification import appeals, reports
from ledger.verification.appeals import ID_PREFIX, Appeal
from ledger.verification.reports import Done, Judged, Suspect

router = APIRouter(prefix="/api/core", redirect_slashes=False)
admin_router = APIRouter(prefix="/api/admin", redirect_slashes=False)
Reader = Annotated[Principal, caller_with("nodes:read")]
Owner = Annotated[Principal, caller_with("nodes:write")]
Operator = Annotated[Principal, caller_with(OPERATOR_SCOPE)]
Flagged = Annotated[bool | None, Query(description="Flagged ones alone, or the others alone.")]
NodeId = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Of one node alone.")]


@both(router, "GET", "/nodes/{node_id}/audits/", id="get_node_audits", refusals=(400, 401, 403, 404, 503))
async def node_audits(context: Context, caller: Reader, node_id: str, limit: Limit = 20, cursor: Cursor = None) -> NodeAudits:
    """Tell what was found about one of the caller's nodes, with reasons: verdicts, steps, strikes, and the newest appeal."""
    mark = read_mark(cursor)
    found = await context.database.run(lambda connection: reports.report(connection, caller.person, node_id, limit + 1, mark))
    return NodeAudits(
        node_id=found.node, state=found.state, state_reason=found.state_reason, tier=found.tier, audit_percent=found.audit_percent,
        jobs=found.jobs, audited=found.audited, strikes=found.record.strikes, count_alarms=found.record.alarms,
        what_next=reports.what_next(found.record.strikes, found.state), steps=[_step(one) for one in found.steps],
        appeal=_appeal(found.appeal) if found.appeal else None, results=[_verdict(one) for one in found.verdicts[:limit]],
        next=_next_of(found.verdicts, limit),
    )  # fmt: skip


def _verdict(one: Judged) -> VerdictRow:
    return VerdictRow(
        job_id=text_of("job", one.job), node_id=one.node, at=moment(one.at), model=one.model, is_flagged=one.is_flagged, rule=one.rule,
        score=one.score, windows=one.windows, tokens=one.tokens, detail=one.detail,
    )  # fmt: skip


def _next_of(found: list[Judged], limit: int) -> str | None:
    return write_mark((found[limit - 1].at, str(found[limit - 1].job))) if len(found) > limit else None


def _step(one: Done) -> StepRow:
    return StepRow(at=moment(one.at), step=one.step, reason=one.reason, job_id=text_of("job", one.job) if one.job else None)


def _appeal(one: Appeal) -> AppealRow:
    return AppealRow(
        id=text_of(ID_PREFIX, one.id), node_id=one.node, note=one.note, state=one.state, answer=one.answer, created_at=moment(one.created_at),
        decided_at=moment(one.decided_at) if one.decided_at else None,
    )  # fmt: skip


@both(router, "POST", "/nodes/{node_id}/appeal/", id="appeal_node", status=201, refusals=(400, 401, 403, 404, 409, 503))
async def appeal(request: Request, context: Context, caller: Owner, node_id: str, body: NewAppeal) -> AppealRow:
    """Object to what was found about one of the caller's nodes; an operator decides. One appeal of a node is open at a time."""
    return _appeal(await context.appeals.file(of(caller, request), caller.person, node_id, body.note))


# --- operators ----------------------------------------------------------------------------------------------------------------------


@both(admin_router, "GET", "/suspect-nodes/", id="admin_list_suspect_nodes")
async def list_suspects(context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None) -> SuspectRows:
    """List nodes in quarantine, banned, with a flag, or with an open appeal; the last changed first."""
    mark = read_mark(cursor)
    found = await context.database.run(lambda connection: reports.suspects(connection, limit + 1, mark))
    last = found[limit - 1] if len(found) > limit else None
    return SuspectRows(results=[_suspect(one) for one in found[:limit]], next=write_mark((last.changed_at, last.node) if last else None))


def _suspect(one: Suspect) -> SuspectRow:
    return SuspectRow(
        node_id=one.node, name=one.name, owner=one.owner, state=one.state, state_reason=one.state_reason, tier=one.tier, strikes=one.strikes,
        count_alarms=one.alarms, has_open_appeal=one.has_open_appeal, changed_at=moment(one.changed_at),
    )  # fmt: skip


@both(admin_router, "GET", "/verdicts/", id="admin_list_verdicts")
async def list_verdicts(
    context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None, node_id: NodeId = None, flagged: Flagged = None
) -> VerdictRows:
    """List verdicts of audits, newest first."""
    mark = read_mark(cursor)
    found = await context.database.run(lambda connection: reports.verdicts(connection, limit + 1, mark, node=node_id, is_flagged=flagged))
    return VerdictRows(results=[_verdict(one) for one in found[:limit]], next=_next_of(found, limit))


@both(admin_router, "POST", "/nodes/{node_id}/lift/", id="admin_lift_node", status=204, refusals=(400, 401, 403, 404, 503))
async def lift_node(context: Context, caller: Operator, node_id: str, body: Lift, request: Request) -> Response:
    """Let a node in quarantine work again. A pardon forgets what was found, ends a ban, and gives back what the node lost by it."""
    await context.appeals.lift(node_id, is_pardoned=body.pardon, reason=body.reason, origin=of(caller, request))
    return Response(status_code=204)


@both(admin_router, "GET", "/appeals/", id="admin_list_appeals")
async def list_appeals(
    context: Context, caller: Operator, limit: Limit = 20, cursor: Cursor = None, state: Annotated[AppealState | None, Query()] = None
) -> AppealRows:
    """List appeals, newest first."""
    mark = read_mark(cursor)
    found = await context.database.run(lambda connection: appeals.list_appeals(connection, limit + 1, mark, state))
    last = found[limit - 1] if len(found) > limit else None
    return AppealRows(results=[_appeal(one) for one in found[:limit]], next=write_mark((last.created_at, str(last.id)) if last else None))


@both(admin_router, "POST", "/appeals/{appeal_id}/decide/", id="admin_decide_appeal", refusals=(400, 401, 403, 404, 409, 503))
async def decide_appeal(context: Context, caller: Operator, appeal_id: str, body: Decision, request: Request) -> AppealRow:
    """Decide an appeal; the provider reads the reason."""
    return _appeal(await context.appeals.decide(appeal_id, is_upheld=body.uphold, answer=body.reason, origin=of(caller, request)))
