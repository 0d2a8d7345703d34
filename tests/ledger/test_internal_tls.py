"""The ledger's internal operations between hosts: both sides show a certificate of the installation's own authority, or nothing is said."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys

import aiohttp
import pytest

from cluster.service_tokens import ServiceTokens
from ledger.app import create_internal_app
from ledger.client import LedgerClient, LedgerOverTls, LedgerUnavailable
from ledger.internal import AUTHORITY, CERTIFICATE, KEY, client_context
from ledger.serve import internal_server
from serve_app.dashboard_guard.__main__ import running_guard
from serve_app.dashboard_guard.settings import GuardSettings
from serve_app.ledger_settings import LedgerSettings
from serve_app.local import fleet_secrets
from tests.waiting import until

URL = "postgresql://admin:pw@db.example/gfe"
FILES = (AUTHORITY, CERTIFICATE, KEY)


@pytest.fixture
async def over_tls(ledger, tmp_path):
    """The ledger's internal port on `localhost`; answers its port and the folder of secrets by service."""
    secrets = tmp_path / "fleet"
    fleet_secrets.make(secrets, URL, ["localhost"])
    for name in FILES:
        shutil.copy(secrets / "ledger" / name, ledger.folder / name)
    server = internal_server(create_internal_app(ledger.context), ledger.context.settings, 0)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1], secrets
    server.should_exit = True
    await task


def client_of(ledger, url, folder):
    tokens = ServiceTokens((ledger.folder / "service_serve.pem").read_bytes(), "serve")
    return LedgerClient(LedgerOverTls(url, folder), lambda: tokens.mint("ledger-internal"))


async def asked(client):
    await client.start()
    try:
        return await client.find_holds(0)
    finally:
        await client.aclose()


async def test_a_service_with_its_certificate_is_answered(ledger, over_tls):
    port, secrets = over_tls
    client = client_of(ledger, f"https://localhost:{port}", secrets / "serve")
    await client.start()
    try:
        held = await client.place_hold(ledger.hold())
        assert [hold.id for hold in await client.find_holds(0)] == [held.id]
        assert (await client.feed(None)).reset
    finally:
        await client.aclose()


@pytest.mark.parametrize("service", ["edge", "auditor", "guard", "metrics"])
async def test_the_certificate_opens_the_channel_and_the_token_says_who_calls(over_tls, service):
    port, secrets = over_tls
    connector = aiohttp.TCPConnector(ssl=client_context(secrets / service))
    async with aiohttp.ClientSession(f"https://localhost:{port}", connector=connector) as session:
        assert (await session.get("/internal/v1/feed")).status == 401
        answer = await session.get("/metrics")
        assert answer.status == 200
        assert "gfe_ledger_" in await answer.text()


async def test_the_dashboard_guard_of_another_machine_asks_the_ledger(ledger, over_tls):
    port, secrets = over_tls
    shutil.copy(ledger.folder / "service_guard.pem", secrets / "guard")
    asked = {"pass": "no pass", "tool": "ray"}
    for ledgers_port, status, code in ((port, 401, "not_authenticated"), (1, 503, "ledger_unavailable")):
        settings = GuardSettings(secrets_dir=secrets / "guard", ledger_internal_url=f"https://localhost:{ledgers_port}", guard_port=0)
        async with running_guard(settings) as url, aiohttp.ClientSession() as browser, browser.post(f"{url}/enter", data=asked) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_another_authority_another_name_and_no_certificate_are_refused(ledger, over_tls, tmp_path):
    port, secrets = over_tls
    fleet_secrets.make(tmp_path / "other", URL, ["localhost"])
    strange = tmp_path / "strange"  # trusts ours, and shows one of another authority
    shutil.copytree(tmp_path / "other" / "serve", strange)
    shutil.copy(secrets / "serve" / AUTHORITY, strange / AUTHORITY)
    for url, folder in (
        (f"https://localhost:{port}", tmp_path / "other" / "serve"),
        (f"https://localhost:{port}", strange),
        (f"https://127.0.0.1:{port}", secrets / "serve"),
    ):
        with pytest.raises(LedgerUnavailable):
            await asked(client_of(ledger, url, folder))
    nobody = ssl.create_default_context(cafile=str(secrets / "serve" / AUTHORITY))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=nobody)) as session:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.get(f"https://localhost:{port}/metrics")
    async with aiohttp.ClientSession() as session:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.get(f"http://localhost:{port}/metrics")
    assert await asked(client_of(ledger, f"https://localhost:{port}", secrets / "serve")) == ()


async def test_a_client_without_its_certificate_does_not_start(ledger, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        await client_of(ledger, "https://localhost:1", tmp_path).start()


def test_settings_name_one_ledger(tmp_path):
    url = "https://gfe-ledger:8091"
    assert LedgerSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s").ledger == tmp_path / "s"
    assert LedgerSettings(secrets_dir=tmp_path, ledger_internal_url=url).ledger == LedgerOverTls(url, tmp_path)
    assert LedgerSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s", ledger_internal_url=url).ledger == LedgerOverTls(
        url, tmp_path
    )
    with pytest.raises(ValueError, match="GFE_LEDGER_INTERNAL_URL"):
        LedgerSettings(secrets_dir=tmp_path)
    for wrong in ("http://gfe-ledger:8091", "gfe-ledger:8091", f"{url}/x", "https://a@b"):
        with pytest.raises(ValueError, match="pattern"):
            LedgerSettings(secrets_dir=tmp_path, ledger_internal_url=wrong)


def test_a_ledger_with_the_port_and_without_its_certificate_says_what_is_missing(tmp_path):
    for name in ("ledger_database_url", "pay_database_url", "api_key_pepper"):
        (tmp_path / name).write_text("00" * 32)
    environment = {**os.environ, "GFE_SECRETS_DIR": str(tmp_path), "GFE_LEDGER_INTERNAL_PORT": "8091"}
    done = subprocess.run(
        [sys.executable, "-m", "ledger.cli", "serve"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path / AUTHORITY}: No such file" in done.stderr
    assert "Traceback" not in done.stderr
