"""`gfe doctor`: ordered checks of this machine, and with `--server` of its installation; each says what was found, and what mends it."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import typer

from serve_app.checkup.finding import Finding
from serve_app.cli import output

MINIMUM_MEMORY_BYTES = 3 * 1024**3
MINIMUM_DISK_BYTES = 2 * 1024**3
GIB = 1024**3


def python_version() -> Finding:
    """Python 3.11 or newer."""
    return Finding("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer, then set GFE_PYTHON")


def our_packages() -> Finding:
    """Our packages are ours: nobody else's `cluster` stands in their place."""
    from cluster.connect import WrongPackages, check_packages

    try:
        check_packages()
    except WrongPackages as wrong:
        return Finding("packages", False, str(wrong), "pip uninstall the other distribution, then run ./gfe again")
    return Finding("packages", True, "all four are ours")


def bytecode() -> Finding:
    """Ray's bytecode is compiled: without it Ray does not start in time."""
    spec = importlib.util.find_spec("ray")
    origin = Path(spec.origin) if spec and spec.origin else None
    compiled = origin and Path(importlib.util.cache_from_source(str(origin))).exists()
    return Finding("bytecode", bool(compiled), "compiled" if compiled else "Ray's is missing", "remove .venv and run ./gfe again")


def processor() -> Finding:
    """The processor has what the embedded runtime needs."""
    from cluster.runtime.child import missing_cpu_flags

    path = Path("/proc/cpuinfo")
    missing = missing_cpu_flags(path.read_text()) if path.exists() else ()
    found = f"lacks {', '.join(missing)}" if missing else "can run the embedded runtime"
    return Finding("processor", not missing, found, "install Ollama and set GFE_OLLAMA_URL")


def memory() -> Finding:
    """Enough memory is free."""
    from cluster.free_memory import free_bytes

    free = free_bytes() or 0
    return Finding("memory", free >= MINIMUM_MEMORY_BYTES, f"{free / GIB:.1f} GiB free", "free some: 3 GiB are needed")


def disk() -> Finding:
    """Enough disk is free where the home is."""
    from serve_app.local.home import Home

    path = Home.of_environment().root
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    return Finding("disk", free >= MINIMUM_DISK_BYTES, f"{free / GIB:.1f} GiB free at {path}", "free some, or set GFE_HOME to another disk")


def runtime() -> Finding:
    """Which runtime would be used."""
    from cluster.runtime.choose import RuntimeUnusable, choose_for

    try:
        choice = choose_for(os.environ)
    except RuntimeUnusable as refused:
        return Finding("runtime", False, refused.what, refused.hint)
    return Finding("runtime", True, choice.kind if choice.url is None else f"{choice.kind} {choice.version} at {choice.url}")


def gpus() -> Finding:
    """GPUs that the driver shows; the embedded runtime does not use them."""
    from cluster.gpus import gpus_of

    found = gpus_of(os.environ.get("GFE_SIMULATED_GPUS")).read()
    return Finding("gpus", True, ", ".join(f"{gpu.name} {gpu.total_bytes / GIB:.0f} GiB" for gpu in found) or "none (the CPU is used)")


def platform() -> Finding:
    """What runs of this installation."""
    from serve_app.local.client import is_green, state_of
    from serve_app.local.home import Home

    home = Home.of_environment()
    state = state_of(home)
    if state is None:
        return Finding("platform", True, f"not up ({home.root})")
    return Finding(
        "platform", is_green(state), "up" if is_green(state) else "up, but not every part is well", "`gfe status`, then `gfe logs <part>`"
    )


CHECKS: tuple[Callable[[], Finding], ...] = (python_version, our_packages, bytecode, processor, memory, disk, runtime, gpus, platform)


def doctor(
    *,
    server: bool = typer.Option(
        False, "--server", help="Check the running installation instead, as its operator: settings, secrets, database, books, ports."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check this machine, with what mends each finding; exit 1 unless all is well."""
    from serve_app.checkup.server import check_server

    findings = check_server() if server else [check() for check in CHECKS]
    if as_json:
        output.data([asdict(finding) for finding in findings], as_json=True)
    else:
        for finding in findings:
            output.data(f"{'ok ' if finding.is_fine else 'BAD'}  {finding.check:<12} {finding.found}", as_json=False)
            if not finding.is_fine:
                output.note(f"     hint: {finding.remedy}")
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)
