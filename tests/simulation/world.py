"""The platform in one process and one thread, under a clock of its own: real parts, simulated surroundings.

Real: the Serve application with its routes, drivers, writer, settlement and sweepers (`serve_app.replica.opened`), the Dispatcher, each
replica's view, the workers, the node protocol over aiohttp on both sides, the ledger's client. Simulated: time, connections, PostgreSQL (as
far as job rows go), the ledger behind its wire, Ray's actor calls, the model runtimes, the consumers.
"""

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import random
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import aiohttp
import ray
import structlog
from aiohttp import web

import cluster.connect  # noqa: F401 - sets what Ray reads at its import
import serve_app.db
import serve_app.replica
from cluster.dispatcher import Dispatcher
from cluster.errors import NodeLost
from cluster.gpus import NoGpus
from cluster.limits import LIMITS
from cluster.node_api import create_node_app
from cluster.node_client import NodeClient
from cluster.worker import Worker
from serve_app.app import create_app
from serve_app.settings import ServeSettings
from tests.simulation import client, database
from tests.simulation.ledger import BookedLedger, ledger_app
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.network import Connector, Network, ask, serve_http
from tests.simulation.runtime import Generations, SimulatedRuntime

TUNED = {"first_token_s": 8.0, "idle_s": 5.0, "total_s": 60.0}  # shorter than the product's, so that faults outlast them
NODE_WAIT_S = 10.0
GRACE_S = 60.0  # of the ledger's holds beyond a job's time
QUIET_LIMIT_S = 200.0
WORDS_S = (0.05, 0.1, 0.4)  # of a word; the shape chooses
LISTED_S = 12.0  # so long Ray lists a machine that is gone
CREDIT = 1_000_000


@dataclass(frozen=True)
class Member:
    """A machine, as Ray lists it. Back again, it is another one."""

    id: str
    ray_id: int


class Tokens:
    """Stands where service tokens and their verifier do: who may call whom is not simulated."""

    def __init__(self, *_):
        pass

    def mint(self, audience):
        return "token"

    def verify(self, token):
        return "serve"


class Part:
    """A process that can be killed and comes back by itself. `begin(process)` runs in it until it is killed."""

    def __init__(self, world, name, begin):
        self.world, self.name, self._begin = world, name, begin
        self.process = None
        self.count = 0

    @property
    def is_up(self):
        return self.process is not None and not self.process.is_dead

    def start(self):
        if not self.is_up and not self.world.is_over:
            self.count += 1
            self.process = Process(self.world.loop, self.name)
            self.process.spawn(self._begin(self.process))

    def kill(self, back_after_s, *, is_silent=False):
        """SIGKILL; `is_silent`: the whole machine goes, and nobody is told."""
        if not self.is_up:
            return
        self.process.is_dead = True
        self.world.graves.append(self.process)
        self.world.network.died(self.process, is_silent=is_silent)
        self.world.later(back_after_s, self.start)

    def freeze(self, for_s):
        if self.is_up and not self.process.is_frozen:
            self.process.freeze()
            self.world.later(for_s, self.process.thaw)


class NodePart(Part):
    """A node: its worker's process and its runtime, which outlives the worker."""

    def __init__(self, world, name, slots, *, has_tokenizer, word_s):
        super().__init__(world, name, self._serve)
        self.slots = slots
        self.ray_id = 1
        self.is_listed = True
        self.worker = None
        self.runtime = SimulatedRuntime(name, slots, world.rng, world.generations, has_tokenizer=has_tokenizer, word_s=word_s)

    async def _serve(self, process):
        self.runtime.attempt_of_task = self._attempt_of
        worker = Worker(self.name, self.name, self.runtime, NoGpus())
        await worker.start()
        runner = web.AppRunner(create_node_app(worker, Tokens()), handler_cancellation=True, access_log=None)
        await runner.setup()
        self.worker = worker
        self.world.watch_worker(self, worker)
        serve_http(self.world.network, self.host, process, runner.server)
        self.world.network.listen(f"actor.{self.name}", process, self._tell_url)

    @property
    def host(self):
        return self.name

    def _tell_url(self, end):
        end.receive = lambda _: end.send(f"http://{self.host}")

    def _attempt_of(self, task):
        for running in self.worker._live:
            if running.task is task:
                return running.attempt.job, running.attempt.number
        return "", 0

    def kill(self, back_after_s, *, is_silent=False):
        if self.is_up:
            self._end_generations()
        super().kill(back_after_s, is_silent=is_silent)

    def _end_generations(self):
        """A runtime stops when nobody reads it any more: its client's process is gone."""
        for generation in self.world.generations.all:
            if generation.node == self.name and generation.ended_at is None:
                generation.ended_at = self.world.loop.time()
        self.runtime = SimulatedRuntime(
            self.name,
            self.slots,
            self.world.rng,
            self.world.generations,
            has_tokenizer=self.runtime._has_tokenizer,
            word_s=self.runtime._word_s,
        )

    def vanish(self, back_after_s):
        """The machine goes without a word; Ray lists it for a while, and then as another one."""
        if self.is_up:
            self.kill(back_after_s, is_silent=True)
            if back_after_s > LISTED_S:
                self.world.later(LISTED_S, partial(setattr, self, "is_listed", False))
            self.world.later(back_after_s, self._come_back)

    def _come_back(self):
        self.ray_id += 1
        self.is_listed = True

    def runtime_down(self, for_s):
        runtime = self.runtime
        runtime.shut_down()
        self.world.later(for_s, partial(setattr, runtime, "is_down", False))


class Handle:
    """A Ray actor's handle: calls go over the network, values as pickles."""

    def __init__(self, network, name):
        self._network, self._name = network, name

    def __getattr__(self, method):
        return mock.Mock(remote=partial(self._call, method), spec=["remote"])

    async def _call(self, method, *arguments):
        try:
            end = await self._network.open(self._name)
            said = await ask(end, pickle.dumps((method, arguments)))
        except OSError as gone:
            raise RuntimeError("the actor is unavailable") from gone
        end.close()
        return pickle.loads(said)


@dataclass
class World:
    """All parts and what surrounds them. `trace` is called with a line for whatever happens."""

    loop: VirtualLoop
    rng: random.Random
    trace: object
    shape: random.Random
    is_over: bool = False
    graves: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    readings: list = field(default_factory=list)
    defects: list = field(default_factory=list)
    generations: Generations = field(default_factory=Generations)

    def __post_init__(self):
        self.network = self.loop.network = Network(self.loop, self.rng, self.note)
        shape = self.shape
        names = [f"node_{letter}" for letter in "abcd"[: shape.randint(1, 4)]]
        prices = {"flat": shape.choice((0, 1000)), "prompt_per_million": shape.choice((0, CREDIT)), "completion_per_million": 2 * CREDIT}
        self.ledger = BookedLedger(names, GRACE_S, **prices)
        self.keys = [_key(n) for n in range(3)]
        for key in self.keys:
            self.ledger.add_key(key, 100 * CREDIT)
        self.table = database.JobTable(self.loop.time)
        self.statement_s = 0.0005
        has_tokenizer = shape.random() < 0.5
        word_s = shape.choice(WORDS_S)
        self.nodes = [NodePart(self, name, shape.randint(1, 2), has_tokenizer=has_tokenizer, word_s=word_s) for name in names]
        self.replicas = [Part(self, f"replica_{n}", self._serve_replica) for n in range(shape.randint(1, 2))]
        self.dispatcher = Part(self, "dispatcher", self._serve_dispatcher)
        self.database = Part(self, "database", self._serve_database)
        self.books = Part(self, "ledger", self._serve_ledger)
        self.parts = [self.database, self.books, self.dispatcher, *self.nodes, *self.replicas]
        self.consumers = Process(self.loop, "consumers")
        self.contexts = {}

    # --- time and trace --------------------------------------------------------------------------------------------------------------

    def note(self, line):
        self.trace(f"{self.loop.time() - 1000:10.4f}  {line}")

    def defect(self, what):
        """Something that must never happen has."""
        self.note(f"DEFECT {what}")
        self.defects.append(what)

    def later(self, delay_s, callback):
        self.loop.call_later(delay_s, callback)

    # --- parts -----------------------------------------------------------------------------------------------------------------------

    async def _serve_database(self, process):
        database.serve_database(self.network, process, self.table, lambda: self.rng.expovariate(1 / self.statement_s))

    async def _serve_ledger(self, process):
        runner = web.AppRunner(ledger_app(self.ledger), access_log=None)
        await runner.setup()
        serve_http(self.network, "ledger", process, runner.server)
        while True:
            self.ledger.expire(self.ledger.grace_s)
            await asyncio.sleep(5)

    async def _serve_dispatcher(self, process):
        nodes = NodeClient(lambda: "token")
        await nodes.start()
        dispatcher = Dispatcher(self._members, self._locate, nodes.watch, rng=random.Random(self.rng.random()))
        dispatcher.start()
        self.watch_dispatcher(dispatcher)

        def accept(end):
            end.receive = lambda said: process.spawn(answer(end, *pickle.loads(said)))

        async def answer(end, method, arguments):
            end.send(pickle.dumps(await getattr(dispatcher, method)(*arguments)))

        self.network.listen("dispatcher", process, accept)

    async def _members(self):
        return [Member(node.name, node.ray_id) for node in self.nodes if node.is_listed]

    async def _locate(self, member):
        async with asyncio.timeout(30):
            try:
                end = await self.network.open(f"actor.{member.id}")
                url = await ask(end, "url")
            except OSError as gone:
                raise NodeLost(member.id, "its worker is not there") from gone
        end.close()
        return url

    async def _serve_replica(self, process):
        settings = ServeSettings.model_construct(
            secrets_dir=Path(), ledger_socket=Path("ledger"), default_model="sim", max_tokens=100, node_wait_s=NODE_WAIT_S, continues=True
        )
        app = create_app(lambda: serve_app.replica.opened(settings))
        async with app.router.lifespan_context(app):
            context = app.state.context
            context.rng = random.Random(self.rng.random())
            self.contexts[process.name] = context
            self.network.listen(process.name, process, partial(_serve_asgi, app, process))
            await self.loop.create_future()

    # --- consumers -------------------------------------------------------------------------------------------------------------------

    def submit(self, asked):
        """Send a request to a replica that the proxy takes for healthy."""
        up = [part for part in self.replicas if part.is_up] or self.replicas
        part = self.rng.choice(up)
        self.asked.append(asked)
        asked.task = self.consumers.spawn(client.run(asked, self.network, part.name, self.consumers, self.loop))

    def come_back(self, asked, from_seq, replica=None):
        """Let a consumer read a job along, or what is kept of it."""
        reading = client.Reading(len(self.readings), asked, from_seq, self.loop.time())
        host = replica or self.rng.choice([part for part in self.replicas if part.is_up] or self.replicas).name
        self.readings.append(reading)
        reading.task = self.consumers.spawn(client.read(reading, self.network, host, self.consumers, self.loop))
        return reading

    def watch_worker(self, node, worker):
        """A worker begins: the checker looks at each of its admissions."""

    def watch_dispatcher(self, dispatcher):
        """A Dispatcher begins: the checker looks at each of its grants."""

    # --- begin and end ---------------------------------------------------------------------------------------------------------------

    async def begin(self):
        for part in self.parts:
            part.start()
        for _ in range(200):
            await asyncio.sleep(0.1)
            if len(self.contexts) == len(self.replicas) and all(
                len(context.view._snapshot.nodes) == len(self.nodes) for context in self.contexts.values()
            ):
                return
        raise AssertionError("the platform does not start")

    def heal(self):
        """End every fault that would not end by itself."""
        self.statement_s = 0.0005
        self.network.slowness_s = 0.0
        self.network.lose_nothing()
        for node in self.nodes:
            node.runtime.faults.clear()
            if node.worker and node.is_up and node.worker.node.is_draining:
                node.process.call_soon(node.worker.resume, node.name)

    def is_quiet(self):
        return (
            not self.ledger.holds
            and not any(one.is_open for one in (*self.asked, *self.readings))
            and all(row.state >= database.ENDED and row.owed is None for row in self.table.rows.values())
            and all(node.is_up and node.worker and node.worker.node.running == 0 for node in self.nodes)
        )

    async def close(self):
        """Let every task end, so that nothing of this world is left in the next one."""
        self.is_over = True
        for part in self.parts:
            if part.is_up:
                self.network.died(part.process, is_silent=True)
        self.network.listeners.clear()
        for process in [*self.graves, *(part.process for part in self.parts), self.consumers]:
            process.is_dead = process.is_frozen = False
            process.thaw()
        for _ in range(50):
            left = [task for task in self.loop.tasks if not task.done() and task is not asyncio.current_task()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(1)


def _key(number):
    """An API key that is the same in every run."""
    from ledger.key_format import PREFIX, base62, checksum

    head = f"{PREFIX}{base62(1000 + number, 8)}_{base62(number, 43)}"
    return f"{head}_{checksum(head)}"


def _serve_asgi(app, process, end):
    """Take one request of a consumer's connection, as uvicorn would."""
    left = asyncio.Event()

    def receive(asked):
        process.spawn(answer(*asked))

    end.receive = receive
    end.lost = lambda _: left.set()

    async def answer(method, target, headers, body):
        path, _, query = target.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "client": ("consumer", 1), "server": (process.name, 80),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        has_body = False

        async def receive():
            nonlocal has_body
            if not has_body:
                has_body = True
                return {"type": "http.request", "body": body, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            end.send(message | ({} if message["type"] == "http.response.start" else {"more_body": message.get("more_body", False)}))

        await app(scope, receive, send)


# --- surroundings ------------------------------------------------------------------------------------------------------------------------


class _Log(logging.Handler):
    def __init__(self, take):
        super().__init__(logging.ERROR)
        self._take = take

    def emit(self, record):
        self._take(record.name, record.getMessage())


@contextlib.contextmanager
def surroundings(loop, rng, trace, world_of):
    """Put the simulated clock, chance, connections and logs in the place of the real ones."""

    def log(_, level, event):
        name = event.pop("event")
        process = PROCESS.get()
        if level in {"error", "critical", "exception"} or event.get("exc_info"):
            import traceback

            trace(traceback.format_exc())
            world_of().defect(f"{process}: {name} {event}")
        else:
            world_of().note(f"{process}: {name} {event}")
        raise structlog.DropEvent

    tuned = {name: getattr(LIMITS, name) for name in TUNED}
    kept = structlog.get_config()
    handler = _Log(lambda name, text: world_of().defect(f"{name}: {text}"))
    loggers = [logging.getLogger(name) for name in ("aiohttp.server", "aiohttp.web", "asyncio")]
    with contextlib.ExitStack() as stack:
        for target, name, put in (
            (time, "monotonic", loop.time),
            (time, "time", lambda: database.EPOCH + loop.time()),
            (time, "time_ns", lambda: int((database.EPOCH + loop.time()) * 1e9)),
            (os, "urandom", rng.randbytes),
            (os, "getpid", lambda: 1),
            (aiohttp, "TCPConnector", Connector),
            (aiohttp, "UnixConnector", Connector),
            (aiohttp.connector, "monotonic", loop.time),
            (serve_app.db, "AsyncConnection", database.Connection),
            (serve_app.replica, "ServiceTokens", Tokens),
            (serve_app.replica, "TokenVerifier", Tokens),
            (ServeSettings, "secret", lambda *_: b""),
            (ray, "get_actor", lambda name, namespace: Handle(loop.network, name)),
        ):
            stack.enter_context(mock.patch.object(target, name, put))
        for name, value in TUNED.items():
            object.__setattr__(LIMITS, name, value)
        structlog.configure(processors=[log], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
        for one in loggers:
            one.addHandler(handler)
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            for one in loggers:
                one.removeHandler(handler)
            structlog.configure(**kept)
            for name, value in tuned.items():
                object.__setattr__(LIMITS, name, value)
