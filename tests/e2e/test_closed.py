"""What a running installation shows to others on its machine and in its network: the ports that the documents list, and no secret."""

import json
import re
from pathlib import Path

import pytest

from cluster import processes
from serve_app.local.home import read_json
from serve_app.local.listening import listening
from serve_app.local.ports import Ports
from tests.e2e.conftest import call
from tests.listed_ports import EVERYWHERE, NOTHING, WINDOWS, listed, name_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

PUBLIC_HALVES = re.compile(r"\.pub(\.pem)?$")  # files that are no secrets


def everybody(installation) -> set[int]:
    """Every process of an installation: those that it marked, and all below its supervisor."""
    below = processes.descendants(installation.status()["supervisor_pid"])
    return {process.pid for process in (*installation.processes(), *below)}


def test_the_documents_list_every_port_of_the_plan_with_its_usual_number():
    rows, usual = listed(), Ports(base=None)
    for name, first in usual.to_json().items():
        if name != "base":
            length = WINDOWS.get(name, 1)
            assert rows.pop(name).port == (str(first) if length == 1 else f"{first} to {first + length - 1}"), name
    assert {row.port for row in rows.values()} == {"any"}


def test_the_listening_ports_are_those_that_the_documents_list_and_bound_where_they_say(green):
    assert green.is_served()  # a model is in memory
    rows, ports, seen = listed(), read_json(green.home.run / "ports.json"), set()
    for socket in listening(everybody(green)):
        name = name_of(socket, ports)
        said = f"{name} on {socket.address}:{socket.port}: {processes.command_of(socket.pid)[:120]}"
        assert name in rows, f"not listed: {said}"
        assert socket.is_loopback == rows[name].bound.startswith("loopback"), f"{said}; listed as {rows[name].bound}"
        assert socket.is_loopback or rows[name].bound.startswith(EVERYWHERE), said
        seen.add(name)
    assert {name for name, row in rows.items() if row.bound == NOTHING} & seen == set()
    assert {name for name, row in rows.items() if row.bound != NOTHING} - seen == set()


def secrets_of(installation) -> dict[str, str]:
    """Every secret's words by its file: one line of a key's middle, the password of a URL, else the whole."""
    home = installation.home
    found = {}
    for folder in (home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets):
        for path in (path for path in folder.rglob("*") if path.is_file() and not PUBLIC_HALVES.search(path.name)):
            text = path.read_text().strip()
            if "BEGIN" in text:
                text = text.splitlines()[1]
            elif path.name.endswith("_url"):
                text = re.search(r"//[^:]+:([^@]+)@", text)[1]
            assert len(text) >= 16, path
            found[f"{folder.name}/{path.name}"] = text
    return found


def test_no_secret_stands_in_an_environment_on_a_command_line_or_in_a_log(green):
    assert green.chat()[0] == 200
    wrong = green.report["api_key"][:-8] + "x" * 8  # a mistyped key is a secret too
    assert green.chat(key=wrong)[0] == 401
    assert call(f"{green.report['console_url']}/api/core/token/", {"username": "nobody", "password": "a password in the open"})[0] == 401
    secrets = {name: text.encode() for name, text in secrets_of(green).items()} | {
        "mistyped key": wrong.encode(),
        "password": b"a password in the open",
    }
    assert {"secrets/api_key_pepper", "ray_secrets/ray_token", "edge_secrets/service_edge.pem", "secrets/admin_database_url"} <= set(
        secrets
    )
    places = {
        f"{kind} of {processes.command_of(pid)[:80]}": Path(f"/proc/{pid}/{kind}")
        for pid in everybody(green)
        for kind in ("environ", "cmdline")
    }
    logs = [path for folder in (green.home.logs, green.home.ray) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "ledger.log" for path in logs)
    assert any(path.suffix == ".out" for path in logs)
    found = []
    for place, path in (places | {str(path): path for path in logs}).items():
        try:
            text = path.read_bytes()
        except OSError:  # it has ended, or is a socket's name
            continue
        found += [(name, place) for name, secret in secrets.items() if secret in text]
    assert found == []


def test_the_operators_doctor_finds_everything_well_and_says_what_is_not(green, tmp_path):
    def doctor():
        done = green.gfe("doctor", "--server", "--json")
        return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}

    def ill(found):
        return {name: one["found"] for name, one in found.items() if not one["is_fine"] and name != "server disk"}  # that is this machine's

    _, found = doctor()
    assert ill(found) == {}
    assert set(found) == {
        "parts", "settings", "secrets", "users", "database", "migrations", "rights", "logins", "books", "backup", "signing key", "clock",
        "server disk", "ports", "reference",
    }  # fmt: skip
    assert "none is known" in found["backup"]["found"] or " h old: " in found["backup"]["found"]  # another test may have made one
    assert green.gfe("db", "backup", str(tmp_path / "copy")).returncode == 0
    (green.home.secrets / "left_open").touch(mode=0o644)
    (green.home.secrets / "left_open").chmod(0o644)
    try:
        status, found = doctor()
    finally:
        (green.home.secrets / "left_open").unlink()
    assert (status, list(ill(found))) == (1, ["secrets"])
    assert "chmod" in found["secrets"]["remedy"]
    assert str(tmp_path / "copy") in found["backup"]["found"]
