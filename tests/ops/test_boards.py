"""Boards and rules: made from one source, about metrics that exist, each alert with a runbook."""

import json
import re
import shutil
import subprocess

import pytest

from serve_app.boards.__main__ import files
from serve_app.boards.known import OF_RAY, all_known
from serve_app.boards.metrics_reference import reference
from tests.ops.promql import read, selectors
from tests.ops.watched import BOARDS, KNOWN, ROOT, expressions, rules

MADE_BY_PROMETHEUS = {"instance", "job", "le"}


def test_the_files_are_what_the_source_says():
    assert {path.name: path.read_text() for path in BOARDS.iterdir()} == files(), "python -m serve_app.boards helm/gpu-for-everyone/boards"


def test_the_metrics_reference_is_what_the_metrics_say():
    assert (ROOT / "docs/reference/metrics.md").read_text() == reference(), "make docs"


def test_every_metric_is_known_once_and_says_what_it_is():
    names = [metric.name for metric in all_known()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"(ray_)?(gfe|node)_[a-z_]+", name) for name in names), names
    assert all(metric.says.endswith(".") for metric in all_known())


@pytest.mark.parametrize(("where", "text"), expressions().items(), ids=expressions())
def test_every_expression_can_be_read_and_asks_for_what_exists(where, text):
    for selector, used in selectors(read(text)):
        assert selector.name in KNOWN, f"no part exposes {selector.name}"
        metric = KNOWN[selector.name]
        own = {*metric.labels, *MADE_BY_PROMETHEUS, *(OF_RAY if selector.name.startswith("ray_") else ())}
        assert {label for label, _, _ in selector.matchers} <= own
        assert used <= own, f"{selector.name} has no label {used - own}"
        assert (selector.range_s is None) or metric.kind != "gauge", f"{selector.name} is a gauge: its rate says nothing"


def test_a_board_is_one_that_grafana_reads():
    boards = [json.loads(path.read_text()) for path in BOARDS.glob("*.json")]
    assert len({board["uid"] for board in boards}) == 4
    for board in boards:
        panels = board["panels"]
        assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
        assert len({panel["title"] for panel in panels}) == len(panels)
        places = [panel["gridPos"] for panel in panels]
        covered = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(covered) == len(set(covered)), f"panels of {board['uid']} lie on each other"
        assert max(x for x, _ in covered) < 24
        assert "python -m serve_app.boards helm/gpu-for-everyone/boards" in board["description"]


@pytest.mark.parametrize("alert", rules())
def test_every_alert_has_a_runbook(alert):
    rule = rules()[alert]
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page == ROOT / f"docs/runbooks/{alert}.md"
    text = page.read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "What to look at", "What to do"]
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"page", "warning", "task"}


@pytest.mark.parametrize("alert", rules())
def test_a_runbook_names_commands_that_there_are(alert):
    commands = set(re.findall(r"^## `gfe (.*)`$", (ROOT / "docs/reference/cli.md").read_text(), re.MULTILINE))
    named = re.findall(r"`gfe ([^`]+)`", (ROOT / f"docs/runbooks/{alert}.md").read_text())
    for command in named:
        words = re.match(r"[a-z -]*?(?= --| [A-Z]|$)", command)[0].split()
        assert any(" ".join(words[:n]) in commands for n in (len(words), len(words) - 1)), f"there is no `gfe {command}`"
        reference = (ROOT / "docs/reference/cli.md").read_text()
        assert all(f"`{option}`" in reference for option in re.findall(r"--[a-z-]+", command)), command


def test_there_is_no_runbook_without_its_alert():
    assert {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} == {*rules(), "README"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", str(BOARDS / "rules.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
