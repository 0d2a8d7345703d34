"""Exchanging secrets: what was asked for is new everywhere it stands, and nothing else is."""

import fcntl

import pytest

from serve_app.local import secrets
from serve_app.local.errors import Refused
from serve_app.local.home import Home
from serve_app.local.rotating import ROTATIONS, rotate


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("serve_app.local.home.RUNTIME_PARENT", tmp_path)
    found = Home(tmp_path / "home")
    found.make()
    secrets.make_all(found.secrets, found.ray_secrets, found.edge_secrets, found.guard_secrets)
    return found


def files_of(home):
    folders = (home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    return {f"{folder.name}/{path.name}": path.read_text() for folder in folders for path in folder.iterdir()}


CHANGED = {
    "ray-token": {"ray_secrets/ray_token", "guard_secrets/ray_token"},
    "service-serve": {
        "ray_secrets/service_serve.pem", "ray_secrets/service_serve.pub.pem", "secrets/service_serve.pub.pem", "edge_secrets/service_serve.pub.pem",
    },
    "service-edge": {"edge_secrets/service_edge.pem", "edge_secrets/service_edge.pub.pem", "secrets/service_edge.pub.pem"},
    "service-guard": {"guard_secrets/service_guard.pem", "guard_secrets/service_guard.pub.pem", "secrets/service_guard.pub.pem"},
    "service-auditor": {"secrets/service_auditor.pem", "secrets/service_auditor.pub.pem"},
    "database-passwords": {"secrets/password_gfe_ledger", "secrets/password_gfe_pay", "secrets/password_gfe_serve"},
}  # fmt: skip


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_secret_is_exchanged_everywhere_and_alone(home, name):
    before = files_of(home)
    rotate(home, [name])
    after = files_of(home)
    assert after.keys() == before.keys()
    assert {file for file, text in after.items() if text != before[file]} == CHANGED[name]
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.secrets.iterdir())


def test_whoever_exchanges_the_token_is_told_of_joined_machines(home):
    assert "gfe admin invite" in rotate(home, ["service-edge", "ray-token"])[0]


def test_a_name_that_is_none_is_refused_before_anything_is_touched(home):
    before = files_of(home)
    with pytest.raises(Refused, match="api_key_pepper"):
        rotate(home, ["ray-token", "api_key_pepper"])
    assert files_of(home) == before


def test_a_running_installation_is_left_alone(home):
    before = files_of(home)
    with home.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="runs") as refused:
            rotate(home, ["ray-token"])
    assert "gfe down" in refused.value.hint
    assert files_of(home) == before


def test_there_has_to_be_an_installation(tmp_path):
    with pytest.raises(Refused, match="no installation"):
        rotate(Home(tmp_path / "none"), ["ray-token"])
