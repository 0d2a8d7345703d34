"""A model that is there: what its manifest says, and what its file says of itself."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.runtime.dialect import Json
from cluster.runtime.gguf import NotGguf, read_metadata

ARCHITECTURE = re.compile(r"[a-z0-9_\-]{1,64}\Z")
MAX_CONTEXT = 2**31
# Our child embeds with chat models too. Tools and thoughts are not passed on here yet, so that no template makes us claim them.
CAPABILITIES = ("completion", "embedding")
UNTOLD_CONTEXT = 2048  # of a file that tells none
QUANTIZATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model is made of. `weights` is the SHA-256 of its file; an empty `template` is the file's own."""

    name: str
    weights: str
    size_bytes: int
    parent: str = ""
    license: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, str], ...] = ()

    def written(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def named(self, name: str) -> "Manifest":
        """Write the same under another name."""
        return replace(self, name=name)

    @property
    def digest(self) -> str:
        """Tell models apart that answer differently: a copy under another name has the same digest."""
        content = asdict(self)
        del content["name"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A manifest, the file that it means, and the metadata of that file."""

    manifest: Manifest
    path: Path
    modified_at: float
    metadata: Json

    @property
    def name(self) -> str:
        """Its full name."""
        return self.manifest.name

    @property
    def architecture(self) -> str:
        """The family, e.g. `llama`."""
        return str(self.metadata["general.architecture"])

    def told(self, key: str, otherwise: int = 0) -> int:
        """Look up a number that the file says of its architecture, e.g. `block_count`."""
        return int(self.metadata.get(f"{self.architecture}.{key}") or otherwise)

    @property
    def context_tokens(self) -> int:
        """The longest context that the model was made for."""
        return self.told("context_length", UNTOLD_CONTEXT)

    @property
    def template(self) -> str:
        """The chat template that is in use: the manifest's (Go's, as Ollama writes them), else the file's (Jinja)."""
        return self.manifest.template or str(self.metadata.get("tokenizer.chat_template") or "")

    @property
    def parameter_size(self) -> str:
        """The number of parameters as Ollama writes it: `134.52M`, `8.0B`, `7B`."""
        count = int(self.metadata["general.tensor_elements"])
        unit, size, places = ("B", 1_000_000_000, 1) if count >= 1_000_000_000 else ("M", 1_000_000, 2)
        return f"{count // size}{unit}" if count % size == 0 else f"{count / size:.{places}f}{unit}"

    @property
    def quantization(self) -> str:
        """How the weights are written, e.g. `Q4_1`."""
        return QUANTIZATIONS.get(self.metadata.get("general.file_type", -1), "unknown")


def read_checked(path: Path) -> Json:
    """Read a model file's metadata, and check what we rely on: anybody may have made the file.

    Raises:
        NotGguf: Not such a file, or it says what cannot be.
    """
    metadata = read_metadata(path)
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not ARCHITECTURE.match(architecture):
        raise NotGguf(f"{path.name} does not tell its architecture")
    for key in ("context_length", "embedding_length", "block_count"):
        value = metadata.get(f"{architecture}.{key}")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_CONTEXT):
            raise NotGguf(f"{path.name} says that its {key} is {str(value)[:40]}")
    if not isinstance(metadata.get("tokenizer.chat_template", ""), str):
        raise NotGguf(f"{path.name} has a chat template that is no text")
    if not isinstance(metadata.get("general.file_type", 0), int):
        raise NotGguf(f"{path.name} does not tell its file type as a number")
    return metadata
