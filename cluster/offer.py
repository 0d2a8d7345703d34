"""What a node says of its models beside their names: memory needed and taken, whether they fit, what is wrong. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.fit import USABLE_SHARE, fits
from cluster.nodes import Gpu, OfferedModel

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory that models can have. `free_bytes` is what nobody uses, `held_bytes` what loaded models have now; None: nobody can say."""

    free_bytes: int | None
    held_bytes: int = 0
    on_gpu: bool = False

    def is_enough(self, needed_bytes: int | None, *, evicting: bool) -> bool:
        """Tell whether a model fits, beside the loaded ones or in place of them; where nobody can say it does."""
        if needed_bytes is None or self.free_bytes is None:
            return True
        return fits(needed_bytes, self.free_bytes + (self.held_bytes if evicting else 0))

    def refusal(self, model: str, needed_bytes: int) -> str:
        """Say why a model does not fit, with both figures."""
        whose = "the GPU's memory" if self.on_gpu else "this machine's memory"
        usable = USABLE_SHARE * (self.free_bytes or 0)
        return f"{model} needs {gib(needed_bytes)} and {gib(usable)} of {whose} can be used ({gib(self.free_bytes or 0)} are free)"


def gib(count: float) -> str:
    """Write bytes for people."""
    return f"{count / GIB:.2f} GiB"


def with_told(gpus: Sequence[Gpu], models: Sequence[OfferedModel]) -> tuple[Gpu, ...]:
    """Add the GPU that no driver shows us but the runtime uses (Apple, AMD without its files), as far as its report goes."""
    used = sum(model.gpu_bytes or 0 for model in models)
    if gpus or not used:
        return tuple(gpus)
    return (
        Gpu(
            uuid="GPU-of-the-runtime",
            name="GPU that the runtime tells of",
            total_bytes=used,
            free_bytes=0,
            driver="runtime",
            is_measured=False,
        ),
    )


def room_of(gpus: Sequence[Gpu], models: Sequence[OfferedModel], machine_free_bytes: int | None) -> Room:
    """Tell what models can have: the GPUs' memory where there are GPUs that the runtime uses, otherwise the machine's."""
    computing = [gpu for gpu in gpus if not gpu.mig or gpu.part_of]  # a card in MIG mode computes through its parts alone
    on_cpu = any(model.took_bytes and model.gpu_bytes == 0 for model in models)
    if computing and not on_cpu:
        held = sum(model.gpu_bytes or 0 for model in models)
        free = sum(gpu.free_bytes for gpu in computing) if all(gpu.is_measured for gpu in computing) else None
        return Room(free_bytes=free, held_bytes=held, on_gpu=True)
    return Room(free_bytes=machine_free_bytes, held_bytes=sum(model.took_bytes or 0 for model in models))


def judged(model: OfferedModel, *, needed_bytes: int | None, room: Room, has_gpu: bool, allows_partial: bool) -> OfferedModel:
    """Say of a model what it needs, whether it fits and what is wrong.

    `allows_partial`: the operator wants models used that only partly fit into the GPU's memory.
    """
    partly = _is_partly_on_gpu(model)
    does_fit = not partly if model.is_loaded else room.is_enough(needed_bytes, evicting=True)
    troubles = [model.trouble] if model.trouble else []
    if partly:
        troubles.append(f"only {gib(model.gpu_bytes or 0)} of its {gib(model.took_bytes or 0)} are in the GPU's memory: it is slow")
    elif has_gpu and model.took_bytes and model.gpu_bytes == 0:
        troubles.append("it runs on the processor although there is a GPU")
    elif not does_fit and needed_bytes is not None:
        troubles.append(room.refusal(model.name, needed_bytes))
    return replace(model, needed_bytes=needed_bytes, fits=does_fit or allows_partial, trouble="; ".join(troubles))


def _is_partly_on_gpu(model: OfferedModel) -> bool:
    return bool(model.took_bytes and model.gpu_bytes and model.gpu_bytes < model.took_bytes)
