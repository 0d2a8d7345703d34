"""A platform to break: real ledger, real PostgreSQL, the real Dispatcher and replicas in this process, each node a process of its own."""

import asyncio
import contextlib
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg
import uvicorn

from cluster.dispatcher import Dispatcher
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens
from ledger.money.audit import audit_at
from serve_app.app import create_app
from serve_app.local import secrets as made
from serve_app.replica import opened
from serve_app.settings import ServeSettings
from tests.books import unquiet
from tests.databases import Database, login
from tests.faults import bad_runtime
from tests.faults.node_process import Child
from tests.running_ledger import start_ledger
from tests.waiting import until

QUIET_LIMIT_S = 40
LEDGER = {
    "welcome_credits": "100000.00", "open_jobs": 10_000, "submits_per_minute": 1_000_000, "completion_price": "1000.00"
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A node where it serves now, as the Dispatcher is told."""

    id: str
    url: str


class FaultyNode:
    """A node: its scripted runtime in this process (or one of its own), its worker in a child."""

    def __init__(self, id_, key_file, slots):
        self.id, self.key_file, self.slots = id_, key_file, slots
        self.script = bad_runtime.BadScript()
        self.runner = self.worker = self.runtime = None

    async def start(self, *, has_runtime_process=False):
        if has_runtime_process:
            self.runtime = await Child("tests.scripted_runtime", "--port", 0).start()
            self.runtime_url = self.runtime.url
        else:
            self.runner, self.runtime_url = await bad_runtime.serve(self.script)
        await self.start_worker()
        return self

    async def start_worker(self):
        """Start the worker, again after it was killed."""
        words = ("--node", self.id, "--runtime", self.runtime_url, "--key", self.key_file, "--slots", self.slots)
        self.worker = await Child("tests.faults.node_process", *words).start()

    async def kill_runtime(self):
        """End its runtime; connections break."""
        if self.runtime:
            self.runtime.kill()
        else:
            await self.runner.cleanup()

    async def start_runtime(self):
        """Start the killed runtime again where it was."""
        port = int(self.runtime_url.rpartition(":")[2])
        if self.runtime:
            self.runtime.stop()
            self.runtime = await Child("tests.scripted_runtime", "--port", port).start()
        else:
            self.runner, _ = await bad_runtime.serve(self.script, port)

    async def stop(self):
        for child in (self.worker, self.runtime):
            if child:
                child.stop()
        if self.runner:
            await self.runner.cleanup()


class Handle:
    """The Dispatcher as an actor's handle."""

    def __init__(self, dispatcher):
        self._dispatcher = dispatcher

    def __getattr__(self, method):
        return Remote(getattr(self._dispatcher, method))


class Remote:
    def __init__(self, call):
        self.remote = call


class FaultyPlatform:
    """What a row touches."""

    def __init__(self, database, ledger, nodes, edges=()):
        self.database, self.ledger, self.nodes, self.edges = database, ledger, nodes, edges
        self.key = ledger.key
        self.replicas, self.urls, self.contexts = [], [], []

    @property
    def url(self):
        return self.urls[0]

    @property
    def bearer(self):
        return {"Authorization": f"Bearer {self.key}"}

    async def members(self):
        return [*(Member(node.id, node.worker.url) for node in self.nodes if node.worker.is_alive), *self.edges]

    async def locate(self, member):
        return member.url

    def body(self, model="fake:words=16", text="hello there", **more):
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    async def chat(self, *args, **more):
        return await self.http.post("/v1/chat/completions", json=self.body(*args, **more), headers=self.bearer)

    async def job(self, name):
        return (await self.http.get(f"/api/computing/jobs/{name}/", headers=self.bearer)).json()

    def known(self):
        """The nodes as the first replica sees them, by id."""
        return self.contexts[0].view.snapshot.nodes

    def node(self, id_):
        return next(node for node in self.nodes if node.id == id_)

    async def until_known(self, limit_s=60):
        """Wait until every replica sees all living nodes well."""
        wanted = {node.id for node in self.nodes}
        await until(
            lambda: all(
                {id_ for id_, node in context.view._snapshot.nodes.items() if node.is_healthy} >= wanted for context in self.contexts
            ),
            limit_s,
        )

    async def require_quiet(self, limit_s=QUIET_LIMIT_S):
        """Wait until no hold is open, no slot taken, no job outside an end state, nothing owed; say what is not."""

        def busy():
            return {node.id: node.running for node in self.dispatcher.snapshot().nodes.values() if node.is_healthy and node.running}

        end = time.monotonic() + limit_s
        while (found := await asyncio.to_thread(unquiet, self.database.admin_url)) or busy():
            assert time.monotonic() < end, f"not quiet: {found}, {busy()}"
            await asyncio.sleep(0.1)

    async def require_books(self):
        """Check every rule of the books."""
        found = await asyncio.to_thread(audit_at, self.database.admin_url)
        assert [finding.rule for finding in found if not finding.is_held] == []

    async def balance(self):
        return (await self.ledger.http.get("/api/payments/wallet/", headers=self.bearer)).json()["balance"]


def register(admin_url, names):
    """Make nodes known to the ledger, as the operator's own."""
    with psycopg.connect(admin_url) as connection:
        connection.execute(
            "INSERT INTO ledger.node (id, person_id, name, kind) SELECT u.id, n.person_id, u.id, 'trusted' "
            "FROM unnest(%s::text[]) AS u(id), ledger.node n WHERE n.id = 'node_local' ON CONFLICT (id) DO NOTHING",
            [names],
        )


@contextlib.asynccontextmanager
async def faulty_platform(
    database,
    ledger,
    *,
    nodes=2,
    slots=2,
    replicas=1,
    limits=None,
    has_runtime_processes=False,
    node_wait_s=20.0,
    kind=FaultyNode,
    continues=True,
    edges=(),
):
    """Run it over a ledger that runs already; `edges` are edge gateways beside its own nodes."""
    folder = ledger.folder
    made.overwrite(folder / "serve_database_url", database.serve_url)
    names = ["node_local", *(f"node_{n}" for n in range(1, nodes))][:nodes]
    await asyncio.to_thread(register, database.admin_url, names)
    started = [kind(name, folder / "service_serve.pub.pem", slots) for name in names]
    platform = FaultyPlatform(database, ledger, started, edges)
    tokens = ServiceTokens((folder / "service_serve.pem").read_bytes(), "serve")
    async with contextlib.AsyncExitStack() as stack:
        for node in started:
            stack.push_async_callback(node.stop)
        await asyncio.gather(*(node.start(has_runtime_process=has_runtime_processes) for node in started))
        client = NodeClient(lambda: tokens.mint("node"))
        await client.start()
        stack.push_async_callback(client.aclose)
        platform.dispatcher = Dispatcher(platform.members, platform.locate, client.watch)
        platform.dispatcher.start()
        stack.push_async_callback(platform.dispatcher.aclose)
        settings = ServeSettings(
            secrets_dir=folder, ledger_socket=ledger.context.settings.ledger_socket, default_model="fake:words=16", node_wait_s=node_wait_s,
            continues=continues,
        )  # fmt: skip
        for _ in range(replicas):
            url, context = await stack.enter_async_context(in_process_replica(settings, Handle(platform.dispatcher)))
            if limits:
                context.limits = limits
            platform.urls.append(url)
            platform.contexts.append(context)
        platform.http = await stack.enter_async_context(httpx2.AsyncClient(base_url=platform.url, timeout=130))
        await platform.until_known()
        yield platform


@contextlib.asynccontextmanager
async def platform_on(server, ledger_settings, **options):
    """Run ledger and platform over a PostgreSQL server that may be killed and frozen."""
    database = Database(server.admin_url, server.ledger_url, server.pay_url, login(server.admin_url, "gfe_serve", "gfe"), "gfe")
    with tempfile.TemporaryDirectory(prefix="gfe-") as folder:
        ledger, stop = await start_ledger(database, Path(folder), **ledger_settings)
        try:
            async with faulty_platform(database, ledger, **options) as platform:
                yield platform
        finally:
            await stop()


@contextlib.asynccontextmanager
async def in_process_replica(settings, handle):
    """A replica as Ray Serve would run it, with its loops; answers its URL and its context."""
    contexts = []

    @contextlib.asynccontextmanager
    async def opens():
        async with opened(settings, lambda: handle) as context:
            contexts.append(context)
            yield context

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(opens), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started or serving.done())
    try:
        yield f"http://127.0.0.1:{port}", contexts[0]
    finally:
        server.should_exit = True
        await serving
