"""The page at `/` and the reference behind it. Rendered on the server; nothing is loaded from elsewhere."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serve_app.api.health import OK, readiness
from serve_app.api.reference import OPENAPI
from serve_app.context import ServeContext

STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;background:#0b0a16;color:#f3f1fb;max-width:44rem;margin:3rem auto;padding:0 1rem}"
    "a{color:#a094ff}h1{color:#f3cf70}code{background:#1e1b36;padding:.15em .4em;border-radius:4px}.ok{color:#45d98a}.bad{color:#ff8080}"
    "td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}"
)
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _document(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        headers=HEADERS,
    )


async def root(request: Request) -> Response:
    """What runs here; to programs, in the words by which Ollama's clients know their server."""
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("Ollama is running")
    context: ServeContext = request.app.state.context
    checks = await readiness(context)
    rows = "".join(
        f'<tr><th>{escape(name)}</th><td class="{"ok" if said == OK else "bad"}">{"answers" if said == OK else escape(said)}</td></tr>'
        for name, said in checks.items()
    )
    ledger, dashboard = escape(context.settings.ledger_url), escape(context.settings.dashboard_url)
    return _document(
        "GPU-For-Everyone",
        "<h1>GPU-For-Everyone</h1><p>Anybody's GPU, one honest market. This address serves the job APIs.</p>"
        f"<table>{rows}</table><ul>"
        '<li>Job APIs: <a href="/reference">reference</a>, <a href="/openapi.json">OpenAPI</a></li>'
        f'<li>Accounts and wallet: <a href="{ledger}/">{ledger}</a> (<a href="{ledger}/openapi.json">OpenAPI</a>)</li>'
        f'<li>Cluster: <a href="{dashboard}">Ray dashboard</a></li></ul>',
    )


async def reference(request: Request) -> Response:
    """The API's reference, rendered from its OpenAPI description."""
    rows = []
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            answers = ", ".join(f"{status} {escape(answer['description'])}" for status, answer in operation["responses"].items())
            rows.append(
                f"<tr><th><code>{method.upper()} {escape(path)}</code></th><td>{escape(operation['summary'])}<br><small>{answers}</small></td></tr>"
            )
    return _document("API reference", f'<h1>API reference</h1><p><a href="/">Back</a></p><table>{"".join(rows)}</table>')


async def openapi(request: Request) -> Response:
    """The OpenAPI description."""
    return JSONResponse(OPENAPI)


ROUTES = [Route("/", root), Route("/reference", reference), Route("/openapi.json", openapi)]
