"""How `gfe agent` becomes the agent's process."""

import json
import os
import sys

import pytest

from provider_join.agent import lean
from provider_join.agent.home import AgentHome
from provider_join.agent.main import START, Start


class Became(Exception):
    pass


@pytest.fixture
def become(tmp_path, monkeypatch):
    """Answers what the process became: the program, its arguments, its environment."""

    def replaced(*what):
        raise Became(what)

    monkeypatch.setattr(os, "execve", replaced)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def become():
        with pytest.raises(Became) as became:
            lean.become(Start(share="2"), AgentHome(tmp_path / "home"))
        (what,) = became.value.args
        return what

    return become


def compiled(folder):
    return {path.name.partition(".")[0] for path in folder.rglob("*.opt-2.pyc")}


def test_it_compiles_what_it_imports_once_beside_itself_and_passes_on_what_was_asked_for(become, tmp_path, monkeypatch):
    program, arguments, environment = become()
    assert (program, arguments[0], arguments[-2:]) == (sys.executable, sys.executable, ["-m", "provider_join.agent"])
    assert Start.read(environment[START]) == Start(share="2")
    assert json.loads(environment[START])["share"] == "2"
    assert environment["PYTHONPYCACHEPREFIX"] == str(tmp_path / "home" / "compiled")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert compiled(tmp_path / "home" / "compiled") >= {"session", "pynvml", "connector", "dataclasses"}
    first = compiled(tmp_path / "home" / "compiled")
    monkeypatch.setattr(lean, "IMPORTS", "import graphlib")
    become()
    assert compiled(tmp_path / "home" / "compiled") == first


def test_another_version_compiles_anew(become, tmp_path, monkeypatch):
    monkeypatch.setattr(lean, "IMPORTS", "import graphlib")
    become()
    monkeypatch.setattr(lean, "agent_version", lambda: "99")
    monkeypatch.setattr(lean, "IMPORTS", "import sched")
    become()
    folder = tmp_path / "home" / "compiled"
    assert "sched" in compiled(folder)
    assert "graphlib" not in compiled(folder)


def test_where_nothing_can_be_compiled_it_becomes_the_agent_all_the_same(become, tmp_path, monkeypatch):
    monkeypatch.setattr(lean, "IMPORTS", "raise SystemExit(1)")
    assert become()[0] == sys.executable
    assert not list((tmp_path / "home" / "compiled").glob("*.done"))
    (tmp_path / "home").rename(tmp_path / "old")
    (tmp_path / "home").write_text("no folder")
    assert become()[0] == sys.executable
