"""Agents and nodes: codes of people, what agents call before they connect, what owners do with their nodes."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger.amounts import credits_text
from ledger.api.agent_shapes import (
    AgentAccess,
    AgentStatus,
    AgentTokenPage,
    AgentTokenRow,
    Enroll,
    Enrolled,
    MadeAgentToken,
    ModelAdmission,
    NewAgentToken,
    NodeAnswer,
    NodeChange,
    NodePage,
    NodeState,
    Nonce,
    NonceWanted,
    RevokedAgentToken,
    SignedNonce,
)
from ledger.api.callers import AgentClaims, Context, address_of, caller_with, of
from ledger.api.cursors import Cursor, Limit, read_mark, write_mark
from ledger.api.routes import both, moment
from ledger.context import LedgerContext
from ledger.identity.credentials import Principal
from ledger.identity.enrollment import ID_PREFIX, NONCE_LIFE_S, TOKEN_LIFE_S, AgentToken, Applicant
from ledger.identity.limits import Bucket
from ledger.identity.nodes import Node
from ledger.ids import text_of
from ledger.verification.admissions import Admission
from ledger.verification.node_status import reasons, status_of

router = APIRouter(prefix="/api/core", redirect_slashes=False)
STATUS_PER_MINUTE = 30  # per node
Reader = Annotated[Principal, caller_with("nodes:read")]
Owner = Annotated[Principal, caller_with("nodes:write")]
PER_MINUTE = 240  # of each kind, per address
MESSAGE = "Copy this code now: it is shown once, works once, and expires in 10 minutes."


@both(router, "POST", "/agent-token/generate/", id="generate_agent_token", status=201, refusals=(400, 401, 403, 404, 503))
async def generate(request: Request, context: Context, caller: Owner, body: NewAgentToken | None = None) -> MadeAgentToken:
    """Make a one-time enrollment code; it is shown this once."""
    wanted = body or NewAgentToken()
    made = await context.enrollment.generate(of(caller, request), caller.person, wanted.label, wanted.node_id)
    return MadeAgentToken(
        token=made.code, id=text_of(ID_PREFIX, made.id), label=made.label, created_at=moment(made.created_at),
        expires_at=moment(made.expires_at), message=MESSAGE,
    )  # fmt: skip


@both(router, "GET", "/agent-token/list/", id="list_agent_tokens", refusals=(400, 401, 403, 503))
async def list_tokens(context: Context, caller: Reader, limit: Limit = 20, cursor: Cursor = None) -> AgentTokenPage:
    """List the caller's codes and agents, newest first; never the codes themselves."""
    rows = await context.enrollment.list_tokens(caller.person, limit=limit + 1, before=read_mark(cursor))
    last = rows[limit - 1] if len(rows) > limit else None
    return AgentTokenPage(
        results=[_token_row(row) for row in rows[:limit]], next=write_mark((last.created_at, str(last.id)) if last else None)
    )


def _token_row(row: AgentToken) -> AgentTokenRow:
    return AgentTokenRow(
        id=text_of(ID_PREFIX, row.id), label=row.label, created_at=moment(row.created_at), expires_at=moment(row.expires_at),
        last_used=_moment_or_none(row.last_used_at), token_prefix=row.prefix, node_id=row.node, revoked_at=_moment_or_none(row.revoked_at),
    )  # fmt: skip


@both(router, "POST", "/agent-token/{token_id}/revoke/", id="revoke_agent_token", refusals=(401, 403, 404, 503))
async def revoke(request: Request, context: Context, caller: Owner, token_id: str) -> RevokedAgentToken:
    """Revoke a code; the agent that used it is cut within seconds."""
    await context.enrollment.revoke(of(caller, request), caller.person, token_id)
    return RevokedAgentToken(id=token_id)


async def _require_room(request: Request, context: LedgerContext, what: str) -> None:
    """Refuse an address that asks too often; agents behind one address share it.

    Raises:
        RateLimited: It does.
    """
    await context.limits.require_room(f"{what} per minute", Bucket(f"agent-{what}:{address_of(request)}", PER_MINUTE))


@both(router, "POST", "/agent/enroll/", id="enroll_agent", status=201, refusals=(400, 401, 409, 429, 503), public=True)
async def enroll(request: Request, context: Context, body: Enroll) -> Enrolled:
    """Make a node of an agent. The same code with the same key, while the code lives, gets the same answer."""
    await _require_room(request, context, "enrollments")
    node = await context.enrollment.enroll(Applicant(**body.model_dump()), address_of(request))
    return Enrolled(node_id=node, ws_url=context.settings.agent_url, min_agent_version=context.settings.min_agent_version)


@both(router, "POST", "/agent/nonce/", id="make_agent_nonce", refusals=(400, 429, 503), public=True)
async def nonce(request: Request, context: Context, body: NonceWanted) -> Nonce:
    """Make a nonce to be signed; it works once, for a minute."""
    await _require_room(request, context, "nonces")
    return Nonce(nonce=await context.agent_tokens.nonce(body.node_id), expires_in_s=NONCE_LIFE_S)


@both(router, "POST", "/agent/token/", id="make_agent_access", refusals=(400, 401, 429, 503), public=True)
async def token(request: Request, context: Context, body: SignedNonce) -> AgentAccess:
    """Make the short token that an agent connects with."""
    await _require_room(request, context, "tokens")
    made = await context.agent_tokens.token(context.signing_keys, body.node_id, body.nonce, body.signature)
    return AgentAccess(access_token=made, expires_in_s=TOKEN_LIFE_S)


@both(router, "GET", "/agent/status/", id="get_agent_status", refusals=(401, 429, 503))
async def status(context: Context, claims: AgentClaims) -> AgentStatus:
    """Tell an agent, by its short token, how its node stands and what it earned."""
    node = str(claims["sub"])
    await context.limits.require_room("status per minute", Bucket(f"agent-status:{node}", STATUS_PER_MINUTE))
    found = await context.database.run(lambda connection: status_of(connection, claims, context.settings.payout_delay))
    models = await context.admissions.of_nodes([found.node])
    total, today = await context.earnings.of_node(found.person, found.node, datetime.now(UTC))
    held = found.escrow
    return AgentStatus(
        node_id=found.node, name=found.name, state=found.state, state_reason=found.state_reason, tier=found.tier, strikes=found.strikes,
        earned_today=credits_text(today.earned), earned_total=credits_text(total.earned), jobs_today=today.jobs, jobs_total=total.jobs,
        held=credits_text(held.held if held else 0), held_until=_moment_or_none(held.last_at) if held else None, reasons=reasons(found, models[found.node]),
    )  # fmt: skip


@both(router, "GET", "/nodes/", id="list_nodes", refusals=(400, 401, 403, 404, 503))
async def list_nodes(
    context: Context, caller: Reader, limit: Limit = 20, cursor: Cursor = None, state: Annotated[NodeState | None, Query()] = None
) -> NodePage:
    """List the caller's nodes, newest first; deregistered ones only with `state=deregistered`."""
    rows = await context.nodes.list_nodes(caller.person, limit=limit + 1, before=read_mark(cursor), state=state)
    last = rows[limit - 1] if len(rows) > limit else None
    models = await context.admissions.of_nodes([row.id for row in rows[:limit]])
    return NodePage(
        results=[_node(row, models[row.id]) for row in rows[:limit]], next=write_mark((last.created_at, last.id) if last else None)
    )


def _node(node: Node, models: list[Admission]) -> NodeAnswer:
    return NodeAnswer(
        id=node.id, name=node.name, kind=node.kind, state=node.state, state_reason=node.state_reason, tier=node.tier, agent_version=node.agent_version,
        platform=node.platform, created_at=moment(node.created_at), last_seen_at=_moment_or_none(node.last_seen_at),
        admissions=[_admission(one) for one in models],
    )  # fmt: skip


def _admission(one: Admission) -> ModelAdmission:
    how_far = one.progress
    return ModelAdmission(
        model=one.model, digest=one.digest, state=one.state, said=one.said, wanted=how_far.wanted, asked=how_far.asked, passed=how_far.good,
        failed=how_far.failed, flagged=how_far.flagged, first_token_s=one.first_token_s, tokens_per_s=one.tokens_per_s,
        again_at=_moment_or_none(one.again_at),
    )  # fmt: skip


@both(router, "PATCH", "/nodes/{node_id}/", id="change_node", refusals=(400, 401, 403, 404, 503))
async def change_node(request: Request, context: Context, caller: Owner, node_id: str, body: NodeChange) -> NodeAnswer:
    """Rename, pause or resume one of the caller's nodes."""
    changed = await context.nodes.change(of(caller, request), caller.person, node_id, name=body.name, state=body.state)
    return _node(changed, (await context.admissions.of_nodes([changed.id]))[changed.id])


@both(router, "DELETE", "/nodes/{node_id}/", id="deregister_node", status=204, refusals=(400, 401, 403, 404, 503))
async def deregister_node(request: Request, context: Context, caller: Owner, node_id: str) -> Response:
    """Deregister one of the caller's nodes: cut within seconds, its history stays."""
    await context.nodes.deregister(of(caller, request), caller.person, node_id)
    return Response(status_code=204)


def _moment_or_none(at: datetime | None) -> str | None:
    return moment(at) if at else None
