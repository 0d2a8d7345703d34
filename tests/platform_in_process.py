"""The whole path of a job in one process, without Ray: real ledger, real PostgreSQL, real worker, scripted runtime."""

import asyncio
import contextlib
import socket
import time

import httpx2
import uvicorn

from cluster.errors import NoCapacity
from cluster.gpus import NoGpus
from cluster.limits import Limits
from cluster.node_api import serve_node
from cluster.node_client import NodeClient
from cluster.nodes import Snapshot
from cluster.placement import choose
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import ServiceTokens, TokenVerifier
from cluster.worker import Worker
from serve_app.app import create_app
from serve_app.auth import OWN_MACHINE, Callers
from serve_app.context import ServeContext
from serve_app.db import Line
from serve_app.feed import LedgerFeed
from serve_app.local import secrets as made
from serve_app.metrics import ServeFigures
from serve_app.settings import ServeSettings
from serve_app.settlement import Settlement
from serve_app.store.batches import BatchStore
from serve_app.store.cancels import Cancels
from serve_app.store.counts import Counts
from serve_app.store.files import FileStore
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.pages import JobPages
from serve_app.tracing.steps import NoTraces
from serve_app.webhooks.desk import WebhookDesk
from tests.scripted_runtime import Script, serve


class LocalView:
    """The snapshot of workers in this process; waiting polls them. Stands where the Dispatcher's view does."""

    def __init__(self, workers):
        self.workers = workers
        self.taken = []
        self.requests = {}  # of those that wait

    @property
    def snapshot(self):
        return Snapshot.of(1, {worker.node.id: worker.node for worker in self.workers})

    def note_placed(self, node):
        pass

    def put_back(self, wait):
        pass

    def pardon(self, node):
        for job, request in self.requests.items():
            self.requests[job] = request.pardoning(node)

    async def wait_of(self, job):
        return None

    async def outlook(self, model):
        return None

    async def wait_for_slot(self, wait, limit_s):
        import random

        self.requests[wait.job], began = wait.request, time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                while not (node := choose(self.requests[wait.job].after(time.monotonic() - began), self.snapshot, random.Random(1))):
                    await asyncio.sleep(0.02)
                return node
        except TimeoutError:
            pass
        finally:
            del self.requests[wait.job]
        raise NoCapacity(wait.model, ("busy",), 1)


class Platform:
    """What a test touches: HTTP to the APIs, the ledger, scripts and workers of the nodes."""

    def __init__(self, **parts):
        self.__dict__.update(parts)

    @property
    def bearer(self):
        return {"Authorization": f"Bearer {self.key}"}

    def body(self, model="fake:words=3", text="hello there", **more):
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    async def chat(self, *args, headers=None, **more):
        return await self.http.post("/v1/chat/completions", json=self.body(*args, **more), headers=self.bearer | (headers or {}))

    async def wallet(self):
        return (await self.ledger.http.get("/api/payments/wallet/", headers=self.bearer)).json()

    async def job(self, name):
        return (await self.http.get(f"/api/computing/jobs/{name}/", headers=self.bearer)).json()

    async def settled(self, limit_s=60):
        """Wait until no hold is open."""
        async with asyncio.timeout(limit_s):
            while (await self.wallet())["held"] != "0.00":
                await asyncio.sleep(0.02)
        return (await self.wallet())["balance"]


@contextlib.asynccontextmanager
async def running_platform(
    database, ledger, *, nodes=1, slots=2, limits=None, has_tokenizer=False, loops=False, continues=False, traces=None
):
    """Run it over a ledger that runs already."""
    folder = ledger.folder
    made.overwrite(folder / "serve_database_url", database.serve_url)
    tokens = ServiceTokens((folder / "service_serve.pem").read_bytes(), "serve")
    verifier = TokenVerifier((folder / "service_serve.pub.pem").read_bytes(), "node")
    settings = ServeSettings(
        secrets_dir=folder, ledger_socket=ledger.context.settings.ledger_socket, default_model="fake:words=3", node_wait_s=2,
        continues=continues,
    )  # fmt: skip
    scripts, workers, runners = [], [], []
    for n in range(nodes):
        script = Script()
        script.has_tokenizer = has_tokenizer
        runner, runtime_url = await serve(script)
        worker = Worker("node_local" if n == 0 else f"node_{n}", "n", OllamaRuntime(runtime_url), NoGpus(), slots=slots)
        await worker.start()
        node_runner, url = await serve_node(worker, verifier, "127.0.0.1", 0)
        worker._set_node(url=url)
        scripts.append(script)
        workers.append(worker)
        runners += [node_runner, runner]
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()
    writer, store = JobWriter(database.serve_url, "driver-test"), JobStore(database.serve_url)
    pages = Line(database.serve_url, name="pages")
    writer.start()
    figures = ServeFigures()
    traces = traces or NoTraces()
    settlement = Settlement(ledger.client, writer, store, figures, traces)
    callers = Callers(ledger.client, TokenVerifier((folder / "service_serve.pub.pem").read_bytes(), OWN_MACHINE))
    context = ServeContext(
        settings=settings, ledger=ledger.client, callers=callers, view=LocalView(workers), nodes=client, facts=client, writer=writer, store=store,
        settlement=settlement, feed=LedgerFeed(ledger.client, callers.forget), limits=limits or Limits(first_token_s=5, idle_s=5),
        cancels=Cancels(pages), pages=JobPages(pages), counts=Counts(pages), webhooks=WebhookDesk.of(settings, database.serve_url),
        files=FileStore(database.serve_url), batches=BatchStore(database.serve_url), figures=figures, traces=traces,
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def opens():
        yield context

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(opens)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    settling = asyncio.create_task(settlement.run()) if loops else None
    url = f"http://127.0.0.1:{port}"
    http = httpx2.AsyncClient(base_url=url, timeout=30)
    try:
        yield Platform(
            http=http,
            url=url,
            key=ledger.key,
            ledger=ledger,
            context=context,
            app=app,
            scripts=scripts,
            workers=workers,
            runners=runners,
            settings=settings,
        )
    finally:
        await http.aclose()
        if settling:
            settling.cancel()
        await context.drained(5)
        server.should_exit = True
        await serving
        await writer.aclose()
        await store.aclose()
        await pages.drop()
        await context.webhooks.aclose()
        await context.files.aclose()
        await context.batches.aclose()
        await client.aclose()
        for worker in workers:
            await worker.aclose()
        for runner in runners:
            await runner.cleanup()
