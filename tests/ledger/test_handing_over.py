"""Two processes of the ledger side by side, as an upgrade has them for a moment: the newer takes over, and nobody is refused."""

import asyncio
import os
import signal
import socket
import sys
import urllib.request

import pytest

from cluster.service_tokens import ServiceTokens
from ledger.client import LedgerClient
from serve_app.local import secrets as made
from tests.waiting import until


class Ledgers:
    """Processes of one ledger: one database, one port, one socket."""

    def __init__(self, database, folder):
        made.make_all(folder)
        made.overwrite(folder / "ledger_database_url", database.ledger_url)
        made.overwrite(folder / "pay_database_url", database.pay_url)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.socket, self.health = folder / "s" / "internal.sock", f"http://127.0.0.1:{port}/api/core/health/"
        self.key_file = folder / "first_api_key"
        self._environment = {
            "PATH": os.environ["PATH"], "GFE_SECRETS_DIR": str(folder), "GFE_LEDGER_SOCKET": str(self.socket), "GFE_LEDGER_PORT": str(port),
            "GFE_MAIL_DIR": str(folder / "mail"), "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip

    async def run(self, command):
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "ledger.cli", command, env=self._environment)

    async def start(self):
        """Start one more; return when the socket's name leads to it."""
        before = self.socket.stat().st_ino if self.socket.exists() else None
        process = await self.run("serve")
        await until(lambda: self.socket.exists() and self.socket.stat().st_ino != before, 30)
        return process

    def answers(self):
        with urllib.request.urlopen(self.health, timeout=5) as answer:
            return answer.status == 200


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_the_newer_process_takes_over_and_no_call_fails(database, tmp_path):
    ledgers = Ledgers(database, tmp_path)
    assert await (await ledgers.run("bootstrap")).wait() == 0
    tokens = ServiceTokens((tmp_path / "service_serve.pem").read_bytes(), "serve")
    client = LedgerClient(ledgers.socket, lambda: tokens.mint("ledger-internal"))
    process = await ledgers.start()
    await client.start()
    key, counts = ledgers.key_file.read_text(), {"socket": 0, "port": 0}

    async def ask_the_socket():
        while True:
            await client.introspect(key)
            counts["socket"] += 1
            await asyncio.sleep(0.002)

    async def ask_the_port():
        while True:
            assert await asyncio.to_thread(ledgers.answers)
            counts["port"] += 1
            await asyncio.sleep(0.05)

    asking = [asyncio.create_task(ask()) for ask in (ask_the_socket, ask_the_socket, ask_the_port)]

    async def until_more():
        seen = dict(counts)
        await until(lambda: any(task.done() for task in asking) or all(counts[name] > seen[name] + 5 for name in counts))
        assert [task.exception() for task in asking if task.done()] == []

    try:
        await until_more()
        newer = await ledgers.start()
        await until_more()  # both serve
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        process = newer
        await until_more()
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        process.kill()
        await process.wait()
        await client.aclose()
