"""Blobs: files named by the SHA-256 of what is in them."""

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.runtime.dialect import BadRequest
from cluster.runtime.front.manifests import sync_folder

MAX_BLOB_BYTES = 64 * 1024**3
MAX_UPLOADS = 4  # at once
UPLOAD_SILENCE_S = 60.0
CHUNK_BYTES = 1 << 20
DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
Read = Callable[[int], Awaitable[bytes]]


def sha256_of(digest: object) -> str:
    """Read a digest as clients write it, `sha256:<hex>`; answer the hex.

    Raises:
        BadRequest: It is none.
    """
    found = DIGEST.match(digest) if isinstance(digest, str) else None
    if found is None:
        raise BadRequest("invalid digest format")
    return found.group(1).lower()


class Blobs:
    """The blobs in a folder."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BLOB_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._uploads = 0

    def path(self, sha256: str) -> Path:
        """Where a blob is, or would be."""
        return self.folder / f"sha256-{sha256}"

    def has(self, sha256: str) -> bool:
        """Whether it is there."""
        return self.path(sha256).is_file()

    def size(self, sha256: str) -> int:
        """How long it is, in bytes; -1: it is not there."""
        return self.path(sha256).stat().st_size if self.has(sha256) else -1

    def prune(self, kept: set[str]) -> None:
        """Remove what no model refers to, and what uploads left that did not end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {self.path(sha256).name for sha256 in kept}
        for path in self.folder.iterdir():
            if path.name not in names and path.name.startswith("sha256-"):
                path.unlink(missing_ok=True)

    def remove(self, sha256: str) -> None:
        """Remove one; who reads it now goes on."""
        self.path(sha256).unlink(missing_ok=True)

    def adopt(self, file: Path, sha256: str) -> None:
        """Have a file of known content as a blob: the same bytes on disk where that is possible."""
        if self.has(sha256):
            return
        with self._half(sha256) as half:
            try:
                os.link(file, half)
            except OSError:
                shutil.copyfile(file, half)
            self._settle(half, sha256)

    async def receive(self, sha256: str, read: Read) -> None:
        """Take a blob from a client: bounded, checked, durable or not there.

        Raises:
            BadRequest: Too many at once, too long, too slow, other than its digest says, or the disk does not take it.
        """
        if self._uploads >= MAX_UPLOADS:
            raise BadRequest(f"{MAX_UPLOADS} blobs are being sent already, please try again", 503)
        self._uploads += 1
        try:
            with self._half(sha256) as half:
                with half.open("wb") as file:
                    found = await self._copied(read, file)
                if found != sha256:
                    raise BadRequest(f'digest mismatch, expected "sha256:{sha256}", got "sha256:{found}"')
                await asyncio.to_thread(self._settle, half, sha256)
        except TimeoutError:
            raise BadRequest(f"nothing more came for {UPLOAD_SILENCE_S:g} s", 408) from None
        except OSError as full:
            raise BadRequest(f"the blob cannot be kept: {full.strerror}", 500) from full
        finally:
            self._uploads -= 1

    async def _copied(self, read: Read, file: BinaryIO) -> str:
        digest, size = hashlib.sha256(), 0

        def take(chunk: bytes) -> None:
            file.write(chunk)
            digest.update(chunk)

        while chunk := await asyncio.wait_for(read(CHUNK_BYTES), UPLOAD_SILENCE_S):
            size += len(chunk)
            if size > self.max_bytes:
                raise BadRequest(f"a blob may have at most {self.max_bytes} bytes", 413)
            await asyncio.to_thread(take, chunk)
        return digest.hexdigest()

    @contextmanager
    def _half(self, sha256: str) -> Iterator[Path]:
        half = self.folder / f"sha256-{sha256}.{secrets.token_hex(4)}.part"
        try:
            yield half
        finally:
            half.unlink(missing_ok=True)

    def _settle(self, half: Path, sha256: str) -> None:
        with half.open("rb+") as file:
            os.fsync(file.fileno())
        half.replace(self.path(sha256))
        sync_folder(self.folder)
