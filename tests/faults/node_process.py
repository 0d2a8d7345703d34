"""One node as a process of its own, so that it can be killed and frozen: a real worker that serves the node protocol over a given runtime.

Run as `python -m tests.faults.node_process --node node_1 --runtime URL --key FILE`; prints its pid and port, ends when its standard input does.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cluster import processes
from cluster.gpus import NoGpus
from cluster.node_api import serve_node
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import TokenVerifier
from cluster.worker import Worker

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 30
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A Python module in a process that tells its pid and port, and can be killed, frozen and thawed."""

    def __init__(self, *words):
        self._words = [sys.executable, "-m", *map(str, words)]
        self._process = None
        self.is_frozen = False

    async def start(self):
        self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        async with asyncio.timeout(START_LIMIT_S):
            self.port = (await self.heard(lambda said: "port" in said))["port"]
        self._all = processes.process_of(self._process.pid)
        return self

    async def heard(self, is_it):
        """Read what it tells, line by line, until it tells this."""
        while said := await asyncio.to_thread(self._process.stdout.readline):
            if is_it(found := json.loads(said)):
                return found
        raise AssertionError(f"{self._words} ended with {self._process.wait()}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_alive(self):
        return self._process is not None and self._process.poll() is None

    @property
    def rss_bytes(self):
        """Memory that it has now."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def freeze(self):
        processes.send(self._all, signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self):
        processes.send(self._all, signal.SIGCONT)
        self.is_frozen = False

    def kill(self):
        """End it without a word."""
        self._process.kill()
        self._process.wait(60)

    def stop(self):
        if self._process is None:
            return
        if self.is_alive:
            self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def ends_with_its_input(stop):
    """End when whoever started us is gone."""
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)


def tell(port):
    sys.stdout.write(json.dumps({"pid": os.getpid(), "port": port}) + "\n")
    sys.stdout.flush()


async def main(asked):
    stop = asyncio.Event()
    ends_with_its_input(stop)
    worker = Worker(asked.node, asked.node, OllamaRuntime(asked.runtime), NoGpus(), slots=asked.slots)
    await worker.start()
    runner, url = await serve_node(worker, TokenVerifier(asked.key.read_bytes(), "node"), "127.0.0.1", 0)
    tell(int(url.rpartition(":")[2]))
    await stop.wait()
    await runner.cleanup()
    await worker.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=2)
    asyncio.run(main(parser.parse_args()))
