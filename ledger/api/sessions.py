"""Open sign-ins of the caller: list them, end one, end all others."""

import uuid

from fastapi import APIRouter, Request
from starlette.responses import Response

from ledger.api.account_shapes import SessionPage, SessionRow
from ledger.api.accounts import SignedIn
from ledger.api.callers import Context, of
from ledger.api.cursors import Cursor, Limit, read_mark, write_mark
from ledger.api.routes import both, moment
from ledger.errors import InvalidRequest, NotFound
from ledger.identity.sessions import OpenSession
from ledger.ids import text_of, uuid_of

PREFIX = "session"
router = APIRouter(prefix="/api/core/sessions", redirect_slashes=False)


@both(router, "GET", "/", id="list_sessions", refusals=(400, 401, 403, 503))
async def list_sessions(context: Context, caller: SignedIn, limit: Limit = 20, cursor: Cursor = None) -> SessionPage:
    """List where the caller is signed in, newest first."""
    mark = read_mark(cursor)
    before = (mark[0], _id_in(mark[1])) if mark else None
    found = await context.sessions.open_ones(caller.person, limit=limit + 1, before=before)
    last = found[limit - 1] if len(found) > limit else None
    return SessionPage(
        results=[_row(one, caller.session) for one in found[:limit]], next=write_mark((last.created_at, last.id.hex) if last else None)
    )


@both(router, "DELETE", "/{session_id}/", id="end_session", status=204, refusals=(401, 403, 404, 503))
async def end_session(context: Context, caller: SignedIn, session_id: str, request: Request) -> Response:
    """Sign the caller out there; the asking sign-in too, if it is named."""
    try:
        session = uuid_of(PREFIX, session_id)
    except ValueError as wrong:
        raise NotFound("Session", session_id[:60]) from wrong
    await context.sessions.end(caller.person, session, of(caller, request))
    context.credentials.forget_sessions()
    return Response(status_code=204)


@both(router, "POST", "/end-others/", id="end_other_sessions", status=204, refusals=(401, 403, 503))
async def end_other_sessions(context: Context, caller: SignedIn, request: Request) -> Response:
    """Sign the caller out everywhere but here. Keys stay: revoke those for themselves."""
    assert caller.session is not None
    await context.sessions.end_others(caller.person, caller.session, of(caller, request))
    context.credentials.forget_sessions()
    return Response(status_code=204)


def _row(one: OpenSession, current: uuid.UUID | None) -> SessionRow:
    return SessionRow(
        id=text_of(PREFIX, one.id), is_current=one.id == current, created_at=moment(one.created_at), renewed_at=moment(one.renewed_at),
        expires_at=moment(one.expires_at), address=one.address, program=one.program,
    )  # fmt: skip


def _id_in(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as wrong:
        raise InvalidRequest("cursor", "This cursor is not one of ours; start again without it.") from wrong
