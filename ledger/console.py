"""Serves the built console (`ledger/static/`, made by `console/hatch_build.py`): its files, and its one page at every path that is no API's.

It stands behind all routes: what reaches it is a path that nothing else answers.
"""

import mimetypes
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from ledger.api.pages import document
from ledger.settings import LedgerSettings

BUILT = Path(__file__).with_name("static")
APIS = ("/api/", "/v1/", "/.well-known/", "/dist/", "/internal/")
ASSETS = "/assets/"  # named by their content
FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
TLS_ONLY = "max-age=31536000"
ENCODINGS = (("br", ".br"), ("gzip", ".gz"))  # the better one first; the files lie beside the plain ones
KEPT_WITH_304 = ("Cache-Control", "ETag", "Vary")
NOT_BUILT = (
    "<h1>GPU-For-Everyone</h1><p>The console is not built here. The APIs work without it: see the <a href='/reference'>reference</a> and "
    "<a href='/status'>what runs</a>.</p><p>To build it, from the checkout, with the registry of npm packages in reach:</p>"
    "<p><code>./gfe console</code></p>"
)


def policy_of(settings: LedgerSettings) -> str:
    """Write the page's content security policy: everything from here, nothing inline; calls and sockets also to the job APIs, forms to the guard."""
    api = urlsplit(settings.api_url)
    guard = urlsplit(settings.guard_url or "")
    forms = f"'self' {guard.scheme}://{guard.netloc}" if guard.netloc else "'self'"
    host = f"{'https' if api.scheme == 'https' else 'http'}://{api.netloc} {'wss' if api.scheme == 'https' else 'ws'}://{api.netloc}"
    return (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {host}; base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
    )


class Console:
    """An ASGI application: the console's files and page, then `otherwise` for what is none of it."""

    def __init__(self, settings: LedgerSettings, otherwise: ASGIApp, built: Path = BUILT) -> None:
        self._built = built.resolve()
        self._files = StaticFiles(directory=self._built, check_dir=False)
        self._otherwise = otherwise
        self._headers = {"Content-Security-Policy": policy_of(settings)}
        if urlsplit(settings.public_url).scheme == "https":
            self._headers["Strict-Transport-Security"] = TLS_ONLY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"} or scope["path"].startswith(APIS):
            await self._otherwise(scope, receive, send)
            return
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        path = str(scope["path"])
        if found := self._file(path.lstrip("/")):
            return self._sent(scope, found, FOREVER if path.startswith(ASSETS) else ASK_AGAIN)
        if path.startswith(ASSETS):  # of an older page; the page itself in its place would be taken for a script
            raise HTTPException(404)
        if page := self._file("index.html"):
            return self._sent(scope, page, ASK_AGAIN)
        return not_built()

    def _file(self, name: str) -> Path | None:
        """Find a file of the console; nothing outside of its folder, and nothing hidden."""
        if "\0" in name or any(part.startswith(".") for part in name.split("/")):
            return None
        found = (self._built / name).resolve()
        return found if found.is_relative_to(self._built) and found.is_file() else None

    def _sent(self, scope: Scope, path: Path, cached: str) -> Response:
        """Send a file, compressed as it lies there where the client takes that; nothing when the client has it already."""
        accepted = Headers(scope=scope).get("accept-encoding", "")
        headers = self._headers | {"Cache-Control": cached, "Vary": "Accept-Encoding"}
        sent = path
        for coding, suffix in ENCODINGS:
            packed = path.with_name(path.name + suffix)
            if _takes(accepted, coding) and packed.is_file():
                sent, headers["Content-Encoding"] = packed, coding
                break
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        answer = FileResponse(sent, headers=headers, media_type=kind, stat_result=sent.stat())
        if self._files.is_not_modified(answer.headers, Headers(scope=scope)):
            # With the policy: what comes with a 304 takes the place of what the browser has kept (RFC 9111, 3.2).
            return Response(status_code=304, headers={name: answer.headers[name] for name in (*self._headers, *KEPT_WITH_304)})
        return answer


def not_built() -> HTMLResponse:
    """Say that there is no console here, and how to get one."""
    page = document("GPU-For-Everyone", NOT_BUILT)
    page.headers["Cache-Control"] = ASK_AGAIN
    return page


def _takes(accepted: str, coding: str) -> bool:
    """Tell whether an `Accept-Encoding` takes a coding (RFC 9110, 12.5.3): named, and not with the weight 0."""
    for one in accepted.split(","):
        name, _, weight = one.partition(";")
        if name.strip().lower() == coding:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
