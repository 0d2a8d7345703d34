"""What reading costs: a wallet page of an account with a long history beside one with a short one, in one run; and a sign-in.

    .venv/bin/python -m bench.reads [--entries 250000] [--rounds 200] [--json]

Starts a throw-away PostgreSQL and the ledger's own process; alternates the two accounts. CPU-ms are of the ledger and PostgreSQL together.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from bench.machine import cpu_ms, machine
from bench.posting import HTTP_PORT, Ground, ledger_process, ledger_secrets, throw_away_server
from ledger.db import connect
from ledger.ids import new_uuid7, uuid_of
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

URL = f"http://127.0.0.1:{HTTP_PORT}"
PASSWORD = "correct horse battery 7 staple"
BATCH = 250


async def account(http: httpx2.AsyncClient, name: str) -> tuple[str, dict[str, str]]:
    """Register and sign in; answer the user's id and its header."""
    made = (await http.post(f"{URL}/api/core/register/", json={"username": name, "password": PASSWORD})).raise_for_status().json()
    tokens = (await http.post(f"{URL}/api/core/token/", json={"username": name, "password": PASSWORD})).raise_for_status().json()
    return str(made["id"]), {"Authorization": f"Bearer {tokens['access']}"}


async def fill(ground: Ground, user: str, entries: int) -> None:
    """Post so many deposits to an account."""
    connection = await connect(ground.pay_url, name="bench")
    address = accounts.paid(uuid_of("user", user))
    ids = await accounts.open_accounts(connection, ["world:bench", address])
    legs = ((ids["world:bench"], -1_000_000), (ids[address], 1_000_000))
    for start in range(0, entries, BATCH):
        posts = [Post(id=new_uuid7(), kind=Kind.DEPOSIT, legs=legs, meta={"gateway": "bench"}) for _ in range(min(BATCH, entries - start))]
        assert set(await apply(connection, posts)) == {Status.OK}
    await connection.close()


async def cost(used: Callable[[], float], call: Callable[[], Awaitable[Any]], rounds: int) -> tuple[float, float]:
    """Answer CPU-ms and ms per call."""
    before, began = used(), time.perf_counter()
    for _ in range(rounds):
        (await call()).raise_for_status()
    return (used() - before) / rounds, (time.perf_counter() - began) * 1000 / rounds


async def measure(ground: Ground, pid: int, entries: int, rounds: int) -> dict[str, Any]:
    """Alternate the two accounts; then sign in."""

    def used() -> float:
        return cpu_ms(pid) + ground.server_cpu_ms()

    async with httpx2.AsyncClient(trust_env=False) as http:
        short, long_ = await account(http, "short"), await account(http, "long")
        await fill(ground, short[0], 10)
        await fill(ground, long_[0], entries)
        sums = {"short": [0.0, 0.0], "long": [0.0, 0.0]}
        for _ in range(4):
            for name, (_, headers) in (("short", short), ("long", long_)):
                found = await cost(used, lambda headers=headers: http.get(f"{URL}/api/payments/wallet/", headers=headers), rounds // 4)  # type: ignore[misc]
                sums[name] = [one + more / 4 for one, more in zip(sums[name], found, strict=True)]
        body = {"username": "short", "password": PASSWORD}
        sign_in = await cost(used, lambda: http.post(f"{URL}/api/core/token/", json=body), 20)
    return {
        "entries": entries, "short_cpu_ms": sums["short"][0], "long_cpu_ms": sums["long"][0], "short_ms": sums["short"][1],
        "long_ms": sums["long"][1], "ratio": sums["long"][0] / sums["short"][0], "sign_in_cpu_ms": sign_in[0], "sign_in_ms": sign_in[1],
    }  # fmt: skip


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with throw_away_server(50) as ground, ledger_secrets(ground) as folder, ledger_process(folder) as (_, process):
        told = asyncio.run(measure(ground, process.pid, asked.entries, asked.rounds))
    if asked.json:
        print(json.dumps(told | {"machine": machine()}))
        return
    print(machine())
    print(f"wallet page: {told['short_cpu_ms']:.2f} CPU-ms ({told['short_ms']:.2f} ms) with 10 entries,", end=" ")
    print(f"{told['long_cpu_ms']:.2f} ({told['long_ms']:.2f} ms) with {told['entries']}: {told['ratio']:.2f} x")
    print(f"sign-in: {told['sign_in_cpu_ms']:.1f} CPU-ms, {told['sign_in_ms']:.1f} ms")


if __name__ == "__main__":
    main()
