"""Writes what we are made of as a CycloneDX 1.6 document (ECMA-424): `python -m serve_app.local.sbom sbom.cdx.json`, from a checkout.

Read from the pins alone (`requirements/*.txt`, `console/package-lock.json`), so that the same pins give the same document.
"""

import base64
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# By file: whether what it pins runs in an installation ("required"), or builds and tests it ("excluded").
REQUIREMENTS = {
    "run.txt": "required", "console.txt": "excluded", "dev.txt": "excluded", "clients.txt": "excluded", "chart.txt": "excluded", "helm.txt": "excluded",
    "site.txt": "excluded",
}  # fmt: skip
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def python_components(text: str, scope: str) -> Iterator[dict[str, Any]]:
    """Read a file of pins. One version has many files, of which any may be installed: their hashes are properties, not *the* hash."""
    pins = list(_PIN.finditer(text))
    for pin, following in zip(pins, [*pins[1:], None], strict=True):
        name, version = re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2]
        purl = f"pkg:pypi/{name}@{version}"
        hashes = _HASH.findall(text[pin.end() : following.start() if following else len(text)])
        yield {
            "type": "library", "bom-ref": purl, "name": name, "version": version, "scope": scope, "purl": purl,
            "properties": [{"name": "gfe:accepted-sha256", "value": found} for found in hashes],
        }  # fmt: skip


def npm_components(lock: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Read npm's lock file (version 3); what only builds the console is left out of what runs."""
    for path, found in lock["packages"].items():
        if "node_modules/" not in path or found.get("link"):
            continue
        name, version = path.rpartition("node_modules/")[2], found["version"]
        purl = f"pkg:npm/{name.replace('@', '%40', 1)}@{version}"
        component: dict[str, Any] = {
            "type": "library", "bom-ref": purl, "name": name, "version": version, "scope": "excluded" if found.get("dev") else "required", "purl": purl,
        }  # fmt: skip
        kind, _, digest = str(found.get("integrity", "")).partition("-")
        if kind == "sha512":
            component["hashes"] = [{"alg": "SHA-512", "content": base64.b64decode(digest).hex()}]
        if isinstance(found.get("license"), str):
            component["licenses"] = [{"expression": found["license"]}]
        yield component


def document(root: Path = ROOT) -> dict[str, Any]:
    """Write the document of a checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    found: dict[str, dict[str, Any]] = {}
    for name, scope in REQUIREMENTS.items():
        for component in python_components((root / "requirements" / name).read_text(), scope):
            found.setdefault(component["bom-ref"], component)  # what runs comes first, and stays so
    for component in npm_components(json.loads((root / "console/package-lock.json").read_text())):
        known = found.setdefault(component["bom-ref"], component)
        if component["scope"] == "required":
            known["scope"] = "required"
    components = sorted(found.values(), key=lambda one: str(one["bom-ref"]))
    purl = f"pkg:pypi/{project['name']}@{project['version']}"
    body = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": purl, "name": project["name"], "version": project["version"], "purl": purl,
                "licenses": [{"expression": project["license"]}],
            }
        },
        "components": components,
        "dependencies": [{"ref": purl, "dependsOn": [str(one["bom-ref"]) for one in components if one["scope"] == "required"]}],
    }  # fmt: skip
    return body | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))}"}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=1) + "\n")
