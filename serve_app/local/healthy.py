"""Asks services of this container whether they are well: the health check of the images, which have no program for that.

`python -m serve_app.local.healthy URL …` ends with 0 when each answers 200.
"""

import asyncio
import sys

from serve_app.local.parts import http_gate


async def why_not(urls: list[str]) -> str | None:
    """Ask each once; None: all are well."""
    return await http_gate(*urls)()


if __name__ == "__main__":
    sys.exit(asyncio.run(why_not(sys.argv[1:])))
