"""The page at `/`: what runs here and where its references are. Rendered on the server; loads nothing from elsewhere."""

from html import escape

STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;background:#0b0a16;color:#f3f1fb;max-width:44rem;margin:3rem auto;padding:0 1rem}"
    "a{color:#a094ff}h1{color:#f3cf70}code{background:#1e1b36;padding:.15em .4em;border-radius:4px}li{margin:.3em 0}"
)


def page(*, database_ok: bool, api_url: str, dashboard_url: str) -> str:
    """Render the page."""
    state = "answers" if database_ok else "does not answer now"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>GPU-For-Everyone</title><style>{STYLE}</style></head><body><main><h1>GPU-For-Everyone</h1>"
        "<p>Anybody's GPU, one honest market. This is the ledger: accounts, keys and money.</p><ul>"
        f"<li>Ledger: running. Its database {state}.</li>"
        f'<li>Job APIs: <a href="{escape(api_url)}/">{escape(api_url)}</a> (<a href="{escape(api_url)}/openapi.json">reference</a>)</li>'
        '<li>Accounts and wallet: this address (<a href="/openapi.json">reference</a>)</li>'
        f'<li>Cluster: <a href="{escape(dashboard_url)}">Ray dashboard</a></li></ul>'
        "<p>On this machine <code>gfe status</code> tells the state of every part, <code>gfe wallet</code> your balance.</p></main></body></html>"
    )
