"""The agent's installer, and the wheel that it installs. No secrets; anybody may read both."""

import asyncio
import shlex
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from ledger.api.callers import Context
from ledger.errors import NotFound
from ledger.own_wheel import OwnWheel, own_wheel

SCRIPT = Path(__file__).parents[1] / "install.sh"
CACHED = {"Cache-Control": "public, max-age=300"}
router = APIRouter(include_in_schema=False)


async def _wheel(request: Request) -> OwnWheel:
    """The wheel of what runs here; made once, at the first wish."""
    state = request.app.state
    if not hasattr(state, "making_wheel"):
        state.making_wheel = asyncio.create_task(asyncio.to_thread(own_wheel))
    made: OwnWheel = await asyncio.shield(state.making_wheel)
    return made


@router.get("/install.sh")
async def install(context: Context, wheel: Annotated[OwnWheel, Depends(_wheel)]) -> PlainTextResponse:
    """The script that installs the agent from here."""
    url = context.settings.site_url
    text = SCRIPT.read_text().replace("@QUOTED_URL@", shlex.quote(url)).replace("@URL@", "".join(url.split()))
    text = text.replace("@QUOTED_WHEEL@", shlex.quote(f"{wheel.name}#sha256={wheel.sha256}"))
    return PlainTextResponse(text, headers=CACHED)


@router.get("/dist/{name}")
async def dist(name: str, wheel: Annotated[OwnWheel, Depends(_wheel)]) -> Response:
    """The wheel."""
    if name != wheel.name:
        raise NotFound("File", name)
    return Response(wheel.content, media_type="application/octet-stream", headers=CACHED)
