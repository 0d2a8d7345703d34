"""What an idle agent takes, and how long it is from a wheel to a node that is online: `python -m bench.agent [--minutes 1] [--install]`.

The agent is the real program in a process of its own, connected to a scripted platform and a scripted runtime on loopback. `--install` makes
a new environment from the wheel of this checkout first, with whatever caches pip has, and measures its time and size.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import cpu_ms, machine
from ledger.own_wheel import own_wheel
from tests.provider_join.scripted_platform import scripted_platform
from tests.scripted_runtime import Script, serve

ONLINE_LIMIT_S = 120.0
SETTLE_S = 10.0
MIB = 1024


def memory_mib(pid: int) -> dict[str, float]:
    """Tell a process's resident memory, and how much of it is its own, in MiB."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: round(int(said[field].split()[0]) / MIB, 1) for name, field in (("rss", "VmRSS"), ("own", "RssAnon"))}


def installed(folder: Path) -> tuple[Path, dict[str, float]]:
    """Install the wheel into a new environment; tell its Python, the seconds and the size in MiB."""
    wheel = own_wheel()
    path = folder / wheel.name
    path.write_bytes(wheel.content)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    made = time.monotonic()
    python = folder / "venv/bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(path)], check=True)
    size = sum(one.stat().st_size for one in (folder / "venv").rglob("*") if one.is_file() and not one.is_symlink())
    figures = {
        "venv_s": made - began,
        "install_s": time.monotonic() - made,
        "wheel_mib": len(wheel.content) / MIB**2,
        "size_mib": size / MIB**2,
    }
    return python, {name: round(value, 1) for name, value in figures.items()}


async def measure(python: Path, minutes: float) -> dict[str, object]:
    """Start an agent, wait until it is online, let it be idle, run a job."""
    async with scripted_platform() as platform:
        runner, runtime_url = await serve(Script())
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "GFE_AGENT_HOME": home, "OLLAMA_HOST": runtime_url.removeprefix("http://")}
            if python == Path(sys.executable):
                environment["PYTHONPATH"] = str(Path(__file__).parents[1])
            code = "gfe_enroll_" + "a" * 43
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                str(python), "-P", "-m", "serve_app.cli", "agent", "--url", platform.url, "--code", code, env=environment, cwd=home,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(ONLINE_LIMIT_S):
                    while not (platform.inventories and platform.inventories[-1].models):
                        await asyncio.sleep(0.02)
                online_s = time.monotonic() - began
                await asyncio.sleep(SETTLE_S)
                before, at = cpu_ms(process.pid), time.monotonic()
                await asyncio.sleep(60 * minutes)
                idle_ms = (cpu_ms(process.pid) - before) / ((time.monotonic() - at) / 60)
                idle = memory_mib(process.pid)
                for _ in range(20):
                    _, taken = await platform.offer("fake:words=200", "measure")
                    await asyncio.wait_for(taken.ended.wait(), 60)
                return {
                    "online_s": round(online_s, 2), "idle_cpu_ms_per_minute": round(idle_ms), "idle_mib": idle,
                    "after_20_jobs_mib": memory_mib(process.pid),
                }  # fmt: skip
            finally:
                process.terminate()
                await process.wait()
                await runner.cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long it is idle")
    parser.add_argument("--install", action="store_true", help="install the wheel into a new environment first, and measure that one")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        python = Path(sys.executable)
        if arguments.install:
            python, figures["install"] = installed(Path(folder))
        figures["agent"] = asyncio.run(measure(python, arguments.minutes))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
