"""What every answer of the public app goes through: a limit on bodies while they are read, headers of security and of limits."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.identity.limits import ROOM, Room
from ledger.problems import problem

MAX_BODY_BYTES = 1024 * 1024
HEADERS = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
API_HEADERS = (*HEADERS, (b"cache-control", b"no-store"))


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        room = Room()
        ROOM.set(room)
        wanted = API_HEADERS if scope["path"].startswith("/api/") else HEADERS

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                limits = [(name.lower().encode(), value.encode()) for name, value in room.headers().items()]
                message = {**message, "headers": given + limits + [header for header in wanted if header[0] not in names]}
            await send(message)

        read = await _read(receive) if scope["method"] not in {"GET", "HEAD", "OPTIONS"} else ()
        if read is None:
            refusal = problem(413, "Too large", f"The body is larger than {MAX_BODY_BYTES} bytes.", "too_large")
            await refusal(scope, receive, send_guarded)
            return
        waiting = list(read)

        async def receive_again() -> Message:
            return waiting.pop(0) if waiting else await receive()

        await self._app(scope, receive_again, send_guarded)


async def _read(receive: Receive) -> tuple[Message, ...] | None:
    """Read a body up to the limit; None: it is larger."""
    size = 0
    messages: list[Message] = []
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return tuple(messages)
