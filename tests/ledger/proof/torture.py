"""Kills the database and its clients again and again, and then asks whether anything that was acknowledged is lost.

    python -m tests.ledger.proof.torture --seconds 60

One line of JSON; status 1 when a rule of the books is broken, an acknowledged operation is missing, or there was a deadlock. PostgreSQL
runs with `fsync` on. What a kill cannot show is the loss of power: the operating system lives on.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg

from ledger.db import connect
from ledger.ids import new_uuid7
from ledger.money.accounts import open_accounts
from ledger.money.audit import audit
from ledger.money.posting import Kind, Post, Status, apply
from tests.ledger.proof.oracle import differences
from tests.ledger.proof.server import ThrowAwayServer, throw_away_server

CLIENTS = 3
CONSUMERS = 12
DATABASE_LIVES_S = (1.5, 3.0)
TIGHT, AMPLE = 100_000, 10**12  # budgets: half of the consumers meet theirs
CLIENT_DIES = 0.4  # how likely with each kill of the database
DONE = {"ok", "exists"}
# What a budget lost is what its consumer's pockets paid for captures, to the micro-credit.
OVERSPENT = """
SELECT b.address, b.posted, coalesce(spent.sum, 0) FROM ledger.account b
LEFT JOIN LATERAL (SELECT sum(-e.amount) AS sum FROM ledger.entry e JOIN ledger.account p ON p.id = e.account_id JOIN ledger.txn t ON t.id = e.txn_id
  WHERE t.hold_digest IS NOT NULL AND p.address LIKE 'consumer:' || split_part(b.address, ':', 2) || ':%') spent ON true
LEFT JOIN LATERAL (SELECT sum(e.amount) AS sum FROM ledger.entry e WHERE e.account_id = b.id AND e.amount > 0) given ON true
WHERE b.address LIKE 'budget:%' AND (b.posted <> given.sum - coalesce(spent.sum, 0) OR b.posted < 0)
"""
MET = "SELECT count(*) FROM ledger.account WHERE address LIKE 'budget:%:2026-%' AND posted - held < 1000"
GRACE_S = 30


@dataclass
class Figures:
    budgets_met: int = 0
    seconds: float = 0
    kills: int = 0
    client_kills: int = 0
    transactions: int = 0
    entries: int = 0
    open_holds: int = 0
    acknowledged: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    deadlocks: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.deadlocks or self.violations)


class Clients:
    """Client processes; each has its own history file, which it keeps over its deaths."""

    def __init__(self, folder: Path, until: float) -> None:
        self._folder = folder
        self._until = until
        self._processes = [self._start(number) for number in range(CLIENTS)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        files = ["--market", str(self._folder / "market"), "--history", str(self._folder / f"history-{number}")]
        command = [sys.executable, "-m", "tests.ledger.proof.torture_client", *files, "--until", str(self._until)]
        with (self._folder / f"client-{number}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def kill_one(self, rng: random.Random) -> None:
        number = rng.randrange(CLIENTS)
        self._processes[number].kill()
        self._processes[number].wait()
        self._processes[number] = self._start(number)

    def wait(self) -> list[str]:
        """Wait for their own end; tell which ended badly, and the last line of why."""
        found = []
        for number, process in enumerate(self._processes):
            if process.wait(GRACE_S):
                said = (self._folder / f"client-{number}.log").read_text(errors="replace").strip().splitlines()
                found.append(f"client {number} ended with {process.returncode}: {said[-1] if said else ''}")
        return found

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


async def open_market(url: str) -> dict[str, object]:
    """Open the accounts that all clients share, with few open jobs per consumer so that limits are met too."""
    people = [uuid.uuid4() for _ in range(CONSUMERS)]
    own = [
        {
            "promo": f"consumer:{one}:promo",
            "paid": f"consumer:{one}:paid",
            "slots": f"slots:{one}",
            "day": f"budget:{one}:2026-11-24",
            "total": f"budget:{one}:total",
        }
        for one in people
    ]
    shared = ["world:torture", "issuer:slots", "issuer:allowances", "provider:torture:pending"]
    connection = await connect(url, name="torture")
    ids = await open_accounts(connection, [*shared, *(address for three in own for address in three.values())])
    legs = tuple((ids[three["slots"]], 20) for three in own)
    gift = Post(id=new_uuid7(), kind=Kind.ALLOWANCE, legs=(*legs, (ids["issuer:slots"], -20 * CONSUMERS)))
    given = {
        three[period]: amount for n, three in enumerate(own) for period, amount in (("day", TIGHT if n % 2 else AMPLE), ("total", AMPLE))
    }
    legs = tuple((ids[address], amount) for address, amount in given.items())
    budgets = Post(id=new_uuid7(), kind=Kind.ALLOWANCE, legs=(*legs, (ids["issuer:allowances"], -sum(given.values()))))
    assert await apply(connection, [gift, budgets]) == [Status.OK] * 2
    await connection.close()
    consumers = [{name: ids[address] for name, address in three.items()} for three in own]
    return {
        "url": url,
        "world": ids["world:torture"],
        "provider": ids["provider:torture:pending"],
        "allowances": ids["issuer:allowances"],
        "consumers": consumers,
    }


def torment(server: ThrowAwayServer, clients: Clients, until: float, figures: Figures, rng: random.Random) -> None:
    """Kill the postmaster every few seconds and start it again; now and then a client with it."""
    while True:
        life = rng.uniform(*DATABASE_LIVES_S)
        if time.time() + life > until:
            return
        time.sleep(life)
        server.kill()
        figures.kills += 1
        if rng.random() < CLIENT_DIES:
            clients.kill_one(rng)
            figures.client_kills += 1
        server.start()


def read_histories(folder: Path, figures: Figures) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """Holds and posts that were acknowledged as done; answers that nobody should get are violations."""
    acknowledged: dict[str, set[uuid.UUID]] = {"hold": set(), "post": set()}
    for path in sorted(folder.glob("history-*")):
        for line in path.read_text().splitlines():
            id_, status, verb, verdict = line.split()
            figures.answers[status] = figures.answers.get(status, 0) + 1
            if verdict != "expected":
                figures.violations.append(f"unexpected answer: {line}")
            if status in DONE:
                acknowledged[verb].add(uuid.UUID(id_))
    return acknowledged["hold"], acknowledged["post"]


def judge(admin_url: str, folder: Path, figures: Figures) -> None:
    """Count, look for every acknowledged id, audit, and replay the journal."""
    holds, posts = read_histories(folder, figures)
    with psycopg.connect(admin_url) as admin:
        open_ids = {row[0] for row in admin.execute("SELECT id FROM ledger.hold").fetchall()}
        resolved = dict(admin.execute("SELECT id, hold_digest IS NOT NULL FROM ledger.txn").fetchall())
        figures.entries = admin.execute("SELECT count(*) FROM ledger.entry").fetchone()[0]
        figures.open_holds, figures.transactions = len(open_ids), len(resolved)
        figures.acknowledged = len(holds) + len(posts)
        figures.lost = sum(id_ not in open_ids and not resolved.get(id_) for id_ in holds) + sum(id_ not in resolved for id_ in posts)
        figures.violations += [finding.rule for finding in audit(admin) if not finding.is_held]
        figures.violations += [f"budget {row[0]}: {row[1]} left, {row[2]} of it spent" for row in admin.execute(OVERSPENT).fetchall()]
        figures.budgets_met = admin.execute(MET).fetchone()[0]
    with psycopg.connect(admin_url) as admin:
        figures.violations += differences(admin)


def torture(seconds: float) -> Figures:
    figures, rng = Figures(), random.Random()
    with throw_away_server() as server, tempfile.TemporaryDirectory(prefix="gfe-torture-") as name:
        folder, start = Path(name), time.time()
        (folder / "market").write_text(json.dumps(asyncio.run(open_market(server.pay_url))))
        clients = Clients(folder, start + seconds)
        try:
            torment(server, clients, start + seconds, figures, rng)
            figures.violations += clients.wait()
        finally:
            clients.stop()
        server.kill()  # what was acknowledged last must stand as well
        figures.kills += 1
        server.start()
        figures.seconds = round(time.time() - start, 1)
        judge(server.admin_url, folder, figures)
        figures.deadlocks = server.logged("deadlock detected")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    figures = torture(parser.parse_args().seconds)
    figures.violations = figures.violations[:20]
    sys.stdout.write(json.dumps(asdict(figures)) + "\n")
    return 0 if figures.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
