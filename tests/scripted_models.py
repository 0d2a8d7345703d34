"""What the scripted runtime says and has: words that follow from the prompt, models with a shape, sizes and a loaded state. No HTTP."""

import hashlib
import json
import time
from dataclasses import dataclass, field

CONTEXT = 8192
HIDDEN = 576
TURN = "<|im_start|>{role}\n{content}<|im_end|>\n"
ANSWER = "<|im_start|>assistant\n"
FORMAT_PIECE = 7  # characters


def words_of(prompt: str, count: int) -> list[str]:
    """The words that any prompt is answered with."""
    seed = hashlib.sha256(prompt.encode()).hexdigest()
    return [f"{seed[n % 60 : n % 60 + 4]} " for n in range(count)]


def rendered(messages: list[dict]) -> str:
    """The prompt of a chat as the model reads it: ChatML, open for the answer."""
    return "".join(TURN.format(role=one["role"], content=one.get("content") or "") for one in messages) + ANSWER


def said_before(prompt: str) -> tuple[str, str]:
    """Take a raw prompt apart: what the answer follows from, and how much of the answer is there already."""
    before, found, partial = prompt.rpartition(ANSWER)
    if not found or "<|im_end|>" in partial:
        return prompt, ""
    return before.rpartition("<|im_start|>user\n")[2].removesuffix("\n").removesuffix("<|im_end|>"), partial


def pieces_after(words: list[str], partial: str) -> list[str]:
    """The rest of an answer, word by word, when its beginning was said already; all of it when that was something else."""
    whole = "".join(words)
    if not whole.startswith(partial):
        return words
    rest, place = [], 0
    for word in words:
        start, place = place, place + len(word)
        if place > len(partial):
            rest.append(whole[max(start, len(partial)) : place])
    return rest


def cut_at(pieces: list[str], stops: list[str]) -> list[str]:
    """End the text before the first stop string, as a runtime that holds back what might become one."""
    whole = "".join(pieces)
    places = [place for stop in stops if stop and (place := whole.find(stop)) >= 0]
    if not places:
        return pieces
    kept, left = [], min(places)
    for piece in pieces:
        kept.append(piece[:left])
        left -= len(kept[-1])
    return [piece for piece in kept if piece]


def object_of(schema: dict, words: list[str], root: dict) -> object:
    """Make something that a JSON schema describes, out of words: of several kinds the last one. References lead into the `root`."""
    if ref := schema.get("$ref"):
        found = root
        for name in ref.removeprefix("#").strip("/").split("/"):
            found = found[name]
        return object_of(found, words, root)
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return choices[0]
    if kinds := schema.get("anyOf"):
        return object_of(kinds[-1], words, root)
    match schema.get("type"):
        case "object":
            return {name: object_of(inner, words[1:], root) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [object_of(schema["items"], words[1:], root) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return words[0].strip()


def formatted(wanted: object, words: list[str]) -> list[str]:
    """The answer where a format is asked for, in pieces that end in the middle of words."""
    said = json.dumps({"answer": words[0].strip()} if wanted == "json" else object_of(wanted, words, wanted))  # type: ignore[arg-type]
    return [said[n : n + FORMAT_PIECE] for n in range(0, len(said), FORMAT_PIECE)]


def vector_of(text: str) -> list[float]:
    """A vector of length 1 that follows from a text."""
    seed = hashlib.sha256(text.encode()).digest()
    raw = [seed[n % 32] - 128 + n % 7 for n in range(HIDDEN)]
    length = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / length for value in raw]


@dataclass
class FakeModel:
    """A model that is there. `vram_share` of its memory is in a GPU's; `wanted_context` is what somebody set."""

    name: str
    sha256: str
    size_bytes: int = 1000
    info: dict = field(default_factory=dict)
    license: str = ""
    capabilities: tuple = ("completion",)
    context_tokens: int = CONTEXT
    parameters: str = ""
    options: dict = field(default_factory=dict)  # what `parameters` says
    system: str = ""
    template: str = ""
    messages: list = field(default_factory=list)
    vram_share: float = 0.0
    keep_alive_s: float = float("inf")
    unload_at: float | None = None  # None: not loaded
    running: int = 0
    modified_at: float = field(default_factory=time.time)

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory now."""
        if self.unload_at is not None and not self.running and time.monotonic() > self.unload_at:
            self.unload_at = None
        return self.unload_at is not None

    def touch(self) -> None:
        """Load it, or begin its time to live anew."""
        self.unload_at = time.monotonic() + self.keep_alive_s

    @property
    def memory_bytes(self) -> int:
        """What it takes: its weights and something for its context."""
        return self.size_bytes + 22_500 * self.context_tokens

    @property
    def details(self) -> dict:
        """Ollama's object of that name."""
        family = self.info.get("general.architecture", "fake")
        return {
            "parent_model": "", "format": "gguf", "family": family, "families": [family], "parameter_size": "1M", "quantization_level": "Q4_1",
        }  # fmt: skip


ABLE = {"fake:tools": ("tools",), "fake:thinks": ("thinking",), "fake:sees": ("vision",), "fake:fills": ("insert",)}


def fake(name: str, context_tokens: int = CONTEXT) -> FakeModel:
    """A model whose name says what it does and can do; loaded for ever."""
    able = ("embedding",) if name == "fake:embeds" else ("completion", *ABLE.get(name, ()))
    model = FakeModel(
        capabilities=able,
        name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), context_tokens=context_tokens,
        info={"general.architecture": "fake", "fake.context_length": CONTEXT},
    )  # fmt: skip
    model.touch()
    return model


def shaped(
    name: str, sha256: str, *, size_bytes: int = 98_362_432, layers: int = 30, embeds: bool = True, context_tokens: int = 2048
) -> FakeModel:
    """A model with the shape of SmolLM2, not loaded: the memory formula knows what it needs."""
    info = {
        "general.architecture": "llama", "llama.block_count": layers, "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
        "llama.embedding_length": HIDDEN, "llama.context_length": CONTEXT,
    }  # fmt: skip
    return FakeModel(
        name=name, sha256=sha256, size_bytes=size_bytes, info=info, capabilities=("completion", "embedding") if embeds else ("completion",),
        context_tokens=context_tokens, license="Apache-2.0",
    )  # fmt: skip
