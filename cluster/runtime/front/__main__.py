"""Our own Ollama API for machines without Ollama: aiohttp in front, one child process per loaded model behind.

    python -m cluster.runtime.front --host 127.0.0.1 --port 0 --store DIR

The first line on standard output is JSON `{"pid", "port"}`; lines about unreadable models and the fetch follow. One route is not Ollama's:
`POST /gfe/tokenize` counts tokens, so that the platform can count by itself.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from cluster.runtime.child import missing_cpu_flags
from cluster.runtime.front.app import create_front_app, fetch_models
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import MAX_WAITING, Memory
from cluster.runtime.front.telling import say
from cluster.runtime.models import Mirrors, cache_folder


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    library = Library(store=arguments.store, cache=arguments.model_cache, mirrors=arguments.mirrors)
    memory = Memory(slots=arguments.slots, context_tokens=arguments.context, max_waiting=arguments.max_queue)
    app = create_front_app(library, memory)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port)
    await site.start()
    say(pid=os.getpid(), port=runner.addresses[0][1])
    for problem in library.unreadable:
        say(status="unreadable", error=problem)
    # After the first line: a model that is there already is told at once.
    fetching = asyncio.create_task(fetch_models(library, memory)) if arguments.fetch else None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    if fetching:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
    await runner.cleanup()


def main() -> None:
    """Run the front."""
    parser = argparse.ArgumentParser(description="An Ollama API over llama.cpp, for machines without Ollama.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--store", type=Path, required=True, help="folder of this installation's models")
    parser.add_argument("--model-cache", type=Path, default=cache_folder(), help="folder of fetched models")
    parser.add_argument("--slots", type=int, default=4, help="requests at once per model")
    parser.add_argument("--context", type=int, default=4096, help="tokens per slot")
    parser.add_argument("--no-fetch", dest="fetch", action="store_false", help="begin without models: they are pulled")
    parser.add_argument("--max-queue", type=int, default=MAX_WAITING, help="requests that may wait for a slot or a load")
    parser.add_argument(
        "--model-mirror", default=os.environ.get("GFE_MODEL_MIRROR", ""), help="folder with models as <sha256>.gguf; or GFE_MODEL_MIRROR"
    )
    parser.add_argument(
        "--model-urls", default=os.environ.get("GFE_MODEL_URLS", ""),
        help="addresses below which models are, as <sha256>.gguf, joined by commas; or GFE_MODEL_URLS",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        arguments.mirrors = Mirrors.read(arguments.model_mirror, arguments.model_urls)
    except ValueError as wrong:
        parser.error(str(wrong))
    missing = missing_cpu_flags(Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else ()
    if missing:
        sys.stderr.write(
            f"this processor lacks {', '.join(missing)}, which the embedded runtime needs\n\nhint: install Ollama and set GFE_OLLAMA_URL\n"
        )
        sys.exit(3)
    asyncio.run(serve(arguments))


if __name__ == "__main__":
    main()
