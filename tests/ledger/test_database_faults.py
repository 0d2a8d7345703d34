"""PostgreSQL frozen, killed, out of disk (faults reference, rows 25 to 27): refused in time, nothing lost, back by itself."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from cluster import processes
from ledger.client import Capture, LedgerError, LedgerUnavailable
from ledger.money.audit import audit_at
from tests.databases import Database
from tests.ledger.proof.server import PASSWORD, ThrowAwayServer, throw_away_server
from tests.running_ledger import start_ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
ANSWER_LIMIT_S = 3.5
SCHEDULING_S = 5.0  # what a loaded machine may add to a limit of ours
BACK_LIMIT_S = 60
ENOUGH = 100


class Running:
    """A ledger over a server of its own."""

    def __init__(self, server, ledger):
        self.server, self.ledger = server, ledger
        self.acknowledged = []

    async def serve(self, model="m"):
        """One whole job; note what was acknowledged."""
        placed = await self.ledger.client.place_hold(self.ledger.hold(model=model))
        self.acknowledged.append(placed.id)
        await self.ledger.client.capture(
            Capture(
                id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
            )
        )

    async def serve_again(self):
        """Wait until jobs are served again, by nobody's hand."""
        until = time.monotonic() + BACK_LIMIT_S
        while True:
            try:
                return await self.serve()
            except LedgerError:
                assert time.monotonic() < until, "it does not come back"
                await asyncio.sleep(0.05)

    def require_nothing_lost(self):
        with psycopg.connect(self.server.admin_url) as admin:
            rows = admin.execute("SELECT id FROM ledger.txn UNION SELECT id FROM ledger.hold").fetchall()
        assert set(self.acknowledged) <= {row[0] for row in rows}
        assert [found.rule for found in audit_at(self.server.admin_url) if not found.is_held] == []


@pytest.fixture
async def running():
    stops = []

    async def start(server):
        folder = Path(tempfile.mkdtemp(prefix="gfe-"))
        database = Database(server.admin_url, server.ledger_url, server.pay_url, server.ledger_url, "gfe")
        ledger, stop = await start_ledger(database, folder, welcome_credits="10000.00", open_jobs=10_000, submits_per_minute=100_000)
        stops.append((stop, folder))
        return Running(server, ledger)

    yield start
    for stop, folder in stops:
        await stop()
        shutil.rmtree(folder, ignore_errors=True)


async def refused_within(call, limit_s):
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await call
    assert time.monotonic() - began < limit_s


async def test_a_frozen_server_is_told_of_in_time_and_serves_again_when_it_thaws(running):
    with throw_away_server() as server:
        found = await running(server)
        await found.serve()
        postmaster = server._process.pid
        frozen = (processes.process_of(postmaster), *processes.descendants(postmaster))
        for process in frozen:
            processes.send(process, signal.SIGSTOP)
        try:
            await asyncio.gather(*(refused_within(found.serve(), ANSWER_LIMIT_S + SCHEDULING_S) for _ in range(20)))
            began = time.monotonic()
            answer = await found.ledger.http.get("/api/payments/wallet/", headers={"Authorization": f"Bearer {found.ledger.key}"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert time.monotonic() - began < ANSWER_LIMIT_S + SCHEDULING_S
        finally:
            for process in frozen:
                processes.send(process, signal.SIGCONT)
        await found.serve_again()
        found.require_nothing_lost()


async def test_a_killed_server_loses_nothing_that_was_acknowledged(running):
    with throw_away_server() as server:
        found = await running(server)

        async def client():
            while not killed.done() or len(found.acknowledged) <= ENOUGH:
                try:
                    await found.serve()
                except LedgerError:
                    await asyncio.sleep(0.05)

        async def killer():
            for _ in range(3):
                await asyncio.sleep(0.3)
                server.kill()
                await asyncio.to_thread(server.start)

        killed = asyncio.ensure_future(killer())
        await asyncio.gather(killed, *(client() for _ in range(8)))
        await found.serve_again()
        found.require_nothing_lost()
        assert server.logged("deadlock detected") == 0


def can_mount():
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    folder = tempfile.mkdtemp(prefix="gfe-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False).returncode == 0
    if done:
        subprocess.run(["umount", folder], check=True)
    Path(folder).rmdir()
    return done


@pytest.fixture
def server_on_a_small_disk():
    """A server whose folder is a disk of its own; answers both."""
    from serve_app.local import database, postgres

    disk, tag = Path(tempfile.mkdtemp(prefix="gfe-disk-")), f"disk-{os.getpid()}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m,mode=0755", "tmpfs", str(disk)], check=True)
    try:
        server = ThrowAwayServer(disk, tag, "-c", "max_wal_size=32MB", "-c", "min_wal_size=32MB")
        try:
            server.start()
            database.upgrade(server.admin_url, dict.fromkeys(database.LOGINS.values(), PASSWORD))
            yield server, disk
        finally:
            server.stop()
            postgres.purge(disk / "data", tag=tag)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


def fill(disk):
    """Take all the room there is; again, because the server gives some back by itself when it recycles its log."""
    free = shutil.disk_usage(disk).free
    if free:
        with (disk / f"ballast-{time.monotonic_ns()}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)


@pytest.mark.skipif(not can_mount(), reason="only root may mount a small disk")
async def test_a_full_disk_refuses_and_goes_on_when_there_is_room_again(running, server_on_a_small_disk):
    server, disk = server_on_a_small_disk
    found = await running(server)
    await found.serve()
    refused = 0
    for n in range(5_000):
        if n % 50 == 0:
            fill(disk)
        try:
            await found.serve(model=secrets.token_hex(140))  # random: what repeats is stored small
        except LedgerUnavailable:
            refused += 1
            if refused > 3:
                break
    assert refused, "the disk did not fill"
    for ballast in disk.glob("ballast-*"):
        ballast.unlink()
    if server._process.poll() is not None:  # a full log of transactions ends the server; a supervisor starts it again
        server.start()
    await found.serve_again()
    found.require_nothing_lost()
