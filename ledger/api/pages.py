"""Pages without the console: what runs here, and the API's reference. Rendered on the server; nothing is loaded from elsewhere."""

import base64
import hashlib
import time
from html import escape
from typing import Annotated

import aiohttp
from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import HTMLResponse, Response

from ledger.api.callers import Context
from ledger.api.wallet import health
from ledger.errors import NotFound

LOOK_LIMIT_S = 1.0
CACHE_S = 2.0
STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;background:#0b0a16;color:#f3f1fb;max-width:44rem;margin:3rem auto;padding:0 1rem}"
    "a{color:#a094ff}h1{color:#f3cf70}code{background:#1e1b36;padding:.15em .4em;border-radius:4px}.ok{color:#45d98a}.bad{color:#ff8080}"
    "button{font:inherit;font-weight:600;min-height:2.75rem;padding:.4rem 1.1rem;border:1px solid #726e98;border-radius:8px;background:#1e1b36;"
    "color:inherit;cursor:pointer}button:focus-visible,a:focus-visible{outline:2px solid #a094ff;outline-offset:2px}"
    "td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {"Content-Security-Policy": f"default-src 'self'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"}
router = APIRouter(include_in_schema=False)


class JobApis:
    """Asks the job APIs whether they are ready; at most once per `CACHE_S`, however often the page is read."""

    def __init__(self) -> None:
        self._known: tuple[float, str] = (float("-inf"), "")

    async def state(self, api_url: str) -> str:
        """Tell it in a word or two."""
        if time.monotonic() - self._known[0] > CACHE_S:
            self._known = (time.monotonic(), await _ready(f"{api_url}/readyz"))
        return self._known[1]


async def _ready(url: str) -> str:
    limit = aiohttp.ClientTimeout(total=LOOK_LIMIT_S)
    try:
        async with aiohttp.ClientSession(timeout=limit, trust_env=False) as session, session.get(url, allow_redirects=False) as response:
            return "answers" if response.status == 200 else "is not ready"
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return "does not answer now"


async def _job_apis(request: Request) -> JobApis:
    if not hasattr(request.app.state, "job_apis"):
        request.app.state.job_apis = JobApis()
    found: JobApis = request.app.state.job_apis
    return found


@router.get("/status")
async def status(context: Context, job_apis: Annotated[JobApis, Depends(_job_apis)]) -> HTMLResponse:
    """What runs here."""
    settings = context.settings
    database = "answers" if (await health(context)).status_code == 200 else "does not answer now"
    parts = {"ledger": "answers", "database": database, "job APIs": await job_apis.state(settings.api_url)}
    rows = "".join(
        f'<tr><th>{escape(name)}</th><td class="{"ok" if said == "answers" else "bad"}">{said}</td></tr>' for name, said in parts.items()
    )
    api = escape(settings.api_url)
    return document(
        "GPU-For-Everyone",
        "<h1>GPU-For-Everyone</h1><p>Anybody's GPU, one honest market. This is the ledger: accounts, keys and money. <a href='/'>To the console</a></p>"
        f"<table>{rows}</table><ul>"
        f'<li>Job APIs: <a href="{api}/">{api}</a> (<a href="{api}/reference">reference</a>, <a href="{api}/openapi.json">OpenAPI</a>)</li>'
        '<li>Accounts and wallet: this address (<a href="/reference">reference</a>, <a href="/openapi.json">OpenAPI</a>)</li>'
        "<li>For operators: <a href='/admin'>the console's pages</a>, and from there Ray's dashboard</li></ul>"
        "<p>On this machine <code>gfe status</code> tells the state of every part, <code>gfe wallet</code> your balance.</p>",
    )


@router.get("/metrics")
async def metrics(request: Request, context: Context) -> Response:
    """Metrics for Prometheus; answered to this machine and to the networks that `GFE_METRICS_FROM` names, and not through a proxy."""
    from_us = request.client is not None and context.settings.may_read_metrics(request.client.host)
    if not from_us or "x-forwarded-for" in request.headers:
        raise NotFound("Page", "/metrics")
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/reference")
@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    """The API's reference, rendered from its OpenAPI description."""
    rows = []
    for path, methods in request.app.openapi()["paths"].items():
        for method, operation in methods.items():
            answers = ", ".join(f"{status} {escape(answer['description'])}" for status, answer in operation["responses"].items())
            says = escape(operation.get("description", operation["summary"]))
            rows.append(f"<tr><th><code>{method.upper()} {escape(path)}</code></th><td>{says}<br><small>{answers}</small></td></tr>")
    return document("API reference", f'<h1>API reference</h1><p><a href="/status">Back</a></p><table>{"".join(rows)}</table>')


def document(title: str, body: str) -> HTMLResponse:
    """Write a page; `body` is HTML."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        headers=HEADERS,
    )
