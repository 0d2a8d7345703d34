"""How the internal routes are made that take one message of one of our own services and answer another."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ledger import wire
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError, LedgerUnavailable, NotPermitted
from ledger.problems import status_of

MAX_BODY_BYTES = wire.MAX_SEALED + 16 * 1024
Asked = TypeVar("Asked", bound=wire.Wire)
Handler = Callable[[Request], Awaitable[Response]]


def route_of(
    services: frozenset[str], right: str, asked: type[Asked], answer: Callable[[LedgerContext, Asked], Awaitable[wire.Wire]]
) -> Handler:
    """Make a route that these services may call; `right` is what others are told that they lack."""

    async def route(request: Request) -> Response:
        context: LedgerContext = request.app.state.context
        try:
            if context.services.verify(request.headers.get("authorization")) not in services:
                raise NotPermitted(right)
            said = await answer(context, await _read(request, asked))
        except LedgerError as refused:
            return _refused(refused)
        except DatabaseUnavailable:
            return _refused(LedgerUnavailable())
        return Response(said.model_dump_json(), media_type="application/json")

    return route


async def _read(request: Request, asked: type[Asked]) -> Asked:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest("body", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        return asked.model_validate_json(bytes(body))
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
        raise InvalidRequest(".".join(map(str, first["loc"])), str(first["msg"])) from wrong


def _refused(error: LedgerError) -> Response:
    fields = {name: value for name, value in vars(error).items() if isinstance(value, int | str)}
    return Response(wire.Refused(code=error.code, fields=fields).model_dump_json(), status_of(error)[0], media_type="application/json")
