"""What a worker is told, by the head and by its own machine. Without Ray, so that whoever writes it need not load it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

PREFIX = "GFE_NODE_"  # what `gfe join` tells the worker on its own machine, by the environment of `ray start`
YES = frozenset({"1", "true", "True", "yes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told by the head: no secrets. A joined node says for itself what only it can know."""

    runtime_url: str
    public_key: str
    host: str = "127.0.0.1"
    port: int = 0
    slots: int | None = None
    zone: str = ""
    simulated_gpus: str | None = None
    may_pull: bool = False  # fetch models that its operator names
    allows_partial: bool = False  # use models that only partly fit into the GPU's memory
    notes: str | None = (
        None  # folder of what outlives a worker, and in which a joined node and its worker tell each other (see `keep_notes`)
    )


def settings_on(told: WorkerSettings, environment: Mapping[str, str]) -> WorkerSettings:
    """Put what the node says in place of what the head assumed; the head's own machine says nothing."""
    here = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    if "RUNTIME_URL" not in here:
        return told
    return replace(
        told, runtime_url=here["RUNTIME_URL"], host=here["HOST"], port=int(here.get("PORT", "0")), simulated_gpus=here.get("GPUS"),
        slots=int(here["SLOTS"]) if here.get("SLOTS") else None, notes=here.get("NOTES"),
        zone=here.get("ZONE", ""),
        may_pull=here.get("PULL") in YES, allows_partial=here.get("PARTIAL") in YES,
    )  # fmt: skip
