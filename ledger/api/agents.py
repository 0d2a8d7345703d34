"""Agents and nodes: codes of people, what agents call before they connect, what owners do with their nodes."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger.api.agent_shapes import (
    AgentAccess,
    AgentTokenPage,
    AgentTokenRow,
    Enroll,
    Enrolled,
    MadeAgentToken,
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
from ledger.api.cursors import read_mark, write_mark
from ledger.api.people import REFUSALS, Context, Cursor, Limit, caller_with
from ledger.api.shapes import Problem
from ledger.audit_log import Origin
from ledger.identity.enrollment import ID_PREFIX, NONCE_LIFE_S, TOKEN_LIFE_S, AgentToken, Applicant
from ledger.identity.nodes import Node
from ledger.ids import text_of

router = APIRouter(prefix="/api/core", redirect_slashes=False)
Reader = Annotated[Any, caller_with("nodes:read")]
Owner = Annotated[Any, caller_with("nodes:write")]
REFUSED: dict[int | str, dict[str, Any]] = {
    status: REFUSALS[status] for status in (400, 401, 503)
}  # of routes that agents call: no scopes there
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "unknown"}}
MESSAGE = "Copy this code now: it is shown once, works once, and expires in 10 minutes."


def _origin(request: Request, caller: Any) -> Origin:
    return Origin(text_of("user", caller.person), _address(request), request.headers.get("x-request-id", "")[:100] or None)


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


@router.post("/agent-token/generate/", operation_id="generate_agent_token", status_code=201, responses=REFUSALS | UNKNOWN)
@router.post("/agent-token/generate", include_in_schema=False, status_code=201)
async def generate(request: Request, context: Context, caller: Owner, body: NewAgentToken | None = None) -> MadeAgentToken:
    """Make a one-time enrollment code; it is shown this once."""
    wanted = body or NewAgentToken()
    made = await context.enrollment.generate(_origin(request, caller), caller.person, wanted.label, wanted.node_id)
    return MadeAgentToken(
        token=made.code, id=text_of(ID_PREFIX, made.id), label=made.label, created_at=_moment(made.created_at),
        expires_at=_moment(made.expires_at), message=MESSAGE,
    )  # fmt: skip


@router.get("/agent-token/list/", operation_id="list_agent_tokens", responses=REFUSALS)
@router.get("/agent-token/list", include_in_schema=False)
async def list_tokens(context: Context, caller: Reader, limit: Limit = 20, cursor: Cursor = None) -> AgentTokenPage:
    """List the caller's codes and agents, newest first; never the codes themselves."""
    rows = await context.enrollment.list_tokens(caller.person, limit=limit + 1, before=read_mark(cursor))
    last = rows[limit - 1] if len(rows) > limit else None
    return AgentTokenPage(
        results=[_token_row(row) for row in rows[:limit]], next=write_mark((last.created_at, str(last.id)) if last else None)
    )


def _token_row(row: AgentToken) -> AgentTokenRow:
    return AgentTokenRow(
        id=text_of(ID_PREFIX, row.id), label=row.label, created_at=_moment(row.created_at), expires_at=_moment(row.expires_at),
        last_used=_moment_or_none(row.last_used_at), token_prefix=row.prefix, node_id=row.node, revoked_at=_moment_or_none(row.revoked_at),
    )  # fmt: skip


@router.post("/agent-token/{token_id}/revoke/", operation_id="revoke_agent_token", responses=REFUSALS | UNKNOWN)
@router.post("/agent-token/{token_id}/revoke", include_in_schema=False)
async def revoke(request: Request, context: Context, caller: Owner, token_id: str) -> RevokedAgentToken:
    """Revoke a code; the agent that used it is cut within seconds."""
    await context.enrollment.revoke(_origin(request, caller), caller.person, token_id)
    return RevokedAgentToken(id=token_id)


@router.post(
    "/agent/enroll/",
    operation_id="enroll_agent",
    status_code=201,
    responses=REFUSED | {409: {"model": Problem, "description": "the key belongs to a node"}},
)
@router.post("/agent/enroll", include_in_schema=False, status_code=201)
async def enroll(request: Request, context: Context, body: Enroll) -> Enrolled:
    """Make a node of an agent. The same code with the same key, while the code lives, gets the same answer."""
    node = await context.enrollment.enroll(Applicant(**body.model_dump()), _address(request))
    return Enrolled(node_id=node, ws_url=context.settings.agent_url, min_agent_version=context.settings.min_agent_version)


@router.post("/agent/nonce/", operation_id="make_agent_nonce", responses={status: REFUSALS[status] for status in (400, 503)})
@router.post("/agent/nonce", include_in_schema=False)
async def nonce(context: Context, body: NonceWanted) -> Nonce:
    """Make a nonce to be signed; it works once, for a minute."""
    return Nonce(nonce=await context.agent_tokens.nonce(body.node_id), expires_in_s=NONCE_LIFE_S)


@router.post("/agent/token/", operation_id="make_agent_access", responses=REFUSED)
@router.post("/agent/token", include_in_schema=False)
async def token(context: Context, body: SignedNonce) -> AgentAccess:
    """Make the short token that an agent connects with."""
    made = await context.agent_tokens.token(context.signing_keys, body.node_id, body.nonce, body.signature)
    return AgentAccess(access_token=made, expires_in_s=TOKEN_LIFE_S)


@router.get("/nodes/", operation_id="list_nodes", responses=REFUSALS)
@router.get("/nodes", include_in_schema=False)
async def list_nodes(
    context: Context, caller: Reader, limit: Limit = 20, cursor: Cursor = None, state: Annotated[NodeState | None, Query()] = None
) -> NodePage:
    """List the caller's nodes, newest first; deregistered ones only with `state=deregistered`."""
    rows = await context.nodes.list_nodes(caller.person, limit=limit + 1, before=read_mark(cursor), state=state)
    last = rows[limit - 1] if len(rows) > limit else None
    return NodePage(results=[_node(row) for row in rows[:limit]], next=write_mark((last.created_at, last.id) if last else None))


def _node(node: Node) -> NodeAnswer:
    return NodeAnswer(
        id=node.id, name=node.name, kind=node.kind, state=node.state, tier=node.tier, agent_version=node.agent_version,
        platform=node.platform, created_at=_moment(node.created_at), last_seen_at=_moment_or_none(node.last_seen_at),
    )  # fmt: skip


@router.patch("/nodes/{node_id}/", operation_id="change_node", responses=REFUSALS | UNKNOWN)
@router.patch("/nodes/{node_id}", include_in_schema=False)
async def change_node(request: Request, context: Context, caller: Owner, node_id: str, body: NodeChange) -> NodeAnswer:
    """Rename, pause or resume one of the caller's nodes."""
    return _node(await context.nodes.change(_origin(request, caller), caller.person, node_id, name=body.name, state=body.state))


@router.delete("/nodes/{node_id}/", operation_id="deregister_node", status_code=204, responses=REFUSALS | UNKNOWN)
@router.delete("/nodes/{node_id}", include_in_schema=False, status_code=204)
async def deregister_node(request: Request, context: Context, caller: Owner, node_id: str) -> Response:
    """Deregister one of the caller's nodes: cut within seconds, its history stays."""
    await context.nodes.deregister(_origin(request, caller), caller.person, node_id)
    return Response(status_code=204)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _moment_or_none(at: datetime | None) -> str | None:
    return _moment(at) if at else None
