"""docs/compatibility.md says what this run showed."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clients.compatibility import CONTRADICTED, FEATURES, NOT_SHOWN, Client, Shown, cells_of, differing, not_run, page
from tests.clients.conftest import HERE, IS_PARTIAL, SHOWN

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
CURL = Client("curl", "8", "`curl URL`", absent={"images": "curl sees nothing"}, noted={"repeat": "by hand"})


def showing(outcome="passed", why="", **others):
    """A run in which a client showed everything that it has; `others` ended otherwise."""
    return [Shown(CURL, feature, others.get(feature, outcome), why) for feature in FEATURES if feature not in CURL.absent]


def test_what_passed_is_told_and_what_did_not_with_its_reason():
    cells = cells_of([CURL], showing(why="it broke", tools="failed"))["curl"]
    assert (cells["chat"], cells["tools"], cells["images"]) == ("passed", "failed: it broke", "not in this client: curl sees nothing")
    text = page([CURL], {"curl": cells})
    for line in (
        "**chat**: an answer, whole | passed |",
        "results | no (1) |",
        "one charge | passed (3) |",
        "\n1. failed: it broke\n",
        "\n3. by hand\n",
    ):
        assert line in text


def test_a_feature_is_shown_or_said_to_be_absent_and_never_both():
    assert cells_of([CURL], showing()[1:])["curl"]["chat"] == NOT_SHOWN
    blind = replace(CURL, absent=CURL.absent | {"chat": "it is mute"})
    assert cells_of([blind], showing())["curl"]["chat"] == CONTRADICTED


def test_a_page_that_says_something_else_is_found():
    was, now = cells_of([CURL], showing()), cells_of([CURL], showing(tools="failed"))
    assert differing(page([CURL], was), [CURL], was) == {}
    assert differing(page([CURL], was), [CURL], now) == {"curl": ["tools"]}
    assert differing(page([], {}), [CURL], was) == {"curl": list(FEATURES)}


def test_a_client_that_could_not_be_run_is_not_held_against_the_page():
    assert not_run(showing("skipped", "no Node")) == {"curl": "no Node"}
    assert not_run(showing()) == {}


# --- this run --------------------------------------------------------------------------------------------------------------------------


def is_whole(session):
    """Whether every test here is part of this run, in this process."""
    if session.config.stash.get(IS_PARTIAL, False) or hasattr(session.config, "workerinput"):
        return False
    items = [item for item in session.items if item.path.parent == HERE]
    collected = {(item.module, item.function.__name__) for item in items}
    written = {(module, name) for module in {item.module for item in items} for name, _ in inspect.getmembers(module, inspect.isfunction)}
    are_all = {one for one in written if one[1].startswith("test_")} <= collected
    return are_all and {item.path for item in items} == set(HERE.glob("test_*.py"))


def clients_of(session):
    modules = {item.module for item in session.items if item.path.parent == HERE}
    alone = [module.CLIENT for module in modules if hasattr(module, "CLIENT")]
    return alone + [client for module in modules for client in getattr(module, "CLIENTS", {}).values()]


def test_the_page_says_what_this_run_showed(request):
    target = request.config.getoption("--compatibility", None)
    if not is_whole(request.session):
        assert not target, "only a run of all of tests/clients, in one process, can write the page"
        pytest.skip("not all of tests/clients was run")
    clients, shown = clients_of(request.session), request.config.stash[SHOWN]
    missing, cells = not_run(shown), cells_of(clients, shown)
    if target:
        assert not missing, f"not every client could be run: {missing}"
        (request.config.invocation_params.dir / target).write_text(page(clients, cells))
    present = [client for client in clients if client.name not in missing]
    assert differing(PAGE.read_text(), present, cells) == {}, "write the page anew: it says how"
    assert missing or PAGE.read_text() == page(clients, cells), "write the page anew: it says how"
    unclear = [(name, feature) for name, row in cells.items() for feature, cell in row.items() if cell in {NOT_SHOWN, CONTRADICTED}]
    assert missing or unclear == []
