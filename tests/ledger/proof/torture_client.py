"""One client of the torture: sends through the product's writer, and notes each answer in its own file once it has it.

Started by `torture.py`, killed and started again at any moment.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg

from ledger.db import Database, DatabaseUnavailable
from ledger.ids import new_uuid7
from ledger.money.accounts import AccountIds
from ledger.money.posting import POCKET, Hold, Kind, Operation, Overloaded, Post, Status, Writer
from ledger.money.settling import Settling

CALLERS = 30
SWEEP_EVERY_S = 0.3
RETRY_EVERY_S = 0.05
DONE = {Status.OK, Status.EXISTS}
POOR = DONE | {Status.FUNDS, Status.LIMIT}
OVERTAKEN = DONE | {Status.CONFLICT, Status.NO_HOLD}  # a sweeper was faster


class History:
    """What was acknowledged; a line is written whole, so that no kill can split it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, operation: Operation, status: Status, expected: set[Status]) -> None:
        verb = "hold" if isinstance(operation, Hold) else "post"
        os.write(self._file, f"{operation.id} {status} {verb} {'expected' if status in expected else 'VIOLATION'}\n".encode())


class Client:
    """Callers that live on few accounts, so that they meet."""

    def __init__(self, market: dict[str, Any], history: History, until: float, rng: random.Random) -> None:
        self._market = market
        self._history = history
        self._until = until
        self._rng = rng
        self._writer = Writer(market["url"], name="torture")

    async def run(self) -> None:
        self._writer.start()
        await asyncio.gather(self._sweep(), *(self._call() for _ in range(CALLERS)))
        await self._writer.aclose()

    async def _call(self) -> None:
        while time.time() < self._until:
            await self._rng.choice([self._deposit, self._job, self._job, self._job, self._transfer])()

    async def _send(self, operation: Operation, expected: set[Status]) -> Status | None:
        """Send until the answer is known; now and then once more, which must change nothing."""
        status = await self._answer(operation)
        if status is None:
            return None
        self._history.note(operation, status, expected)
        if status in DONE and self._rng.random() < 0.1 and (again := await self._answer(operation)) is not None:
            self._history.note(operation, again, {Status.EXISTS})
        return status

    async def _answer(self, operation: Operation) -> Status | None:
        while time.time() < self._until:
            try:
                return await self._writer.submit(operation)
            except (DatabaseUnavailable, Overloaded, psycopg.OperationalError):
                await asyncio.sleep(RETRY_EVERY_S)
        return None

    async def _deposit(self) -> None:
        consumer, amount = self._rng.choice(self._market["consumers"]), self._rng.randint(1, 2000)
        legs = ((self._market["world"], -amount), (consumer[self._rng.choice(["promo", "paid"])], amount))
        await self._send(Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=legs), DONE)

    async def _transfer(self) -> None:
        one, other = self._rng.sample(self._market["consumers"], 2)
        amount = self._rng.randint(1, 500)
        await self._send(Post(id=new_uuid7(), kind=Kind.TRANSFER, legs=((one["paid"], -amount), (other["paid"], amount))), POOR)

    async def _job(self) -> None:
        """A hold; then a capture, a release, or nothing, which is left to the sweepers."""
        consumer, amount = self._rng.choice(self._market["consumers"]), self._rng.randint(1, 1000)
        hold = Hold(
            id=new_uuid7(), amount=amount, ttl_s=self._rng.choice([1, 2, 600]), meta={"price": [1, 0, 0, 0], "user": "u", "model": "m"},
            lines=((consumer["promo"], POCKET), (consumer["paid"], POCKET), (consumer["day"], amount), (consumer["total"], amount), (consumer["slots"], 1)),
        )  # fmt: skip
        if await self._send(hold, POOR) not in DONE:
            return
        after = self._rng.random()
        if after < 0.1 and hold.ttl_s < 600:
            return
        post = Post(id=hold.id, kind=Kind.VOID, resolves_hold=True, meta={"held": amount})
        if after < 0.8:
            legs = await self._charge(consumer, hold.id, self._rng.choice([1, 50, 99, 100]))
            post = Post(id=hold.id, kind=Kind.CAPTURE, legs=legs, resolves_hold=True, meta={"held": amount})
        await self._send(post, OVERTAKEN if hold.ttl_s < 600 else DONE)

    async def _charge(self, consumer: dict[str, int], id: uuid.UUID, percent: int) -> tuple[tuple[int, int], ...]:
        """Legs that take a share of what the hold took from each pocket, and as much of the key's budgets."""
        while time.time() < self._until:
            try:
                rows = await self._market["database"].run(_lines_of(id))
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_EVERY_S)
                continue
            parts = [(account, amount * percent // 100) for account, amount in rows[:2]]
            legs = [(account, -part) for account, part in parts if part]
            total = sum(part for _, part in parts)
            if not total:
                return ()
            budgets = ((consumer["day"], -total), (consumer["total"], -total), (self._market["allowances"], 2 * total))
            return (*legs, (self._market["provider"], total), *budgets)
        return ()

    async def _sweep(self) -> None:
        """Expire holds as the product does."""

        async def nobody(node: str, consumer: uuid.UUID) -> uuid.UUID:
            raise AssertionError(node)

        async def no_key(node: str) -> str | None:
            raise AssertionError(node)

        database = self._market["database"]
        settling = Settling(database, self._writer, AccountIds(database), nobody, no_key, fee_percent=0)
        while time.time() < self._until:
            with contextlib.suppress(DatabaseUnavailable):
                await settling.expire()
            await asyncio.sleep(SWEEP_EVERY_S)


def _lines_of(id: uuid.UUID):
    async def query(connection):
        cursor = await connection.execute("SELECT accounts, amounts FROM ledger.hold WHERE id = %s", [id])
        row = await cursor.fetchone()
        return list(zip(*row, strict=True)) if row else []

    return query


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--market", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True)
    chosen = parser.parse_args()
    market = json.loads(chosen.market.read_text())
    market["database"] = Database(market["url"], name="torture_reads")
    await Client(market, History(chosen.history), chosen.until, random.Random()).run()
    await market["database"].close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
