"""Who runs the ledger and Ray when root starts; what each sees of folders that are closed to him."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ledger.secret_files import write_new
from serve_app.local import secrets, users
from serve_app.local.confined import closed_folder, hidden
from serve_app.local.errors import Refused
from serve_app.local.home import Home
from serve_app.local.users import User, Users

ROOT = 0
LEDGER = User("gfe-ledger", 60_900, 60_900)
RAY, EDGE = User("gfe-ray", 60_901, 60_901, (60_903,)), User("gfe-edge", 60_902, 60_902, (60_903,))
GUARD = User("gfe-guard", 60_908, 60_908, (60_903,))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_root_gets_four_users_and_anybody_else_none():
    assert users.choose({}, ROOT) == Users(LEDGER, RAY, EDGE, GUARD)
    assert users.choose({"GFE_LEDGER_USER": "none"}, ROOT) is None
    assert users.choose({}, 1000) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GFE_LEDGER_USER": "nobody-of-this-name"}, "no such user"),
        ({"GFE_RAY_USER": "root"}, "names root"),
        ({"GFE_RAY_USER": "0"}, "names root"),
        ({"GFE_LEDGER_USER": "60901"}, "would both run as"),
        ({"GFE_EDGE_USER": "60901"}, "would both run as"),
        ({"GFE_GUARD_USER": "60902"}, "would both run as"),
    ],
)
def test_users_that_keep_nothing_apart_are_refused_with_a_hint(environment, said):
    with pytest.raises(Refused, match=said) as refused:
        users.choose(environment, ROOT)
    assert refused.value.hint


def test_a_number_that_is_somebody_elses_is_refused(monkeypatch):
    monkeypatch.setattr(users, "_account", lambda uid: "backup" if uid == LEDGER.uid else None)
    with pytest.raises(Refused, match="is backup's"):
        users.choose({}, ROOT)


def test_a_part_that_does_not_run_proves_nothing_and_one_user_is_not_two():
    assert not users.are_apart({})
    assert not users.are_apart({"ledger": os.getpid(), "ray": None})
    assert not users.are_apart({"ledger": os.getpid(), "ray": os.getpid()})


def test_only_what_lies_behind_a_closed_folder_needs_a_view(tmp_path):
    closed = tmp_path / "closed"
    (closed / "programs" / "inner").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    closed.chmod(0o700)
    assert closed_folder(closed / "programs", RAY.uid, RAY.gid) == closed
    assert closed_folder(closed / "programs", os.geteuid(), os.getegid()) is None
    shown = [closed / "programs", closed / "programs" / "inner", tmp_path / "open"]
    assert hidden(shown, RAY.uid, RAY.gid) == {closed / "programs": closed}


@pytest.fixture
def closed_home():
    """A home below a folder that root alone enters, as `/root` is."""
    with tempfile.TemporaryDirectory(prefix="gfe users ") as folder:
        home = Home(Path(folder) / "home")
        home.make()
        secrets.make_all(home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
        yield home
        subprocess.run(["rm", "-r", str(home.runtime)], check=True)


def run_as(user, shown, program):
    command = users.confined(user, (*users.programs(), *shown), (sys.executable, "-P", "-c", program))
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


READS = "import sys; print(open({!r}).read())"


@needs_root
def test_each_user_reads_his_own_secrets_and_none_of_the_other_s(closed_home):
    home = closed_home
    users.hand_over(home, Users(LEDGER, RAY, EDGE, GUARD))
    pepper, key = home.secrets / "api_key_pepper", home.ray_secrets / "service_serve.pem"
    both = (home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    edges, guards = home.edge_secrets / "service_edge.pem", home.guard_secrets / "service_guard.pem"
    assert (
        run_as(GUARD, both, READS.format(str(home.guard_secrets / "ray_token"))).stdout.strip()
        == (home.ray_secrets / "ray_token").read_text()
    )
    assert run_as(EDGE, both, READS.format(str(edges))).stdout.strip() == edges.read_text().strip()
    assert run_as(LEDGER, both, READS.format(str(pepper))).stdout.strip() == pepper.read_text()
    assert run_as(RAY, both, READS.format(str(key))).stdout.strip() == key.read_text().strip()
    for user, path in (
        (RAY, pepper), (RAY, home.secrets / "password_postgres"), (LEDGER, home.secrets / "password_postgres"), (LEDGER, key),
        (EDGE, key), (EDGE, pepper), (EDGE, home.ray_secrets / "ray_token"), (RAY, edges), (LEDGER, edges),
        (RAY, guards), (EDGE, guards), (GUARD, pepper), (GUARD, key), (GUARD, edges),
    ):  # fmt: skip
        assert "Permission denied" in run_as(user, both, READS.format(str(path))).stderr, (user, path)
    changed = run_as(RAY, both, f"import os; os.replace({str(key)!r}, {str(key) + '.old'!r})")
    assert "Permission denied" in changed.stderr


@needs_root
def test_a_confined_program_sees_nothing_else_of_a_closed_folder_and_has_no_right(closed_home):
    home = closed_home
    users.hand_over(home, Users(LEDGER, RAY, EDGE, GUARD))
    seen = run_as(RAY, (home.ray_secrets,), f"import os; print(os.listdir({str(home.root)!r}))")
    assert seen.stdout.strip() == "['ray_secrets']", seen.stderr
    status = run_as(RAY, (), "print(open('/proc/self/status').read())").stdout.split()
    facts = {name: status[status.index(name) + 1] for name in ("Uid:", "CapEff:", "CapPrm:", "CapAmb:", "NoNewPrivs:")}
    assert facts == {"Uid:": "60901", "CapEff:": "0" * 16, "CapPrm:": "0" * 16, "CapAmb:": "0" * 16, "NoNewPrivs:": "1"}


@needs_root
def test_a_file_that_root_adds_is_the_ledgers_at_once(closed_home):
    users.hand_over(closed_home, Users(LEDGER, RAY, EDGE, GUARD))
    write_new(closed_home.secrets / "new", b"x")
    found = (closed_home.secrets / "new").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (LEDGER.uid, 0o600)


@needs_root
def test_links_that_ray_plants_are_not_followed_by_root(closed_home):
    home = closed_home
    users.hand_over(home, Users(LEDGER, RAY, EDGE, GUARD))
    target = home.secrets / "api_key_pepper"
    (home.mail / "x").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        users._give(home.mail / "x", RAY.uid, RAY.gid, 0o644)
    assert target.stat().st_uid == LEDGER.uid


def test_secrets_of_the_time_of_one_folder_move_and_stay_the_same(tmp_path):
    old, rays = tmp_path / "secrets", tmp_path / "ray_secrets"
    for folder in (old, rays):
        folder.mkdir()
    secrets.make_service_key(old, "serve")
    secrets.made_once(old / "ray_token", "token")
    secrets.made_once(old / "serve_database_url", "url")
    key = (old / "service_serve.pem").read_text()
    secrets.make_all(old, rays)
    assert ((rays / "service_serve.pem").read_text(), (rays / "ray_token").read_text()) == (key, "token")
    assert not {"service_serve.pem", "ray_token", "serve_database_url"} & {path.name for path in old.iterdir()}
    assert (old / secrets.PUBLIC_KEY).read_text() == (rays / secrets.PUBLIC_KEY).read_text()
