"""Lets the console's page call the job APIs: it is served by the ledger, which is another origin (Fetch standard, "CORS protocol").

The list is exact. No cookie ever counts here, so nothing is allowed that a page could not do with the credential that it has in its hands.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.context import ServeContext

METHODS = "GET, POST, PATCH, DELETE"
SENT = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
READ = "Content-Disposition, Idempotent-Replayed, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-GFE-Cost, X-GFE-Job"
KEPT_S = "7200"  # no browser keeps it longer


class CrossOrigin:
    """An ASGI application around another; requests without an `Origin`, which programs send, pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        context: ServeContext = scope["app"].state.context
        allowed = {"Vary": "Origin"}
        if origin in context.settings.origins:
            allowed |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": READ}
        if scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope):
            if len(allowed) > 1:
                allowed |= {"Access-Control-Allow-Methods": METHODS, "Access-Control-Allow-Headers": SENT, "Access-Control-Max-Age": KEPT_S}
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowed)
            await send(message)

        await self._app(scope, receive, send_allowed)
