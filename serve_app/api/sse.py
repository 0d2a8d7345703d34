"""Server-sent events over a generator that is closed in every case, also when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.types import Receive, Scope, Send


class EventStream:
    """An ASGI response that sends what a generator yields.

    Starlette's own streaming response leaves the generator to the garbage collector when the client goes; ours is closed at once, since
    closing it is what stops the job. `left`, where given, takes what is still to be read of it instead, as a task that nobody hears.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        headers: dict[str, str],
        left: Callable[["asyncio.Task[None]"], None] | None = None,
        *,
        media_type: str = "text/event-stream; charset=utf-8",
    ) -> None:
        self._events = events
        self._left = left
        self._is_heard = True
        self._headers = [
            (b"content-type", media_type.encode()), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; end it when the client leaves."""
        sender = asyncio.ensure_future(self._send(send))
        listener = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
        finally:  # sent, left, or canceled: Ray Serve cancels the request of a client that leaves
            ends = [listener]
            if self._left is not None and not sender.done():
                self._is_heard = False
                self._left(sender)
            else:
                ends.append(sender)
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            if self._is_heard:
                await self._events.aclose()

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            async for event in self._events:
                if self._is_heard:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            if self._is_heard:
                await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
