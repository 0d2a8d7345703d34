"""Unmodified clients of other people, pointed at our API by nothing but a URL and a key; what a run shows goes into docs/compatibility.md."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.apart import NotToBeHad
from tests.clients import apart
from tests.clients.compatibility import Shown, feature_of
from tests.clients.program import Program
from tests.databases import fresh_database
from tests.platform_in_process import running_platform
from tests.running_ledger import start_ledger
from tests.scripted_runtime import words_of
from tests.serve_app.conftest import platform_with  # noqa: F401 - a fixture

HERE = Path(__file__).parent
HELLO = [{"role": "user", "content": "hello there"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
OTHER_TOOL = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "count": {"type": "integer"}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GIVEN = {"hello": HELLO, "tool": TOOL, "other": OTHER_TOOL, "schema": SCHEMA, "pixel": PIXEL}  # what programs in other languages send
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_COLOR": "1"}  # nothing is fetched, nothing reported
HEADERS_ARE_THE_CLIENTS = "headers belong to a client of `ollama`, not to a request: make one for the key"
SHOWN = pytest.StashKey[list[Shown]]()
IS_PARTIAL = pytest.StashKey[bool]()


def said(count, text="hello there"):
    """What the scripted runtime answers."""
    return "".join(words_of(text, count))


# --- the platform ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def platform(server_url, template):
    """One platform for all tests of a client: they leave nothing behind that the next one would see."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-"))
    with fresh_database(server_url, template) as database:
        ledger, stop = await start_ledger(database, folder, welcome_credits="1000.00")
        async with running_platform(database, ledger, slots=4) as platform:
            yield platform
        await stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def spent(platform):
    """What the test has cost so far, and how many requests the runtime has seen of it."""
    # What the test before left or canceled ends first.
    before, asked = float(await platform.settled()), len(platform.scripts[0].requests)

    async def spent():
        return round(before - float(await platform.settled()), 6), len(platform.scripts[0].requests) - asked

    return spent


# --- programs --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(make):
    try:
        program = make()
    except NotToBeHad as reason:
        pytest.skip(f"not to be had here: {reason}")
    yield program
    program.close()


@pytest.fixture(scope="package")
def javascript():
    """The clients in JavaScript."""
    with _running(lambda: Program(apart.node(), apart.JS / "answers.mjs")) as program:
        yield program


@pytest.fixture(scope="package")
def litellm():
    """LiteLLM, in the environment of its own."""
    with _running(lambda: Program(apart.python(), "-P", HERE / "through_litellm.py", **QUIET)) as program:
        yield program


@pytest.fixture
def asks(platform, idempotency_key):
    """Let a client of a program show a feature."""

    def asks(program, client):
        def ask(feature):
            given = GIVEN | {"repeat": idempotency_key}
            return program.ask(client=client, feature=feature, url=platform.url, key=platform.key, given=given)

        return ask

    return asks


# --- the table -------------------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--compatibility", metavar="PAGE", help="write which client was shown to do what")


def pytest_deselected(items):
    for item in items:
        if item.path.parent == HERE:
            item.config.stash[IS_PARTIAL] = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The table is looked at when everything else was shown."""
    items.sort(key=lambda item: item.path == HERE / "test_compatibility.py")


def client_of(item):
    """The client that a test is of."""
    if clients := getattr(item.module, "CLIENTS", None):
        return clients[item.callspec.params["provider"]]
    return getattr(item.module, "CLIENT", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    client, feature = client_of(item), feature_of(item.name)
    if client and feature and (report.when == "call" or not report.passed):
        why = report.longrepr[2] if report.skipped else str(call.excinfo.value).splitlines()[0][:200] if call.excinfo else ""
        item.config.stash.setdefault(SHOWN, []).append(Shown(client, feature, report.outcome, why))
    return report
