"""Passes TCP connections on: a router that hides who is behind it, or with `--tls` the proxy before a platform.

`FROM=TO` pairs, each `address:port`; `--tls` names a file with a key and its certificate.
"""

import argparse
import asyncio
import contextlib
import ssl


async def _pass_on(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(here, there, tls):
    async def connected(reader, writer):
        host, port = there.rsplit(":", 1)
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))

    host, port = here.rsplit(":", 1)
    server = await asyncio.start_server(connected, host, int(port), ssl=tls)
    await server.serve_forever()


async def main(pairs, tls):
    await asyncio.gather(*(_serve(*pair.split("="), tls) for pair in pairs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls")
    parser.add_argument("pairs", nargs="+")
    arguments = parser.parse_args()
    tls = None
    if arguments.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.tls)
    asyncio.run(main(arguments.pairs, tls))
