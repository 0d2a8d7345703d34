"""Our public API in a process of its own, for the contract suite: ledger, PostgreSQL, one node with a scripted runtime.

The first line on standard output is JSON `{"port", "key", "model"}`.
"""

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.databases import database_server, fresh_database, migrated_template
from tests.platform_in_process import running_platform
from tests.running_ledger import start_ledger
from tests.scripted_models import shaped

MODEL = "gfe-contract:t"
CONTEXT = 2048


async def serve(server_url: str) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    with fresh_database(server_url, migrated_template(server_url)) as database, tempfile.TemporaryDirectory(prefix="gfe-") as folder:
        ledger, stop = await start_ledger(database, Path(folder), welcome_credits="5000.00", submits_per_minute=100_000)
        try:
            async with running_platform(database, ledger, slots=4) as platform:
                platform.scripts[0].models[MODEL] = shaped(MODEL, "0" * 64, context_tokens=CONTEXT)
                while platform.workers[0].model(MODEL) is None:
                    await platform.workers[0].refresh()
                sys.stdout.write(json.dumps({"port": int(platform.url.rsplit(":", 1)[1]), "key": platform.key, "model": MODEL}) + "\n")
                sys.stdout.flush()
                await stopped.wait()
        finally:
            await stop()


if __name__ == "__main__":
    with database_server() as url:
        asyncio.run(serve(url))
    sys.exit(0)
