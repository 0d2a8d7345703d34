"""What a request to create a model means: checked in full before its first line is answered, so that refusals have their status."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.blobs import sha256_of
from cluster.runtime.front.library import Library
from cluster.runtime.front.manifests import MAX_MANIFEST_BYTES
from cluster.runtime.front.model import Manifest
from cluster.runtime.prompts import require_template

NOT_HERE = ("adapters", "quantize", "quantization", "draft")  # what a real Ollama can do beyond


def named(value: Any, what: str = "model name") -> str:
    """Read a name that a model is to have.

    Raises:
        BadRequest: It is none.
    """
    if not isinstance(value, str) or not dialect.MODEL_NAME.match(value):
        raise BadRequest(f"invalid {what}")
    return dialect.full_name(value)


def manifest_of(body: Json, library: Library) -> Manifest:
    """Read what is to be created: from a file that was sent before, or from a model that is here.

    Raises:
        BadRequest: In Ollama's words.
    """
    name = named(body.get("model") or body.get("name"))
    if asked := [key for key in NOT_HERE if body.get(key)]:
        raise BadRequest(f"`{asked[0]}` is not available in the embedded runtime")
    if body.get("files"):
        return _changed(_from_files(body["files"], name, library), body, "")
    if body.get("from"):
        parent = library.find(body["from"])
        return _changed(replace(parent.manifest, name=name, parent=parent.name), body, parent.template)
    raise BadRequest("neither 'from' or 'files' was specified")


def _from_files(files: Any, name: str, library: Library) -> Manifest:
    if not isinstance(files, Mapping) or len(files) != 1:
        raise BadRequest("exactly one GGUF file is needed")
    ((path, digest),) = files.items()
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise BadRequest("file path must be relative")
    weights = sha256_of(digest)
    if not library.blobs.has(weights):
        raise BadRequest(f'blob "sha256:{weights}" not found')
    return Manifest(name=name, weights=weights, size_bytes=library.blobs.path(weights).stat().st_size)


def _changed(begin: Manifest, body: Json, shown_template: str) -> Manifest:
    """Put what was sent in place of what there was; parameters are added one by one. A template that show told changes nothing."""
    said: Json = {}
    if body.get("parameters") is not None:
        said["parameters"] = {**begin.parameters, **_parameters(body["parameters"])}
    if body.get("template") not in (None, shown_template):
        said["template"] = require_template(body["template"])
    if body.get("system") is not None:
        said["system"] = _text(body["system"], "system")
    if body.get("license") is not None:
        texts = [body["license"]] if isinstance(body["license"], str) else body["license"]
        if not isinstance(texts, list):
            raise BadRequest("json: license must be a string or a list of strings")
        said["license"] = tuple(_text(text, "license") for text in texts)
    if body.get("messages") is not None:
        said["messages"] = tuple(dialect.checked_messages(body["messages"]))
    changed = replace(begin, **said)
    if len(changed.written()) > MAX_MANIFEST_BYTES:
        raise BadRequest(f"system, license and messages may take at most {MAX_MANIFEST_BYTES} bytes together")
    return changed


def _parameters(given: Any) -> Json:
    try:
        return dialect.checked_options(given)
    except BadRequest as wrong:
        raise BadRequest(wrong.text) from wrong


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"json: {what} must be a string")
    return value
