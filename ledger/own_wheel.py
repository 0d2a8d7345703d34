"""The wheel of what runs here, made from the installed files: agents install from their own platform, whatever it was installed from.

A wheel is a zip with a list of its files and their digests (PyPA, binary distribution format). The same files give the same bytes.
"""

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path

NAME = "gpu-for-everyone"
PACKAGES = ("cluster", "ledger", "provider_join", "serve_app")
INFO_FILES = ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE")
LEFT_OUT = ("__pycache__", ".pyc", ".pyo", ".so.tmp", "static/")  # an agent has no use for the console
MOMENT = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """A wheel's file name, content and SHA-256 in hex."""

    name: str
    content: bytes
    sha256: str


def own_wheel() -> OwnWheel:
    """Make it.

    Raises:
        PackageNotFoundError: We are not installed.
    """
    found = distribution(NAME)
    stem = f"{NAME.replace('-', '_')}-{found.version}"
    files = {f"{package}/{name}": content for package in PACKAGES for name, content in _files_of(_folder_of(package))}
    files |= {f"{stem}.dist-info/{name}": text.encode() for name, text in _info_of(found)}
    content = _packed(files, f"{stem}.dist-info/RECORD")
    return OwnWheel(f"{stem}-py3-none-any.whl", content, hashlib.sha256(content).hexdigest())


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _files_of(folder: Path) -> list[tuple[str, bytes]]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = sorted((path.relative_to(folder).as_posix(), path) for path in paths)
    return [(name, path.read_bytes()) for name, path in names if not any(part in name for part in LEFT_OUT)]


def _info_of(found: Distribution) -> list[tuple[str, str]]:
    return [(name, text) for name in INFO_FILES if (text := found.read_text(name)) is not None]


def _packed(files: dict[str, bytes], record: str) -> bytes:
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files = files | {record: ("\n".join([*lines, f"{record},,"]) + "\n").encode()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
