"""Leaves an HTTP connection fit for the next request after its answer has told its last line."""

import asyncio

import aiohttp

END_LIMIT_S = 0.05  # the end follows the last line at once, or the connection is not worth waiting for


async def read_to_end(answer: aiohttp.ClientResponse) -> None:
    """Read the end of an answer whose last line is known: aiohttp closes a connection that is let go before it.

    Making a new one costs a seventh of what a worker spends on a request.
    """
    try:
        async with asyncio.timeout(END_LIMIT_S):
            await answer.content.read(1)
    except (TimeoutError, aiohttp.ClientError):
        return
