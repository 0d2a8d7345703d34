"""One installation and one browser for all tests of the console; a fresh context, that is a fresh visitor, for each test.

The browser is the distribution's Chromium, driven by Playwright; where either is missing the tests are skipped and say so.
"""

import asyncio
import itertools
import json
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

import bench.chromium
from tests.e2e.conftest import Installation, new_installation  # noqa: F401 - a fixture
from tests.ledger.openid_provider import CLIENT, SECRET, Provider
from tests.web.looking import Visitor

ROOT = Path(__file__).parents[2]
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
# Each worker has an installation of its own.
PORT_BASE = 27000 + 300 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PASSWORD = "seven quiet lamps by the river 4"
LIMIT_MS = 15_000  # nothing takes so long; a test that waits longer waits for what does not come


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.e2e)


class Site:
    """The installation as the browser's user sees it, and what tests do beside the browser."""

    def __init__(self, url: str, api_url: str, installation: Installation | None = None) -> None:
        self.url, self.api_url = url, api_url
        self.installation = installation
        self._numbers = itertools.count(1)
        self._run = "" if installation else f"x{os.getpid()}x"  # names that a running installation does not know from earlier

    def new_name(self, stem: str = "ada") -> str:
        return f"{stem}{self._run}{next(self._numbers)}"

    def call(self, method, url, body=None, *, token=None):
        """Call an API; answer the parsed body. `url`: a path of the ledger, or a whole address."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        address = url if url.startswith("http") else self.url + url
        request = urllib.request.Request(address, None if body is None else json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def account(self, stem: str = "ada", **fields) -> "Account":
        """Register somebody."""
        name = self.new_name(stem)
        self.call("POST", "/api/core/register/", {"username": name, "password": PASSWORD} | fields)
        return Account(self, name, PASSWORD)

    def operator(self) -> "Account":
        """The first account, which owns this machine; an operator, with a password."""
        if self.installation is None:
            return Account(self, "operator", PASSWORD)
        file = self.installation.home.root / "operator-password"
        if not file.exists():
            file.write_text(PASSWORD + "\n")
            file.chmod(0o600)
            made = self.installation.gfe("admin", "create-operator", "operator", "--password-file", str(file))
            assert made.returncode == 0, made.stderr
        return Account(self, "operator", PASSWORD)


class Account:
    """Somebody who can sign in."""

    def __init__(self, site: Site, username: str, password: str) -> None:
        self.site, self.username, self.password = site, username, password
        self._token: str | None = None

    def token(self) -> str:
        """An access token, for calls beside the browser."""
        return self.site.call("POST", "/api/core/token/", {"username": self.username, "password": self.password})["access"]

    def call(self, method, url, body=None):
        """Call an API as somebody who signs in once, and again when that does not count any more."""
        if self._token is not None:
            try:
                return self.site.call(method, url, body, token=self._token)
            except urllib.error.HTTPError as refused:
                if refused.code != 401:
                    raise
        self._token = self.token()
        return self.site.call(method, url, body, token=self._token)

    def let_five_minutes_pass(self) -> None:
        """Make the second factors that this account has given older than the ledger believes; nobody waits so long here."""
        if self.site.installation is None:
            pytest.skip("the database of a running installation is not ours to write")
        with psycopg.connect((self.site.installation.home.secrets / "admin_database_url").read_text()) as connection:
            connection.execute(
                "UPDATE ledger.session SET fresh_at = fresh_at - interval '6 minutes' "
                "WHERE person_id = (SELECT id FROM ledger.person WHERE username = %s)",
                [self.username],
            )


@pytest.fixture(scope="session")
def chromium() -> str:
    pytest.importorskip("playwright.sync_api", reason="the package `playwright` is not installed")
    found = bench.chromium.chromium()
    if found is None:
        pytest.skip(f"there is no Chromium: {bench.chromium.HINT}")
    return found


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The source of axe-core, which finds what people with other senses or hands stumble over."""
    path = ROOT / "console/node_modules/axe-core/axe.min.js"
    if not path.exists():
        pytest.skip("axe-core is not there: ./gfe console")
    return path.read_text()


@pytest.fixture(scope="package")
def browser(chromium):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="package")
def other_service():
    """Another service with accounts, which people can sign in with."""
    provider, loop = Provider(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(provider.start(), loop).result()
    yield provider
    asyncio.run_coroutine_threadsafe(provider.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="package")
def site(chromium, request) -> Site:
    """The one installation, started; it has the console that was built from these sources.

    While pages are being written it can be one that runs: `GFE_WEB_SITE=<console url>,<api url>`, with an operator of that name and password.
    """
    if running := os.environ.get("GFE_WEB_SITE"):
        return Site(*running.split(","))
    if not (ROOT / "ledger/static/index.html").exists():
        pytest.skip("the console is not built: ./gfe console")
    installation = request.getfixturevalue("new_installation")(PORT_BASE)
    service = request.getfixturevalue("other_service")
    installation.environment |= {"GFE_REGISTERS_PER_HOUR": "100000", "GFE_GOOGLE_URL": service.url, "GFE_GOOGLE_CLIENT_ID": CLIENT}
    installation.environment["GFE_PAYOUT_DELAY_HOURS"] = "24"  # what waits in escrow is looked at
    installation.home.secrets.mkdir(parents=True, mode=0o700)
    (installation.home.secrets / "google_client_secret").write_text(SECRET)
    installation.up()
    installation.wait_until_green()
    return Site(installation.report["console_url"], installation.report["api_url"], installation)


@pytest.fixture
def visitors(browser, site, axe_source, request, tmp_path):
    """Makes visitors: each has a browser context, and so cookies, of its own. What their pages complained of fails the test at its end."""
    made: list[Visitor] = []
    shots = request.config.getoption("--shots")
    failed_before = request.session.testsfailed

    def make(*, width: int = 1280, height: int = 860, **options) -> Visitor:
        context = browser.new_context(viewport={"width": width, "height": height}, base_url=site.url, reduced_motion="reduce", **options)
        context.set_default_timeout(LIMIT_MS)
        made.append(Visitor(context, site, axe_source, Path(shots) if shots else None))
        return made[-1]

    yield make
    complaints = [complaint for visitor in made for complaint in visitor.complaints]
    for number, visitor in enumerate(made):
        if request.session.testsfailed > failed_before and not visitor.page.is_closed():
            visitor.page.screenshot(path=tmp_path / f"end-{number}.png", full_page=True)
        visitor.context.close()
    assert complaints == []


@pytest.fixture
def visitor(visitors) -> Visitor:
    """Somebody at a desk, not signed in."""
    return visitors()
