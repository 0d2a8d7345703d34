"""One child process per loaded model: llama.cpp's own HTTP server inside `xllamacpp`, on a loopback port, behind a random key.

A native crash takes the child only; unloading is ending it, which gives all memory back. The child dies with its parent.
"""

import asyncio
import ctypes
import json
import os
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

LOAD_LIMIT_S = 120.0
SETTLE_LIMIT_S = 1.0
BATCH_TOKENS = 512
NEEDED_CPU_FLAGS = ("avx2", "fma", "f16c", "bmi2")
PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """The child did not start or has died; says why."""


def missing_cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """Tell which instructions of the Linux x86-64 build this processor lacks, from the text of /proc/cpuinfo."""
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    if flags is None:  # not x86: the builds for other processors need nothing special
        return ()
    return tuple(flag for flag in NEEDED_CPU_FLAGS if flag not in flags)


@dataclass(slots=True)
class Child:
    """A running child: where it listens, its key, its process."""

    process: asyncio.subprocess.Process
    url: str
    key: str
    context_tokens: int

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None

    async def settle(self) -> None:
        """Wait a moment for the end of a process whose connections have told of it already."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), SETTLE_LIMIT_S)

    async def stop(self) -> None:
        """End the process."""
        if self.is_alive:
            _kill(self.process)
        await self.process.wait()


async def start_child(path: Path, *, context_tokens: int, slots: int, threads: int, session: aiohttp.ClientSession) -> Child:
    """Start a child and wait until its model is loaded.

    Raises:
        ChildFailed: It died or took too long.
    """
    key = secrets.token_hex(16)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GFE_")}
    # Passive waiting: with the default spinning, two threads on busy cores gave a tenth of the speed.
    environment |= {"OMP_WAIT_POLICY": "passive"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cluster.runtime.child",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    told = {"path": str(path), "context_tokens": context_tokens, "slots": slots, "threads": threads, "key": key, "parent": os.getpid()}
    process.stdin.write(json.dumps(told).encode() + b"\n")
    try:
        async with asyncio.timeout(LOAD_LIMIT_S):
            child = Child(process, await _address_told_by(process, process.stdout), key, context_tokens)
            await _wait_until_loaded(child, session)
            return child
    except TimeoutError:
        _kill(process)
        raise ChildFailed(f"the model did not load within {LOAD_LIMIT_S:g} s") from None
    except BaseException:  # also when whoever asked for it has left meanwhile
        _kill(process)
        raise


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def _address_told_by(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> str:
    while line := await output.readline():
        if line.startswith(b'{"address"'):
            return str(json.loads(line)["address"])
    await process.wait()
    raise ChildFailed(f"the model's process ended with {process.returncode} while loading")


async def _wait_until_loaded(child: Child, session: aiohttp.ClientSession) -> None:
    while True:
        if not child.is_alive:
            raise ChildFailed(f"the model's process ended with {child.process.returncode} while loading")
        with suppress(aiohttp.ClientError):
            async with session.get(child.url + "/health") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.05)


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies; then look whether it died meanwhile (Linux, prctl(2))."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Run in the child: read what to serve from standard input, serve it for ever."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    _die_with(told["parent"])
    import xllamacpp  # noqa: PLC0415 - native: only ever loaded here

    params = xllamacpp.CommonParams()
    params.model.path = told["path"]
    params.model_alias = {"model"}
    params.n_ctx = told["context_tokens"] * told["slots"]
    params.n_parallel = told["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = told["threads"]
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [told["key"]]
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.ui = False
    params.offline = True
    params.use_jinja = True
    params.fit_params = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
