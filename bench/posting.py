"""How fast the ledger posts jobs, as a ratio to what PostgreSQL itself can do on this machine at this moment.

Starts a throw-away PostgreSQL with the product's own settings and `fsync` on, then alternates, A-B-A-B:

- **pgbench**: `pgbench -N` (its simple update: begin, one update, one select, one insert, commit) with as many clients as jobs in flight;
- **kernel**: the ledger's writer. A job is a hold over two pockets, a budget line and a place of the open jobs, then its capture: legs from
  the pocket to the provider and the platform, the budget spent, everything else released;
- **http**: the same jobs as operations through the ledger's own process and socket, credentials and prices included (client CPU: both processes).

    .venv/bin/python -m bench.posting [--json] [--seconds 8] [--rounds 3] [--in-flight 64]

Figures: transactions and jobs per second, their ratio, CPU-ms per job of client and PostgreSQL. Absolute figures depend on the machine
and its load; the ratio is what can be compared.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg.conninfo import make_conninfo

from bench.machine import cpu_ms, descendants, machine
from cluster.service_tokens import ServiceTokens
from ledger.client import Capture, LedgerClient, PlaceHold, new_hold_id
from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import POCKET, Hold, Kind, Post, Status, Writer, apply
from serve_app.local import database, postgres, secrets
from tests.databases import wait_until_it_answers

PASSWORD = "bench-only"
CONSUMERS = 1000
PROVIDERS = 50
SCALE = 10  # pgbench: a million accounts
FUNDS = 10**14
JOB_PRICE = 1_000_000
FEE = 100_000
HTTP_PORT = 28_080  # the ledger's public port while it is measured


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured stretch of one contender."""

    jobs: int
    seconds: float
    client_cpu_ms: float
    server_cpu_ms: float

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(
            self.jobs + other.jobs, self.seconds + other.seconds,
            self.client_cpu_ms + other.client_cpu_ms, self.server_cpu_ms + other.server_cpu_ms,
        )  # fmt: skip

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The server that everybody is measured on."""

    admin_url: str
    ledger_url: str
    pay_url: str
    socket_folder: Path
    pid: int
    pgbench: str

    def server_cpu_ms(self) -> float:
        """CPU time of the server and all its processes, those that ended included."""
        return sum(cpu_ms(pid) for pid in descendants([self.pid]))


def find_pgbench(binaries: Path) -> str:
    """Find pgbench: beside the server's programs, on PATH, or where Debian puts it."""
    beside = binaries / "pgbench"
    if beside.exists():
        return str(beside)
    found = shutil.which("pgbench") or next((str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))), None)
    if found is None:
        sys.exit(
            "pgbench is missing, and without it there is nothing to compare with\n\nhint: apt install postgresql-client postgresql-contrib"
        )
    return found


@contextlib.contextmanager
def throw_away_server(connections: int) -> Iterator[Ground]:
    """Run a PostgreSQL with the product's settings in a folder of its own; migrate the ledger into it."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-bench-"))
    folder.chmod(0o711)
    tag = f"bench-{os.getpid()}"
    server = postgres.locate(folder / "data", folder / "socket", tag=tag)
    postgres.initialize(server, "", is_throw_away=True)
    process = subprocess.Popen([*server.command(), "-c", f"max_connections={connections}"], stderr=subprocess.DEVNULL)
    admin_url = make_conninfo(user="postgres", dbname="gfe", host=str(server.socket_folder), port=postgres.PORT)
    try:
        wait_until_it_answers(make_conninfo(admin_url, dbname="postgres"))
        database.upgrade(admin_url, dict.fromkeys(database.LOGINS.values(), PASSWORD))
        yield Ground(
            admin_url=admin_url, ledger_url=make_conninfo(admin_url, user="gfe_ledger", password=PASSWORD),
            pay_url=make_conninfo(admin_url, user="gfe_pay", password=PASSWORD),
            socket_folder=server.socket_folder, pid=process.pid, pgbench=find_pgbench(server.binaries),
        )  # fmt: skip
    finally:
        process.send_signal(postgres.FAST_SHUTDOWN)
        process.wait(30)
        postgres.purge(folder / "data", tag=tag)
        shutil.rmtree(folder, ignore_errors=True)


# --- pgbench ----------------------------------------------------------------------------------------------------------------------


def run_pgbench(ground: Ground, *arguments: str) -> str:
    """Run pgbench against a database of its own."""
    command = [ground.pgbench, "-h", str(ground.socket_folder), "-p", str(postgres.PORT), "-U", "postgres", *arguments, "pgbench"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def prepare_pgbench(ground: Ground) -> None:
    """Make pgbench's tables."""
    with psycopg.connect(ground.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE pgbench")
    run_pgbench(ground, "-i", "-q", "-s", str(SCALE))


async def measure_pgbench(ground: Ground, *, seconds: float, in_flight: int) -> Sample:
    """Let pgbench do simple updates for a while."""
    before, children = ground.server_cpu_ms(), resource.getrusage(resource.RUSAGE_CHILDREN)
    said = await asyncio.to_thread(run_pgbench, ground, "-N", "-n", "-c", str(in_flight), "-j", "2", "-T", str(max(1, round(seconds))))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = int(re.search(r"actually processed: (\d+)", said)[1])  # type: ignore[index]
    rate = float(re.search(r"tps = ([\d.]+)", said)[1])  # type: ignore[index]
    client = (after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime) * 1000
    return Sample(done, done / rate, client, ground.server_cpu_ms() - before)


# --- the kernel -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Consumer:
    """Accounts of one consumer: half of them live on promotional credits, half on deposits."""

    promo: int
    paid: int
    budget: int
    slots: int
    is_promoted: bool

    @property
    def payer(self) -> int:
        """The pocket that a job of theirs is paid from."""
        return self.promo if self.is_promoted else self.paid


@dataclass(frozen=True, slots=True)
class Market:
    """Who takes part in the measured jobs."""

    consumers: tuple[Consumer, ...]
    providers: tuple[int, ...]
    fees: int
    issuer: int

    def hold(self, consumer: Consumer) -> Hold:
        """Reserve the price of a job over everything that a real one reserves."""
        return Hold(
            id=new_uuid7(), amount=JOB_PRICE, ttl_s=600, meta={"model": "smollm2:135m", "price": [1, JOB_PRICE, 0, 0], "service": "serve"},
            lines=((consumer.promo, POCKET), (consumer.paid, POCKET), (consumer.budget, JOB_PRICE), (consumer.slots, 1)),
        )  # fmt: skip

    def capture(self, hold: Hold, consumer: Consumer, provider: int) -> Post:
        """Charge the whole price: provider, fee, budget."""
        return Post(
            id=hold.id, kind=Kind.CAPTURE, resolves_hold=True,
            meta={"held": JOB_PRICE, "cost": JOB_PRICE, "model": "smollm2:135m", "node": "node_bench", "attempt": 1},
            legs=(
                (consumer.payer, -JOB_PRICE), (provider, JOB_PRICE - FEE), (self.fees, FEE),
                (consumer.budget, -JOB_PRICE), (self.issuer, JOB_PRICE),
            ),
        )  # fmt: skip


async def prepare_kernel(ground: Ground) -> Market:
    """Open and fund the accounts of consumers and providers."""
    connection = await connect(ground.pay_url, name="bench")
    fixed = [accounts.PROMOTIONS, accounts.FEES, accounts.SLOT_ISSUER, "issuer:allowances", "world:bench"]
    people = [new_uuid7() for _ in range(CONSUMERS)]
    providers = [accounts.pending(new_uuid7(), f"node_{n}") for n in range(PROVIDERS)]
    own = [(accounts.promo(one), accounts.paid(one), f"budget:{one}:total", accounts.slots(one)) for one in people]
    ids = await accounts.open_accounts(connection, fixed + providers + [address for four in own for address in four])
    gifts = []
    for promo, paid, budget, slots in own:
        is_promoted = len(gifts) % 2 == 0
        source, pocket = (accounts.PROMOTIONS, promo) if is_promoted else ("world:bench", paid)
        legs = ((ids[source], -FUNDS), (ids[pocket], FUNDS), (ids["issuer:allowances"], -FUNDS), (ids[budget], FUNDS),
                (ids[accounts.SLOT_ISSUER], -1000), (ids[slots], 1000))  # fmt: skip
        gifts.append(Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=legs, meta={"reason": "bench"}))
    for start in range(0, len(gifts), 200):
        assert set(await apply(connection, gifts[start : start + 200])) == {Status.OK}
    await connection.close()
    with psycopg.connect(ground.admin_url, autocommit=True) as admin:
        admin.execute("VACUUM ANALYZE")
    consumers = tuple(
        Consumer(ids[promo], ids[paid], ids[budget], ids[slots], number % 2 == 0) for number, (promo, paid, budget, slots) in enumerate(own)
    )
    return Market(consumers, tuple(ids[one] for one in providers), ids[accounts.FEES], ids["issuer:allowances"])


async def measure_kernel(ground: Ground, market: Market, *, seconds: float, in_flight: int) -> Sample:
    """Let `in_flight` callers place and capture holds for a while."""
    writer = Writer(ground.ledger_url, name="bench_writer")
    writer.start()
    done = 0
    rng = random.Random(1)

    async def caller(until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            consumer = rng.choice(market.consumers)
            hold = market.hold(consumer)
            assert await writer.submit(hold) is Status.OK
            assert await writer.submit(market.capture(hold, consumer, rng.choice(market.providers))) is Status.OK
            done += 1

    await asyncio.gather(*(caller(time.perf_counter() + 0.3) for _ in range(in_flight)))  # prepared statements and plans
    done = 0
    before, client, start = ground.server_cpu_ms(), time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller(start + seconds) for _ in range(in_flight)))
    sample = Sample(done, time.perf_counter() - start, (time.process_time() - client) * 1000, ground.server_cpu_ms() - before)
    await writer.aclose()
    return sample


# --- operations through HTTP --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ledger_secrets(ground: Ground) -> Iterator[Path]:
    """Make the secrets of a ledger over the server, and a first consumer with a key (`first_api_key`)."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-bench-"))
    try:
        secrets.make_all(folder)
        secrets.overwrite(folder / "ledger_database_url", ground.ledger_url)
        secrets.overwrite(folder / "pay_database_url", ground.pay_url)
        subprocess.run([sys.executable, "-m", "ledger.cli", "bootstrap"], env=_settings(folder, 0), check=True, stdout=subprocess.DEVNULL)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, number: int) -> dict[str, str]:
    return {
        **os.environ, "GFE_SECRETS_DIR": str(folder), "GFE_LEDGER_SOCKET": str(folder / f"s{number}" / "internal.sock"),
        "GFE_LEDGER_PORT": str(HTTP_PORT + number), "GFE_NODE_ID": "node_bench", "GFE_WELCOME_CREDITS": "1000000000.00",
        "GFE_OPEN_JOBS": "100000", "GFE_SUBMITS_PER_MINUTE": "1000000",
    }  # fmt: skip


@contextlib.contextmanager
def ledger_process(folder: Path, number: int = 0) -> Iterator[tuple[LedgerClient, subprocess.Popen[bytes]]]:
    """Run one of the ledger's own processes; answer a client of its socket, and the process."""
    socket = folder / f"s{number}" / "internal.sock"
    process = subprocess.Popen([sys.executable, "-m", "ledger.cli", "serve"], env=_settings(folder, number), stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < until, "the ledger did not start"
            time.sleep(0.05)
        tokens = ServiceTokens((folder / "service_serve.pem").read_bytes(), "serve")
        yield LedgerClient(socket, lambda: tokens.mint("ledger-internal")), process
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def running_ledger(ground: Ground) -> Iterator[tuple[LedgerClient, str, subprocess.Popen[bytes]]]:
    """Run a ledger over the server; answer a client of its socket, a consumer's key, the process."""
    with ledger_secrets(ground) as folder, ledger_process(folder) as (client, process):
        yield client, (folder / "first_api_key").read_text(), process


async def measure_http(
    ground: Ground, ledger: tuple[LedgerClient, str, subprocess.Popen[bytes]], *, seconds: float, in_flight: int
) -> Sample:
    """Let `in_flight` callers place and capture holds through the ledger's internal operations."""
    client, key, process = ledger
    done = 0

    async def caller(until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            asked = PlaceHold(id=new_hold_id(), credential=key, model="smollm2:135m", prompt_tokens=50, max_tokens=100, ttl_s=600)
            placed = await client.place_hold(asked)
            await client.capture(
                Capture(
                    id=placed.id,
                    outcome="succeeded",
                    prompt_tokens=40,
                    completion_tokens=60,
                    counted_by="platform",
                    node="node_bench",
                    attempt=1,
                )
            )
            done += 1

    def used() -> float:
        return time.process_time() * 1000 + cpu_ms(process.pid)

    await client.start()
    await asyncio.gather(*(caller(time.perf_counter() + 0.3) for _ in range(in_flight)))
    done = 0
    before, ours, start = ground.server_cpu_ms(), used(), time.perf_counter()
    await asyncio.gather(*(caller(start + seconds) for _ in range(in_flight)))
    sample = Sample(done, time.perf_counter() - start, used() - ours, ground.server_cpu_ms() - before)
    await client.aclose()
    return sample


# --- together ---------------------------------------------------------------------------------------------------------------------

Contender = Callable[[], Awaitable[Sample]]


async def alternate(contenders: dict[str, Contender], rounds: int) -> dict[str, Sample]:
    """Measure all contenders in turn, `rounds` times."""
    sums: dict[str, Sample] = {}
    for _ in range(rounds):
        for name, measure in contenders.items():
            sample = await measure()
            print(f"{name}: {sample.rate:.0f}/s", file=sys.stderr)
            sums[name] = sums[name] + sample if name in sums else sample
    return sums


def rows_of(sums: dict[str, Sample]) -> list[dict[str, Any]]:
    """Put samples into figures; the first contender is the yardstick."""
    yardstick = next(iter(sums.values()))
    return [
        {
            "contender": name,
            "jobs_per_s": round(sample.rate),
            "ratio": round(sample.rate / yardstick.rate, 2),
            "client_cpu_ms_per_job": round(sample.client_cpu_ms / sample.jobs, 4),
            "postgres_cpu_ms_per_job": round(sample.server_cpu_ms / sample.jobs, 4),
        }
        for name, sample in sums.items()
    ]


async def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=64)
    chosen = parser.parse_args()
    how = {"seconds": chosen.seconds, "in_flight": chosen.in_flight}
    with throw_away_server(chosen.in_flight + 40) as ground, running_ledger(ground) as ledger:
        prepare_pgbench(ground)
        market = await prepare_kernel(ground)
        sums = await alternate(
            {
                "pgbench": lambda: measure_pgbench(ground, **how),
                "kernel": lambda: measure_kernel(ground, market, **how),
                "http": lambda: measure_http(ground, ledger, **how),
            },
            chosen.rounds,
        )
    rows = rows_of(sums)
    if chosen.json:
        print(json.dumps({"machine": machine(), "in_flight": chosen.in_flight, "rows": rows}))
        return
    print(machine())
    for row in rows:
        print(
            f"{row['contender']:>10}: {row['jobs_per_s']:>6}/s, ratio {row['ratio']:.2f}; CPU-ms per job: "
            f"client {row['client_cpu_ms_per_job']:.3f}, PostgreSQL {row['postgres_cpu_ms_per_job']:.3f}"
        )


if __name__ == "__main__":
    uvloop.run(main())
