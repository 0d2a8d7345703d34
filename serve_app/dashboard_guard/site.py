"""The dashboard guard's listener: a browser brings a pass, gets a cookie of ours, and looks through us at what is behind.

Everything has a limit: what is asked, what is answered, how long it takes, how many at once. There is no WebSocket.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from html import escape

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from ledger.client import LedgerUnavailable, NotAuthenticated, NotPermitted
from serve_app.dashboard_guard.tools import Refused, Tool
from serve_app.dashboard_guard.visits import LONGEST_S, Visits

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024  # of a pass, or of a board's query
MAX_LINE_BYTES = 8190
MAX_FIELD_BYTES = 8190
MAX_HEADERS = 64
CHUNK_BYTES = 64 * 1024
AT_ONCE = 32  # requests that are passed at the same time
CONNECT_LIMIT_S = 3.0
REQUEST_LIMIT_S = 30.0  # the whole of it, a log that is followed too
WAIT_LIMIT_S = 5.0  # for a place among those
STOP_LIMIT_S = 1.0
PASS_FIELD, TOOL_FIELD = "pass", "tool"
# What the dashboards' pages may do: they are built of inline styles, and load and call nothing from elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; frame-ancestors 'self'; base-uri 'self'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
STYLE = "font:16px/1.6 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


class GuardSite:
    """The routes; `hosts` are the `Host` headers that are ours (a name that somebody else lets point here is not)."""

    def __init__(self, visits: Visits, tools: Mapping[str, Tool], console_url: str, *, is_tls: bool) -> None:
        self._visits = visits
        self._tools = tools
        self._console = f"{console_url.rstrip('/')}/admin"
        self._is_tls = is_tls
        self._cookie = "__Host-gfe_guard" if is_tls else "gfe_guard"
        self._places = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self.hosts: frozenset[str] = frozenset()

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/healthz", self._health)
        app.router.add_post("/enter", self._enter)
        app.router.add_get("/", self._index)
        app.router.add_route("*", "/{tool:[a-z]+}{rest:(/.*)?}", self._pass)
        app.on_response_prepare.append(_finish_headers)
        app.cleanup_ctx.append(self._client)
        return app

    async def _client(self, _app: web.Application) -> AsyncIterator[None]:
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_LIMIT_S)  # the whole is limited in `_pass`
        self._session = aiohttp.ClientSession(
            timeout=limits, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=AT_ONCE), skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )  # fmt: skip
        yield
        await self._session.close()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is not meant for us, and give every refusal its form."""
        try:
            if request.host.lower() not in self.hosts:
                raise Refused(421, "wrong_host", "This is not the host that was asked for.")
            if "upgrade" in request.headers.get("Connection", "").lower() or "Upgrade" in request.headers:
                raise Refused(403, "no_upgrade", "The guard passes no WebSocket.")
            return await handler(request)
        except Refused as refused:
            return _problem(refused.status, refused.code, refused.detail)
        except web.HTTPException as refused:
            return _problem(refused.status, "http_error", refused.reason)
        except LedgerUnavailable:
            return _problem(
                503, "ledger_unavailable", "The ledger does not answer, so nobody can be let in; docs/operations.md tells another way."
            )

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _enter(self, request: web.Request) -> web.Response:
        """Spend a pass; the page that is answered goes on by itself: the cookie is Strict, and a redirection would come from elsewhere."""
        form = await request.post()
        word, name = form.get(PASS_FIELD), form.get(TOOL_FIELD)
        tool = self._tools.get(name) if isinstance(name, str) else None
        if not isinstance(word, str) or tool is None:
            raise Refused(400, "invalid_request", "A pass and a tool are required; the console's page for operators sends both.")
        try:
            cookie, visit = await self._visits.enter(word[:4096])
        except (NotAuthenticated, NotPermitted):
            return self._nobody(request)
        log.info("visit_began", user=visit.username, tool=tool.name)
        page = _page(tool.title, f'<p>You are in. <a href="/{tool.name}/">Go on to {escape(tool.title)}</a></p>')
        page.headers["Refresh"] = f"0; url=/{tool.name}/"
        page.set_cookie(
            self._cookie, cookie, max_age=int(LONGEST_S), path="/", httponly=True, samesite="Strict", secure=self._is_tls
        )  # fmt: skip
        return page

    async def _index(self, request: web.Request) -> web.Response:
        if await self._visits.find(request.cookies.get(self._cookie)) is None:
            return self._nobody(request)
        links = "".join(f'<li><a href="/{tool.name}/">{escape(tool.title)}</a></li>' for tool in self._tools.values())
        return _page("For operators", f"<ul>{links}</ul>")

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back."""
        if await self._visits.find(request.cookies.get(self._cookie)) is None:
            return self._nobody(request)
        tool = self._tools.get(request.match_info["tool"])
        if tool is None:
            raise Refused(404, "not_found", "There is nothing of this name behind the guard.")
        if not request.match_info["rest"]:  # relative links of its pages need the slash
            return web.Response(status=308, headers={"Location": f"/{tool.name}/"})
        target = tool.target(request.method, request.raw_path.removeprefix(f"/{tool.name}"))
        body = await _query_of(request)
        try:
            async with asyncio.timeout(WAIT_LIMIT_S):
                await self._places.acquire()
        except TimeoutError:
            raise Refused(503, "busy", "Too many requests are on their way; try again.") from None
        try:
            return await self._relay(request, tool, target, body)
        finally:
            self._places.release()

    async def _relay(self, request: web.Request, tool: Tool, target: URL, body: bytes | None) -> web.StreamResponse:
        assert self._session is not None
        answer: web.StreamResponse | None = None
        try:
            async with (
                asyncio.timeout(REQUEST_LIMIT_S),
                self._session.request(
                    request.method,
                    target,
                    headers=tool.headers(request.headers, has_body=body is not None),
                    data=body,
                    allow_redirects=False,
                ) as found,
            ):
                if found.status in {401, 403} and tool.credential is not None:
                    raise Refused(502, "credential_refused", f"{tool.title} does not take the guard's credential: start the guard anew.")
                if (found.content_length or 0) > MAX_ANSWER_BYTES and request.method != "HEAD":
                    raise Refused(502, "too_large", f"The answer is larger than {MAX_ANSWER_BYTES} bytes.")
                answer = web.StreamResponse(status=found.status, headers=tool.answered(found.headers))
                await answer.prepare(request)
                await _copy(found, answer)
        except TimeoutError:
            if answer is None:
                raise Refused(504, "timeout", f"{tool.title} did not answer within {REQUEST_LIMIT_S:.0f} s.") from None
            _cut(request)
        except (aiohttp.ClientError, OSError):
            if answer is None:
                raise Refused(502, "not_there", f"{tool.title} does not answer.") from None
            _cut(request)
        assert answer is not None
        return answer

    def _nobody(self, request: web.Request) -> web.Response:
        """Tell how one gets in."""
        if "text/html" not in request.headers.get("Accept", ""):
            return _problem(401, "not_authenticated", f"This is for operators who come from {self._console}.")
        link = escape(self._console)
        page = _page("For operators", f'<p>This is for operators. The way in is in the console: <a href="{link}">{link}</a></p>')
        page.set_status(401)
        return page


async def _query_of(request: web.Request) -> bytes | None:
    """Read the body of a board's query: JSON, sent by a page of ours.

    Raises:
        Refused: It is something else.
    """
    if request.method != "POST":
        if request.body_exists:
            raise Refused(400, "no_body", "A look has no body.")
        return None
    if request.content_type != "application/json" or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise Refused(403, "not_passed", "Only a board's own queries pass.")
    return await request.read()


async def _copy(found: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
    """Copy an answer's body, up to the limit.

    Raises:
        ClientError: It is larger, or broke off.
    """
    size = 0
    async for chunk in found.content.iter_chunked(CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("too large")
        await answer.write(chunk)
    await answer.write_eof()


def _cut(request: web.Request) -> None:
    """Close the connection in mid answer, so that nobody takes a part for the whole."""
    if request.transport is not None:
        request.transport.abort()


async def _finish_headers(_request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(HEADERS)
    answer.headers.pop("Server", None)
    answer.headers.setdefault("Cache-Control", "no-store")


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {"title": "The guard refuses", "status": status, "detail": detail, "code": code}
    return web.json_response(body, status=status, content_type="application/problem+json")


def _page(title: str, body: str) -> web.Response:
    """Write a page; `body` is HTML."""
    return web.Response(
        text=(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<title>{escape(title)}</title></head><body style="{STYLE}"><h1>{escape(title)}</h1>{body}</body></html>'
        ),
        content_type="text/html",
    )


@asynccontextmanager
async def listening(site: GuardSite, host: str, port: int, hosts: Callable[[int], frozenset[str]]) -> AsyncIterator[int]:
    """Listen; answers the port."""
    runner = web.AppRunner(
        site.app(), access_log=None, handler_cancellation=True, shutdown_timeout=STOP_LIMIT_S, max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES, max_headers=MAX_HEADERS,
    )  # fmt: skip
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        taken = int(runner.addresses[0][1])
        site.hosts = hosts(taken)
        yield taken
    finally:
        await runner.cleanup()
