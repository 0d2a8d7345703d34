"""The documents as a site (`make site`): whole, searchable, and nothing on its pages is loaded from elsewhere."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MKDOCS = shutil.which(os.environ.get("GFE_MKDOCS", str(ROOT / ".venv-site/bin/mkdocs")))
FROM_ELSEWHERE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s\">]+")


def pages_in(nav):
    """The pages that a piece of the navigation leads to."""
    if isinstance(nav, str):
        return {nav}
    return set().union(*(pages_in(piece) for piece in (nav.values() if isinstance(nav, dict) else nav)))


def test_every_page_is_in_the_navigation_or_in_an_index_that_is():
    named = pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named <= pages
    assert {page for page in pages - named if not re.fullmatch(r"decisions/0[^/]+|runbooks/[^/]+", page)} == set()


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('<script src="https://cdn.example.org/x.js">', True),
        ("<link rel=stylesheet href=//fonts.example.org/css>", True),
        ('<a href="https://example.org">', False),
        ('<script src="assets/x.js">', False),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(text, is_found):
    assert bool(FROM_ELSEWHERE.search(text)) is is_found


@pytest.mark.skipif(MKDOCS is None, reason="mkdocs is not here: `make site` installs it, GFE_MKDOCS names another one")
def test_the_site_is_built_without_a_warning_can_be_searched_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    entries = json.loads((tmp_path / "search/search_index.json").read_text())["docs"]
    assert any("double-entry" in entry["text"] for entry in entries)
    built = list(tmp_path.rglob("*.html"))
    assert {"index.html", "quickstart/consumer.html"} <= {str(page.relative_to(tmp_path)) for page in built}
    assert {str(page): FROM_ELSEWHERE.findall(page.read_text()) for page in built if FROM_ELSEWHERE.search(page.read_text())} == {}
