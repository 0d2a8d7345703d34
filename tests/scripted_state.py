"""What the scripted runtime was asked, what it has, and what all its routes share: bodies, refusals, loads."""

import asyncio
from contextlib import contextmanager

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.models import SMOLLM2
from tests.scripted_models import FakeModel, fake, shaped

MODELS = ("fake:words=3", "fake:words=16", "fake:words=200", "fake:drip=0.1", "fake:drip=5", "fake:long=200@0.01", "fake:hang@0", "fake:hang@2",
          "fake:cut@0", "fake:cut@2", "fake:500", "fake:404", "fake:503", "fake:exit@2", "fake:nodone", "fake:garbage", "fake:line=100",
          "fake:utf8", "fake:tools", "fake:thinks", "fake:sees", "fake:fills", "fake:embeds")  # fmt: skip
USUAL_KEEP_ALIVE_S = 1800.0  # of a model that a request without `keep_alive` loads
CONTRACT_SLOTS = 2
STATE: web.AppKey["Script"] = web.AppKey("script")


class Script:
    """What the server was asked, how many answers it is giving now, and what it has."""

    def __init__(self, *, is_contract: bool = False) -> None:
        self.requests: list[dict] = []
        self.running = 0
        self.has_tokenizer = False
        self.slots: int | None = None
        self.is_down = False
        self.is_gone = False  # as if its process had ended
        self.always: str | None = None  # behaves as this model, whatever is asked
        self.calls: set[tuple[str, str]] = set()  # method and path of all that was asked
        self.peers: set[object] = set()  # one per connection that answers came through
        self.transports: set[asyncio.BaseTransport] = set()
        smollm2 = shaped(SMOLLM2.name, SMOLLM2.gguf_sha256)
        self.pullable: dict[str, FakeModel] = {smollm2.name: smollm2}
        self.pull_ends_early = False
        self.models: dict[str, FakeModel] = {} if is_contract else {name: fake(name) for name in MODELS}
        self.blobs: dict[str, bytes] = {}  # by SHA-256
        self.turns = asyncio.Semaphore(CONTRACT_SLOTS) if is_contract else None  # of the answers at once; None: no limit
        self.loads: list[str] = []  # names, as loads began
        self.loading = 0
        self.most_loading = 0
        self.load_gate: asyncio.Event | None = None  # loads wait for it
        self.load_failure: str | None = None

    def unload(self, name: str) -> None:
        """Make a model cold."""
        self.models[name].unload_at = None


@web.middleware
async def in_ollamas_words(request: web.Request, handler):
    """Turn refusals into Ollama's answers; refuse a foreign Host; be gone when the script says so."""
    script = request.app[STATE]
    assert request.transport is not None
    script.transports.add(request.transport)
    script.calls.add((request.method, request.path))
    try:
        if script.is_gone:
            request.transport.abort()
            return web.Response(status=500)
        host = request.host.rsplit(":", 1)[0]
        own = request.transport.get_extra_info("sockname")[0]
        if own == "127.0.0.1" and not (host == "localhost" or host.replace(".", "").isdigit()):  # on other addresses any name may be its
            return web.Response(status=403)
        return await handler(request)
    except BadRequest as wrong:
        return web.json_response({"error": wrong.text}, status=wrong.status)
    finally:
        script.transports.discard(request.transport)


async def body_of(request: web.Request) -> dict:
    return dialect.checked_body(await request.read())


def find(script: Script, name: object) -> FakeModel:
    """Find a model; names that say what they do need not be listed."""
    if not isinstance(name, str) or not name:
        raise BadRequest("model is required")
    known = script.models.get(name) or script.models.get(dialect.full_name(name))
    if known is None and name.startswith("fake:") and "fake:words=3" in script.models:
        known = fake(name)
    if known is None:
        raise BadRequest(f"model '{name}' not found", 404)
    return known


async def obtain(script: Script, model: FakeModel, options: dict, keep_alive_s: float | None) -> None:
    """Have a model loaded, with the context that is asked for."""
    wanted = int(options.get("num_ctx") or model.context_tokens)
    if not model.is_loaded or wanted != model.context_tokens:
        script.loads.append(model.name)
        script.loading += 1
        script.most_loading = max(script.most_loading, script.loading)
        try:
            if script.load_gate:
                await script.load_gate.wait()
        finally:
            script.loading -= 1
        if script.load_failure:
            raise BadRequest(script.load_failure, 500)
        model.keep_alive_s = USUAL_KEEP_ALIVE_S
        model.context_tokens = wanted
    if keep_alive_s is not None:
        model.keep_alive_s = keep_alive_s
    model.touch()


@contextmanager
def running(script: Script, model: FakeModel):
    """Count an answer; a model that is to be unloaded goes after its last one."""
    script.running += 1
    model.running += 1
    try:
        yield
    finally:
        script.running -= 1
        model.running -= 1
        if model.unload_at is not None:
            model.touch()
