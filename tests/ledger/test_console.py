"""The console is served as it was built: files by their names, the page for every other path, and the APIs' refusals as they were."""

import gzip
import re

import httpx2
import pytest

from ledger.app import create_public_app
from ledger.console import Console, policy_of
from ledger.settings import LedgerSettings

PAGE = "<!doctype html><title>Console</title><script type=module src=/assets/index-abc123.js></script>"
SCRIPT = "console.log('a page');" * 100


@pytest.fixture
def built(tmp_path):
    """A folder as the build leaves it."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / ".built-from").write_text("digest")
    (folder / ".vite").mkdir()
    (folder / ".vite/manifest.json").write_text("{}")
    script = folder / "assets/index-abc123.js"
    script.write_text(SCRIPT)
    script.with_name(script.name + ".gz").write_bytes(gzip.compress(SCRIPT.encode()))
    script.with_name(script.name + ".br").write_bytes(b"as brotli")
    (tmp_path / "secret").write_text("not for you")
    return folder


@pytest.fixture
def served(ledger, built):
    """The ledger's public app with this console."""
    app = create_public_app(ledger.context)
    app.router.default = Console(ledger.context.settings, otherwise=app.router.not_found, built=built)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://ledger")


@pytest.mark.parametrize(
    "path", ["/", "/login", "/dashboard/jobs/job_1", "/no/such/page", "/index.html", "/dashboard?tab=wallet", "/apiary"]
)
async def test_every_page_has_the_one_page(served, path):
    """F11."""
    answer = await served.get(path)
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/api/nothing/", "/api/core/nothing", "/api/", "/v1/nothing", "/.well-known/nothing", "/dist/..%2Finstall.sh"]
)
async def test_what_an_api_does_not_know_stays_unknown(served, path):
    """F11."""
    for method in ("GET", "POST", "DELETE"):
        answer = await served.request(method, path)
        assert answer.status_code == 404
        assert PAGE not in answer.text
        if path.startswith("/api/"):
            assert (answer.headers["content-type"], answer.json()["code"]) == ("application/problem+json", "not_found")


async def test_routes_come_before_the_page(served):
    assert (await served.get("/api/core/health/")).json()["status"] == "ok"
    assert "API reference" in (await served.get("/reference")).text
    assert (await served.get("/openapi.json")).json()["openapi"]
    assert "does not answer now" in (await served.get("/status")).text or "answers" in (await served.get("/status")).text
    assert (await served.put("/api/core/health/")).status_code == 405


async def test_pages_are_only_read(served):
    assert (await served.post("/login")).status_code == 404
    head = await served.head("/login")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(PAGE)))


async def test_the_policy_allows_nothing_inline_and_calls_to_the_job_apis_alone(served):
    """security.md 7.1."""
    for path in ("/", "/assets/index-abc123.js", "/favicon.svg"):
        headers = (await served.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'self'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
            "connect-src": "'self' http://127.0.0.1:8000 ws://127.0.0.1:8000", "base-uri": "'none'", "form-action": "'self'",
            "frame-ancestors": "'none'",
        }  # fmt: skip
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "strict-transport-security" not in headers  # plain http on loopback
        assert "server" not in headers


def test_over_tls_browsers_are_told_to_stay_there(tmp_path, built):
    settings = LedgerSettings(
        secrets_dir=tmp_path, ledger_socket=tmp_path, public_url="https://gpu.example", api_url="https://gpu.example/"
    )
    assert "connect-src 'self' https://gpu.example wss://gpu.example;" in policy_of(settings)
    assert Console(settings, otherwise=None, built=built)._headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None), ("identity", None), ("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("br;q=0, gzip;q=0.5", "gzip"), ("GZIP", "gzip"),
        ("brotli", None),
    ],
)  # fmt: skip
async def test_assets_are_sent_as_small_as_the_client_takes_them_and_kept_for_ever(served, built, accepted, coding):
    headers = {"Accept-Encoding": accepted} if accepted else {}
    async with served.stream(
        "GET", "/assets/index-abc123.js", headers=headers | ({} if accepted else {"Accept-Encoding": "identity"})
    ) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == coding
    assert raw == (built / f"assets/index-abc123.js{ {None: '', 'gzip': '.gz', 'br': '.br'}[coding] }").read_bytes()
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert re.match("(text|application)/javascript", answer.headers["content-type"])
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_who_has_the_page_already_is_not_sent_it_again(served):
    first = await served.get("/login")
    again = await served.get("/login", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "content-security-policy", "cache-control", "x-content-type-options"):
        assert again.headers[name] == first.headers[name]  # they take the place of what the browser has kept


async def test_an_asset_of_an_older_page_is_not_answered_with_the_page(served):
    answer = await served.get("/assets/index-old.js")
    assert (answer.status_code, PAGE in answer.text) == (404, False)


@pytest.mark.parametrize(
    "path", ["/.built-from", "/.vite/manifest.json", "/%2e%2e/secret", "/assets/..%2f..%2fsecret", "/..%00/secret", "//secret"]
)
async def test_nothing_else_is_ever_sent(served, path):
    answer = await served.get(path)
    assert "not for you" not in answer.text
    assert "digest" not in answer.text
    assert answer.text == PAGE or answer.status_code == 404


async def test_a_link_out_of_the_folder_is_not_followed(served, built):
    (built / "link.txt").symlink_to(built.parent / "secret")
    assert "not for you" not in (await served.get("/link.txt")).text


async def test_where_no_console_was_built_a_page_says_how(ledger, tmp_path):
    app = create_public_app(ledger.context)
    app.router.default = Console(ledger.context.settings, otherwise=app.router.not_found, built=tmp_path / "nothing")
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://ledger")
    for path in ("/", "/dashboard"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert "The console is not built here" in answer.text
        assert "./gfe" in answer.text
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert (await http.get("/api/nothing/")).json()["code"] == "not_found"
