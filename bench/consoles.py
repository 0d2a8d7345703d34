"""What open consoles cost: 100 jobs with 30 real ones open in a browser and with none, alternating in one run; and how fast the landing page is.

Starts a whole installation in a throw-away home with a scripted runtime as the model, and the distribution's Chromium. All consoles are signed in
as the account whose jobs run, which is the worst case: each is told of every job and asks again for what changed.

    .venv/bin/python -m bench.consoles [--json] [--jobs 100] [--rounds 4] [--consoles 30] [--in-flight 8]

Figures: CPU-ms per job (all our processes, PostgreSQL included; not the browser), requests of a console per job; of the landing page, in a
browser that has nothing of it: the time until its figures are there and until its script has run, and by how much things moved meanwhile
(cumulative layout shift, https://web.dev/articles/cls).
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import Any

import aiohttp
from playwright.async_api import Browser, Page, async_playwright

from bench.chromium import HINT, chromium
from bench.dashboard import DashboardBench
from bench.installation import running_installation
from bench.machine import machine

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
PASSWORD = "seven quiet lamps by the river 4"
LIMIT_MS = 120_000  # thirty pages load at once on few cores
SHIFT = """() => {
    window.shift = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
}"""


class Account:
    """Somebody with a password, for the consoles, and a key, for the jobs."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.name = "watcher"

    async def _post(self, path: str, body: dict[str, str], token: str | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._session.post(self._url + path, json=body, headers=headers) as answer:
            answer.raise_for_status()
            made: dict[str, Any] = await answer.json()
            return made

    async def register(self) -> str:
        """Make the account; answer a key of it."""
        await self._post("/api/core/register/", {"username": self.name, "password": PASSWORD})
        token = (await self._post("/api/core/token/", {"username": self.name, "password": PASSWORD}))["access"]
        key: str = (await self._post("/api/core/keys/", {"name": "bench"}, token))["key"]
        return key


async def open_console(browser: Browser, url: str, account: Account, requests: list[str]) -> Page:
    """Sign in with a browser of its own and wait until the overview is there and live."""
    context = await browser.new_context(base_url=url)
    context.set_default_timeout(LIMIT_MS)
    body = {"username": account.name, "password": PASSWORD, "deliver": "cookie"}
    answer = await context.request.post("/api/core/token/", data=body, headers={"X-GFE-CSRF": "1", "Origin": url})
    if answer.status != 200:
        raise RuntimeError(f"signing in was answered {answer.status}: {await answer.text()}")
    page = await context.new_page()
    await page.goto("/dashboard")
    await page.get_by_text("Live", exact=True).first.wait_for(state="attached")
    page.on("request", lambda request: requests.append(request.url))
    return page


async def landing(browser: Browser, url: str) -> dict[str, float]:
    """Load the landing page with nothing kept; tell what a visitor waits for, in ms."""
    context = await browser.new_context(base_url=url)
    page = await context.new_page()
    await page.add_init_script(f"({SHIFT})()")
    started = time.perf_counter()
    await page.goto("/", wait_until="commit")
    await page.get_by_role("region", name="The market now").get_by_text("1.00").first.wait_for()
    figures_ms = (time.perf_counter() - started) * 1000
    await page.wait_for_load_state("networkidle")
    timing = await page.evaluate("() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    paint = await page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    shift = await page.evaluate("() => window.shift")
    await context.close()
    return {"paint_ms": round(paint), "script_ms": round(timing), "figures_ms": round(figures_ms), "shift": round(shift, 4)}


async def stretch(bench: DashboardBench, jobs: int, in_flight: int) -> float:
    """Run so many jobs; tell the CPU-ms of each."""
    waiting = iter(range(jobs))

    async def client() -> None:
        for _ in waiting:
            await bench.one_job()

    before = bench.cpu_ms()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    await asyncio.sleep(1)  # until the consoles have asked for what changed
    return (bench.cpu_ms() - before) / jobs


async def compare(bench: DashboardBench, url: str, chromium_path: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Alternate none and many."""
    requests: list[str] = []
    costs: dict[bool, list[float]] = {False: [], True: []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as bench.session, async_playwright() as playwright:
        account = Account(bench.session, url)
        bench.key = await account.register()
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=list(ARGUMENTS))
        await landing(browser, url)
        first = [await landing(browser, url) for _ in range(5)]
        await stretch(bench, asked.jobs, asked.in_flight)
        for number in range(asked.rounds):
            for has_many in (number % 2 == 0, number % 2 == 1):
                pages = [await open_console(browser, url, account, requests) for _ in range(asked.consoles if has_many else 0)]
                await asyncio.sleep(3 if pages else 0)
                costs[has_many].append(await stretch(bench, asked.jobs, asked.in_flight))
                await asyncio.gather(*(page.context.close() for page in pages))
            print(json.dumps({"round": number, "none": round(costs[False][-1], 2), "many": round(costs[True][-1], 2)}), file=sys.stderr)
        await browser.close()
    ratios = sorted(round(many / none, 3) for none, many in zip(costs[False], costs[True], strict=True))
    return {
        "consoles": asked.consoles, "jobs": asked.jobs, "in_flight": asked.in_flight,
        "none_cpu_ms": round(statistics.mean(costs[False]), 2), "many_cpu_ms": round(statistics.mean(costs[True]), 2),
        "ratio": round(sum(costs[True]) / sum(costs[False]), 3), "ratios": ratios,
        "requests_per_console_and_job": round(len(requests) / (asked.rounds * asked.jobs * asked.consoles), 4),
        "landing": {name: statistics.median(one[name] for one in first) for name in first[0]},
    }  # fmt: skip


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Start an installation, measure, end it."""
    path = chromium()
    if path is None:
        raise SystemExit(f"error: there is no Chromium\n\nhint: {HINT}")
    with running_installation(asked.port_base) as (status, roots):
        return asyncio.run(compare(DashboardBench(status, roots), status["console_url"], path, asked))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--consoles", type=int, default=30)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--port-base", type=int, default=24000)
    asked = parser.parse_args()
    row = measured(asked)
    if asked.json:
        print(json.dumps({"machine": machine(), "row": row}))
        return
    print(machine())
    print(
        f"{row['jobs']} jobs, {row['in_flight']} in flight: {row['none_cpu_ms']:.2f} CPU-ms per job, {row['many_cpu_ms']:.2f} with {row['consoles']} consoles "
        f"open: ratio {row['ratio']} {row['ratios']}; {row['requests_per_console_and_job']} requests of a console per job"
    )
    print(f"landing page: {row['landing']}")


if __name__ == "__main__":
    main()
