"""Manifests on disk: one JSON file per model, whole or not there."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from cluster.runtime import dialect
from cluster.runtime.front.model import Manifest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Manifests:
    """The manifests in a folder. Files are named by the hash of the model's name: names may hold slashes and be long."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the manifest of a model is, or would be."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def read_all(self) -> Iterator[Manifest | Path]:
        """Yield every manifest; for one that cannot be read its file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.json")):
            try:
                manifest = _read(path)
            except (OSError, ValueError, TypeError, KeyError):
                yield path
                continue
            yield manifest if self.path(manifest.name) == path else path

    def write(self, manifest: Manifest) -> None:
        """Write a manifest, durably."""
        path = self.path(manifest.name)
        half = path.with_suffix(".part")
        with half.open("w") as file:
            file.write(manifest.written())
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        sync_folder(self.folder)

    def written_at(self, name: str) -> float:
        """When a model's manifest was written; 0: there is none."""
        path = self.path(name)
        return path.stat().st_mtime if path.exists() else 0.0

    def remove(self, name: str) -> None:
        """Forget a model."""
        self.path(name).unlink(missing_ok=True)
        sync_folder(self.folder)


def _read(path: Path) -> Manifest:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError("too long")
    said = json.loads(path.read_bytes())
    known = {one.name: said[one.name] for one in fields(Manifest) if one.name in said}
    manifest = Manifest(**known | {"license": tuple(said.get("license", ())), "messages": tuple(said.get("messages", ()))})
    if not SHA256.match(manifest.weights) or not dialect.MODEL_NAME.match(manifest.name):
        raise ValueError("not a manifest")
    return manifest


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
