"""LiteLLM's proxy in front of the same runtime, beside our gateway: one worker, no database, a master key, everything on loopback.

It runs in the environment of requirements/clients.txt (`tests/clients/apart.py` makes it) and asks the runtime as a client of Ollama's chat.
The model has a price, as it has with us; without one LiteLLM looks for it in vain in each request, and needs nearly twice the time.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.installation import MODEL, OURS, Bench, Target, shape_name
from tests.clients.apart import pinned_apart, python

KEY = "sk-bench"
ROLES = ("litellm", "stub")
START_LIMIT_S = 90.0
PRICE = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
QUIET = {  # it reports to nobody and fetches nothing
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY_DISABLED": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "NO_PROXY": "127.0.0.1",
}


def program() -> Path:
    """Tell where the proxy's program is, made when it is not there.

    Raises:
        NotToBeHad: It cannot be made here.
    """
    return python().with_name("litellm")


@contextlib.contextmanager
def running(folder: Path, stub_url: str) -> Iterator[tuple[Target, int]]:
    """Run the proxy; tell what is loaded, and its process id."""
    config, log = folder / "litellm.yaml", folder / "litellm.log"
    model = {"model_name": MODEL, "litellm_params": {"model": f"ollama_chat/{MODEL}", "api_base": stub_url}, "model_info": PRICE}
    config.write_text(json.dumps({"model_list": [model], "general_settings": {"master_key": KEY}}))
    port = _free_port()
    served = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV"}}
    with log.open("w") as said:
        proxy = subprocess.Popen([str(program()), *served], env=environment | QUIET, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(proxy, url, log)
        yield Target(f"{url}/v1/chat/completions", ROLES, KEY), proxy.pid
    finally:
        proxy.terminate()
        proxy.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _await_ready(proxy: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while proxy.poll() is None and time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), direct.open(f"{url}/health/liveliness", timeout=5):
            return
        time.sleep(0.2)
    raise SystemExit(f"LiteLLM's proxy did not start:\n{log.read_text()[-2000:]}")


async def compare(bench: Bench, proxy: Target, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure our gateway and the proxy in each shape, alternating."""
    rows = []
    for stream in (False, True):
        for in_flight in (1, 16):
            pair = await bench.alternate(bench.ours, proxy, stream=stream, in_flight=in_flight, seconds=seconds, rounds=rounds)
            ours, theirs = pair.one.per_request(OURS), pair.other.per_request(ROLES)
            rows.append({
                "litellm": pinned_apart("litellm"), "shape": shape_name(stream=stream), "in_flight": in_flight,
                "ours_cpu_ms": round(ours, 2), "litellm_cpu_ms": round(theirs, 2), "ratio": round(ours / theirs, 3),
                "median_ratio": round(statistics.median(pair.ratios), 3), "ratios": sorted(pair.ratios),
                "ours_per_s": pair.one.per_s(), "litellm_per_s": pair.other.per_s(),
                "first_ms_p50": [pair.one.first_p50(), pair.other.first_p50()],
                "split": pair.one.split(OURS), "litellm_split": pair.other.split(ROLES),
            })  # fmt: skip
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def said(row: dict[str, Any]) -> str:
    """Write a row as text."""
    return (
        f"{row['shape']:>20}, {row['in_flight']:>2} in flight: {row['ours_cpu_ms']:.2f} CPU-ms, LiteLLM {row['litellm']} {row['litellm_cpu_ms']:.2f}, "
        f"ratio {row['ratio']}, median of rounds {row['median_ratio']} {row['ratios']}; {row['ours_per_s']}/s against {row['litellm_per_s']}/s; "
        f"first byte p50 {row['first_ms_p50']} ms\n{'':>22}{row['split']}\n{'':>22}LiteLLM: {row['litellm_split']}"
    )
