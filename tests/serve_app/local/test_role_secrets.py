"""Each service's folder has what that service reads and nothing else, whoever runs the step, and however often."""

import pytest

from serve_app.local import role_secrets, users
from serve_app.local.role_secrets import FOLDERS, given_in, hand_out


@pytest.fixture
def owners(monkeypatch):
    """Who was given what; only root may really give files away."""
    found = {}
    monkeypatch.setattr(role_secrets.os, "chown", lambda path, uid, gid, **_: found.__setitem__(path, (uid, gid)))
    return found


def files_in(folder):
    return {path.name for path in folder.iterdir()}


def test_every_service_gets_its_own(tmp_path, owners):
    hand_out(tmp_path, "postgres:5432", {"smtp_password": "hidden"})
    for name, folder in FOLDERS.items():
        more = {"smtp_password"} if name == "ledger" else set()
        assert files_in(tmp_path / name) == {*folder.files, *more}
        assert {owners[path] for path in (tmp_path / name, *(tmp_path / name).iterdir())} == {(folder.owner, folder.owner)}
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / name).iterdir()} <= {0o400}
    assert owners[tmp_path / "socket"] == (users.LEDGER[1], users.INTERNAL_GROUP)
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o710


def test_no_two_services_share_what_only_one_may_have(tmp_path, owners):
    hand_out(tmp_path, "postgres:5432", {})
    shared = (".pub.pem", ".pub", "ray_token")  # the guard adds Ray's token to what operators ask
    private = [path.read_text() for name in FOLDERS for path in (tmp_path / name).iterdir() if not path.name.endswith(shared)]
    assert len(private) == len(set(private))
    assert {path.parent.name for path in tmp_path.rglob("ray_token")} == {"kept", "ray", "guard"}
    serve = (tmp_path / "ray" / "serve_database_url").read_text()
    assert serve.startswith("postgresql://gfe_serve:")
    assert serve.endswith("@postgres:5432/gfe")


def test_a_second_run_changes_nothing(tmp_path, owners):
    hand_out(tmp_path, "postgres:5432", {})
    (tmp_path / "ledger" / "first_api_key").write_text("made by the ledger")
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    hand_out(tmp_path, "postgres:5432", {})
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_known_names_are_taken_from_the_operators_folder(tmp_path):
    (tmp_path / "stripe_api_key").write_text("sk_live\n")
    (tmp_path / "id_rsa").write_text("not yours")
    assert given_in(tmp_path) == {"stripe_api_key": "sk_live"}
