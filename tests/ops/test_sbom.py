"""The list of what we are made of is whole: every pin is in it once, and nothing that is not pinned."""

import json
import re

import pytest

from serve_app.local.sbom import ROOT, document, npm_components, python_components


@pytest.fixture(scope="module")
def made():
    return document()


def test_every_pinned_package_of_python_is_a_component_with_the_hashes_that_are_accepted(made):
    by_purl = {one["purl"]: one for one in made["components"]}
    for file in (ROOT / "requirements").glob("*.txt"):
        for line in file.read_text().splitlines():
            if line and not line.startswith((" ", "#")):
                name, version = re.match(r"([\w.-]+)[^=]*==([^ ;\\]+)", line).groups()
                assert f"pkg:pypi/{name.lower().replace('_', '-').replace('.', '-')}@{version}" in by_purl, line
    aiohttp = next(one for purl, one in by_purl.items() if purl.startswith("pkg:pypi/aiohttp@"))
    assert aiohttp["scope"] == "required"
    hashes = {one["value"] for one in aiohttp["properties"]}
    assert hashes
    assert all(f"sha256:{found}" in (ROOT / "requirements/run.txt").read_text() for found in hashes)


def test_every_locked_package_of_npm_is_a_component(made):
    lock = json.loads((ROOT / "console/package-lock.json").read_text())
    wanted = {(path.rpartition("node_modules/")[2], one["version"]) for path, one in lock["packages"].items() if path}
    found = {(one["name"], one["version"]): one for one in made["components"] if one["purl"].startswith("pkg:npm/")}
    assert found.keys() == wanted
    react = next(one for (name, _), one in found.items() if name == "react")
    assert (react["scope"], react["licenses"]) == ("required", [{"expression": "MIT"}])
    assert len(react["hashes"][0]["content"]) == 128
    assert next(one for (name, _), one in found.items() if name == "vitest")["scope"] == "excluded"


def test_the_document_has_the_form_of_cyclonedx(made):
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", made["serialNumber"])
    refs = [one["bom-ref"] for one in made["components"]]
    assert len(set(refs)) == len(refs)
    assert set(made["dependencies"][0]["dependsOn"]) <= set(refs)
    assert all({"type", "name", "version", "scope"} <= one.keys() for one in made["components"])
    assert {one["scope"] for one in made["components"]} == {"required", "excluded"}


def test_the_same_pins_give_the_same_document_and_no_address_stands_in_it(made):
    assert document() == made
    assert "://" not in json.dumps(made)


def test_what_pins_may_look_like():
    text = 'A_b.C[extra]==1.0 ; python_version < "3.12" \\\n    --hash=sha256:' + "a" * 64 + "\nd==2\n"
    assert [(one["purl"], len(one["properties"])) for one in python_components(text, "required")] == [
        ("pkg:pypi/a-b-c@1.0", 1),
        ("pkg:pypi/d@2", 0),
    ]
    lock = {"packages": {"": {}, "node_modules/a/node_modules/@b/c": {"version": "1", "dev": True}, "node_modules/l": {"link": True}}}
    assert [(one["purl"], one["scope"]) for one in npm_components(lock)] == [("pkg:npm/%40b/c@1", "excluded")]
