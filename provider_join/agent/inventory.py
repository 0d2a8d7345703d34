"""What the machine offers, as the platform reads it: the worker's node in the words of `gfe.agent.v1`. Pure."""

import os
from contextlib import suppress

from cluster.edge import protocol as wire
from cluster.nodes import Gpu, Node, OfferedModel
from provider_join.agent.session import Facts

NAME_LIMIT, WORDS_LIMIT = 200, 500


def facts_of(node: Node, paused: str, *, ram_bytes: int = 0) -> Facts:
    """Describe a node; `paused` says in words why it takes no jobs now."""
    runtime, _, version = node.runtime.partition(" ")
    reason = paused or ("" if node.is_healthy else node.reason)
    gpus = node.gpus[: wire.MAX_GPUS]
    inventory = _in_a_frame(wire.Inventory(
        gpus=[_gpu(gpu) for gpu in gpus], vram=sum(gpu.total_bytes for gpu in gpus if gpu.part_of is None), ram_bytes=ram_bytes,
        runtime=runtime[:50] or "none", ollama_version=version[:50], models=[_model(model) for model in node.models if model.fits][: wire.MAX_MODELS],
        slots=node.slots, paused=reason[:WORDS_LIMIT],
    ))  # fmt: skip
    loads = tuple(
        wire.AgentGpuLoad(uuid=_clean(gpu.uuid), temp_c=gpu.temperature_c, util_percent=gpu.utilization_percent)
        for gpu in gpus if gpu.temperature_c is not None or gpu.utilization_percent is not None
    )  # fmt: skip
    return Facts(inventory=inventory, slots_free=0 if reason or node.is_draining else node.free, loads=loads)


def _in_a_frame(inventory: wire.Inventory) -> wire.Inventory:
    """Leave models out, the last ones first, until it fits into a frame."""
    while len(inventory.text().encode()) > wire.MAX_FRAME_BYTES:
        inventory = inventory.model_copy(update={"models": inventory.models[: len(inventory.models) * 3 // 4]})
    return inventory


def _gpu(gpu: Gpu) -> wire.AgentGpu:
    return wire.AgentGpu(
        uuid=_clean(gpu.uuid), name=_clean(gpu.name), vram_bytes=gpu.total_bytes, free_bytes=gpu.free_bytes if gpu.is_measured else None,
        driver=gpu.driver and _clean(gpu.driver)[:100],
    )  # fmt: skip


def _model(model: OfferedModel) -> wire.AgentModel:
    return wire.AgentModel(
        name=_clean(model.name), digest=model.manifest or model.digest, weights_sha256=model.digest, ctx=model.context_tokens,
        size_bytes=model.size_bytes, capabilities=[_clean(one) for one in model.capabilities[:16]], is_loaded=model.is_loaded,
        tokens_per_s=model.tokens_per_s, first_token_s=model.first_token_s, job_s=model.job_s,
    )  # fmt: skip


def _clean(text: str) -> str:
    """A name that every JSON reader takes."""
    return text.encode(errors="replace").decode()[:NAME_LIMIT] or "unknown"


def machine_memory() -> int:
    """Tell how much memory this machine has, in bytes; 0 where nobody says."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0
