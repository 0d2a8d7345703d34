"""docs/compatibility.md says what this run showed."""

import inspect
from pathlib import Path

import pytest

from tests.clients.compatibility import Client, Shown, cells_of, feature_of, is_passed, not_run, page
from tests.clients.conftest import HERE, IS_PARTIAL, SHOWN

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def whole(session):
    """Every test here was collected, in this process."""
    if session.config.stash.get(IS_PARTIAL, False) or hasattr(session.config, "workerinput"):
        return False
    items = [item for item in session.items if item.path.parent == HERE]
    collected = {(item.path.name, item.function.__name__) for item in items}
    modules = {item.module for item in items}
    written = {(Path(module.__file__).name, name) for module in modules for name, _ in inspect.getmembers(module, inspect.isfunction)}
    files = {path.name for path in HERE.glob("test_*.py")}
    return files == {name for name, _ in collected} and {one for one in written if one[1].startswith("test_")} <= collected


def clients_of(session):
    modules = {item.module for item in session.items if item.path.parent == HERE}
    return [*(module.CLIENT for module in modules if hasattr(module, "CLIENT"))] + [
        client for module in modules for client in getattr(module, "CLIENTS", {}).values()
    ]


def test_the_page_says_what_this_run_showed(request):
    target = request.config.getoption("--compatibility")
    if not whole(request.session):
        assert not target, "only a run of all of tests/clients, in one process, can write the page"
        pytest.skip("not all of tests/clients was run")
    clients, shown = clients_of(request.session), request.config.stash[SHOWN]
    missing, cells = not_run(shown), cells_of(clients, shown)
    now = page(clients, cells)
    if target:
        assert not missing, f"not every client could be run: {missing}"
        (request.config.invocation_params.dir / target).write_text(now)
        return
    differing = [line for line in now.splitlines() if line not in PAGE.read_text().splitlines()]
    if not missing:
        assert differing == [], "write the page anew: its first lines say how"
        assert now == PAGE.read_text()
        return
    columns = next(line for line in PAGE.read_text().splitlines() if line.startswith("|  | ")).split("|")[2:-1]
    rows = {line.split("**")[1]: line.split("|")[2:-1] for line in PAGE.read_text().splitlines() if line.startswith("| **")}
    for client in {client.name for client in clients} - missing.keys():
        place = [column.strip() for column in columns].index(client)
        written = {feature: is_passed(row[place].strip()) for feature, row in rows.items()}
        assert written == {feature: is_passed(cell) for feature, cell in cells[client].items()}, client
