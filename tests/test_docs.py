"""Documentation that cannot rot."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "requirements").glob("*.md")]
COMMANDS_BY_SCRIPT = {"test", "check", "console"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    broken = [target for target in targets if not target.startswith("http") and not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists(page):
    from serve_app.cli import COMMANDS

    named = set(re.findall(r"(?:^|`)(?:\./)?gfe ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named - set(COMMANDS) - COMMANDS_BY_SCRIPT == set()


def test_the_command_reference_is_what_the_commands_say():
    from serve_app.cli.reference import reference

    assert (ROOT / "docs/reference/cli.md").read_text() == reference()


def test_the_errors_reference_is_what_the_errors_say():
    from serve_app.local.errors_reference import reference

    assert (ROOT / "docs/reference/errors.md").read_text() == reference()


def test_the_settings_reference_is_what_the_settings_say():
    from serve_app.local.settings_reference import reference

    assert (ROOT / "docs/reference/settings.md").read_text() == reference()


def test_the_api_reference_is_what_the_descriptions_say():
    from serve_app.local.api_reference import files

    for name, text in files().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, "python -m serve_app.local.api_reference docs/reference"


def test_the_page_of_reliability_shows_what_was_measured():
    from bench.reliability import FOLDER, PAGE, Figures, page

    assert PAGE.read_text() == page(PAGE.read_text(), Figures.of_folder(FOLDER)), "python -m bench.reliability"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_every_decision_has_its_parts(page):
    headings = set(re.findall(r"^## (\w+)", page.read_text(), re.MULTILINE))
    assert {"Context", "Decision", "Consequences", "Alternatives", "Measured"} <= headings


def test_the_list_of_decisions_has_each_by_its_name():
    named = re.findall(r"^- \[(.+)\]\((.+)\)$", (ROOT / "docs/decisions/README.md").read_text(), re.MULTILINE)
    assert named == [(page.read_text().splitlines()[0].removeprefix("# "), page.name) for page in DECISIONS]
