"""What operators look at beside the console: Ray's dashboard and Grafana, behind the dashboard guard, and the pass that lets a browser in."""

from typing import Annotated

from fastapi import APIRouter, Request

from ledger.api.admin_shapes import GuardPass, ToolRow, ToolRows
from ledger.api.callers import Context, caller_with, of
from ledger.api.routes import both
from ledger.audit_log import note
from ledger.errors import NotFound
from ledger.identity.credentials import Principal
from ledger.identity.passes import LIFETIME_S
from ledger.identity.people import OPERATOR_SCOPE
from ledger.settings import LedgerSettings

router = APIRouter(prefix="/api/admin", redirect_slashes=False)
Operator = Annotated[Principal, caller_with(OPERATOR_SCOPE)]


def tools_of(settings: LedgerSettings) -> dict[str, str]:
    """Tell the tools that can be looked at here, by name, with their titles."""
    if settings.guard_url is None:
        return {}
    return {"ray": "Ray dashboard"} | ({"grafana": "Grafana"} if settings.grafana_url else {})


@both(router, "GET", "/tools/", id="admin_list_tools", refusals=(401, 403, 503))
async def list_tools(context: Context, caller: Operator) -> ToolRows:
    """List what operators can look at through the dashboard guard; nothing where none is set up."""
    return ToolRows(results=[ToolRow(name=name, title=title) for name, title in tools_of(context.settings).items()])


@both(router, "POST", "/tools/{tool}/pass/", id="admin_make_pass", status=201, refusals=(401, 403, 404, 503))
async def make_pass(context: Context, caller: Operator, tool: str, request: Request) -> GuardPass:
    """Make a pass: post it as the field `pass` of a form to `url`, with the field `tool`, once and within seconds."""
    url = context.settings.guard_url
    if url is None or tool not in tools_of(context.settings):
        raise NotFound("Tool", tool[:60])
    word = context.passes.make(caller)
    await context.database.transact(lambda connection: note(connection, of(caller, request), "guard.pass_made", tool))
    return GuardPass(word=word, tool=tool, url=f"{url.rstrip('/')}/enter", expires_in_s=LIFETIME_S)
