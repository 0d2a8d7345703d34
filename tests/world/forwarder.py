"""Passes TCP connections on: a router that hides who is behind it, or the proxy before a platform. `FROM=TO` pairs, each `address:port`."""

import asyncio
import contextlib
import sys


async def _pass_on(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(here, there):
    async def connected(reader, writer):
        host, port = there.rsplit(":", 1)
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))

    host, port = here.rsplit(":", 1)
    server = await asyncio.start_server(connected, host, int(port))
    await server.serve_forever()


async def main(pairs):
    await asyncio.gather(*(_serve(*pair.split("=")) for pair in pairs))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
