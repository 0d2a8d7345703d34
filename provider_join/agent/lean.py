"""How the command line becomes the agent's process: a Python that keeps as little in memory as it can, for as long as the agent runs."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import NoReturn

from provider_join.agent.enroll import agent_version
from provider_join.agent.home import AgentHome
from provider_join.agent.main import START, Start, say

LEAN = ("-OO", "-X", "no_debug_ranges", "-P")  # without docstrings (1.8 MiB) and the columns of tracebacks (0.4 MiB)
IMPORTS = "import provider_join.agent.__main__, cluster.nvml"
COMPILE_LIMIT_S = 120.0


def become(start: Start, home: AgentHome) -> NoReturn:
    """Turn this process into the agent's."""
    with suppress(OSError, subprocess.SubprocessError):  # then it compiles by itself, and keeps 2 to 5 MiB that this took
        _compile(home)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *LEAN, "-m", "provider_join.agent"], _environment(home) | {START: json.dumps(asdict(start))})  # noqa: S606 - it is a program of ours


def _compile(home: AgentHome) -> None:
    """Have all that the agent imports compiled by a process that ends, once for each version of it."""
    done = home.compiled / f"{agent_version()}.done"
    if done.exists():
        return
    if sys.stderr.isatty():
        say("compiling the agent (once) …")
    shutil.rmtree(home.compiled, ignore_errors=True)
    home.make()
    home.compiled.mkdir(mode=0o700)
    subprocess.run([sys.executable, *LEAN, "-c", IMPORTS], env=_environment(home), timeout=COMPILE_LIMIT_S, check=True)
    done.touch()


def _environment(home: AgentHome) -> dict[str, str]:
    """Let Python keep what it compiles below the agent's home: where the agent is installed it often may not write."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(home.compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment
