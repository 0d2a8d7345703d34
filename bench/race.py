"""Can a budget be overrun? So many requests at once against a key's budget, through several ledger processes over one PostgreSQL.

    .venv/bin/python -m bench.race [--budget 10.00] [--parallel 1000] [--processes 3] [--json]

Starts a throw-away PostgreSQL (`fsync` on) and the ledger's own processes, makes a key with the budget, places holds for jobs of 1.00 all
at once, captures what stands, and tells how many were served; exit 1 unless exactly as many as the budget pays for, and the books hold.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from typing import Any

import httpx2

from bench.machine import machine
from bench.posting import HTTP_PORT, Ground, ledger_process, ledger_secrets, throw_away_server
from ledger.amounts import micros_of
from ledger.client import Capture, LedgerClient, LedgerError, PlaceHold, new_hold_id
from ledger.money.audit import audit_at

PRICE = 1_000_000


async def make_key(own: str, budget: str) -> str:
    """Make a key with a budget through the public API."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        url, headers = f"http://127.0.0.1:{HTTP_PORT}/api/core/keys/", {"Authorization": f"Bearer {own}"}
        answer = await http.post(url, headers=headers, json={"name": "race", "budget_total": budget})
        return str(answer.raise_for_status().json()["key"])


async def served(client: LedgerClient, key: str) -> str:
    """Place a hold and capture it; answer `served` or the refusal's code."""
    while True:
        asked = PlaceHold(id=new_hold_id(), credential=key, model="m", prompt_tokens=1, max_tokens=1, ttl_s=60)
        try:
            placed = await client.place_hold(asked)
        except LedgerError as refused:
            if refused.code == "ledger_unavailable":
                await asyncio.sleep(0.05)
                continue
            return refused.code
        await client.capture(
            Capture(
                id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_bench", attempt=1
            )
        )
        return "served"


async def race(clients: list[LedgerClient], key: str, parallel: int) -> Counter[str]:
    """All at once, spread over the processes."""
    for client in clients:
        await client.start()
    answers = await asyncio.gather(*(served(clients[n % len(clients)], key) for n in range(parallel)))
    for client in clients:
        await client.aclose()
    return Counter(answers)


def run(ground: Ground, budget: str, parallel: int, processes: int) -> dict[str, Any]:
    """Start the processes, race, audit."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(ledger_secrets(ground))
        clients = [stack.enter_context(ledger_process(folder, number))[0] for number in range(processes)]

        async def go() -> Counter[str]:
            return await race(clients, await make_key((folder / "first_api_key").read_text(), budget), parallel)

        began = time.perf_counter()
        found = asyncio.run(go())
        seconds = time.perf_counter() - began
    broken = [one.rule for one in audit_at(ground.admin_url) if not one.is_held]
    return {"answers": dict(found), "seconds": round(seconds, 2), "expected": micros_of(budget) // PRICE, "violated": broken}


def main() -> None:
    """Race and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="10.00")
    parser.add_argument("--parallel", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with throw_away_server(100) as ground:
        told = run(ground, asked.budget, asked.parallel, asked.processes) | {"machine": machine()}
    is_exact = told["answers"].get("served", 0) == told["expected"] and not told["violated"]
    if asked.json:
        print(json.dumps(told | {"exact": is_exact}))
    else:
        print(f"{asked.parallel} at once through {asked.processes} processes in {told['seconds']} s: {told['answers']}")
        print(f"the budget pays for {told['expected']}; {'exact' if is_exact else 'NOT EXACT'}; books: {told['violated'] or 'held'}")
    sys.exit(not is_exact)


if __name__ == "__main__":
    main()
