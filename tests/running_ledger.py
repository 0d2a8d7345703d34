"""A running ledger over a database of the test's own: real sockets, real PostgreSQL."""

import asyncio

import httpx2
import uvicorn

from cluster.service_tokens import ServiceTokens
from ledger.app import create_internal_app, create_public_app
from ledger.bootstrap import bootstrap
from ledger.client import LedgerClient
from ledger.context import LedgerContext
from ledger.settings import LedgerSettings
from serve_app.local import secrets as made
from tests.waiting import until


class RunningLedger:
    """The service's context, its client, its public app, and the first consumer's key; `auditor` is the auditor's client."""

    def __init__(self, context, client, http, key, folder, auditor):
        self.context, self.client, self.http, self.key, self.folder, self.auditor = context, client, http, key, folder, auditor

    def hold(self, *, key=None, **changes):
        from ledger.client import PlaceHold, new_hold_id

        fields = {"id": new_hold_id(), "credential": key or self.key, "model": "m", "prompt_tokens": 10, "max_tokens": 100, "ttl_s": 60}
        return PlaceHold(**(fields | changes))


async def start_ledger(database, folder, *, socket="s", **settings):
    """Start a ledger with these settings; answers it and what stops it. Edge nodes get jobs at once, unless a test is about admission."""
    settings.setdefault("admission_canaries", 0)
    made.make_all(folder)
    made.overwrite(folder / "ledger_database_url", database.ledger_url)
    made.overwrite(folder / "pay_database_url", database.pay_url)
    chosen = LedgerSettings(
        secrets_dir=folder, ledger_socket=folder / socket / "internal.sock", node_id="node_local", mail_dir=folder / "mail", **settings
    )
    await bootstrap(chosen, "first")
    context = LedgerContext.of_settings(chosen)
    context.writer.start()
    (folder / socket).mkdir(exist_ok=True)
    server = uvicorn.Server(uvicorn.Config(create_internal_app(context), uds=str(chosen.ledger_socket), log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started, 10, "the internal listener to start")
    client, auditor = (_client(chosen.ledger_socket, folder, service) for service in ("serve", "auditor"))
    await client.start()
    await auditor.start()
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(create_public_app(context)), base_url="http://ledger")
    running = RunningLedger(context, client, http, (folder / "first_api_key").read_text(), folder, auditor)

    async def stop():
        await client.aclose()
        await auditor.aclose()
        await http.aclose()
        server.should_exit = True
        await task
        await context.aclose()

    return running, stop


def _client(socket, folder, service):
    tokens = ServiceTokens((folder / f"service_{service}.pem").read_bytes(), service)
    return LedgerClient(socket, lambda: tokens.mint("ledger-internal"))
