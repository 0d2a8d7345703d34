import json
import os
import stat

import pytest

from serve_app.local import secrets
from serve_app.local.home import Home, HomeUnusable, read_json, write_atomically


@pytest.fixture
def home(tmp_path, monkeypatch):
    made = Home(tmp_path / "a home" / "gfe")
    yield made
    monkeypatch.undo()
    for folder in sorted(made.runtime.glob("**/*"), reverse=True):
        folder.rmdir() if folder.is_dir() else folder.unlink()
    if made.runtime.exists():
        made.runtime.rmdir()


def test_folders_are_closed_to_others(home):
    home.make()
    for folder in (
        home.root,
        home.secrets,
        home.ray_secrets,
        home.edge_secrets,
        home.guard_secrets,
        home.logs,
        home.run,
        home.rays,
        home.haproxy,
        home.notes,
        home.ledger_socket.parent,
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert not stat.S_IMODE(home.runtime.stat().st_mode) & 0o066


def test_paths_of_sockets_fit_into_their_107_bytes_wherever_the_home_is(home, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 2**32 - 2)  # the longest user id
    session = home.ray / "session_2026-11-24_09-39-44_808924_1234567" / "sockets" / "plasma_store"
    assert max(len(str(path)) for path in (home.ledger_socket, session, home.postgres_socket / ".s.PGSQL.5432")) <= 107
    assert len(str(home.haproxy / ("0" * 56) / "a")) <= 97  # HAProxy binds a longer name first
    assert " " not in str(home.runtime)


def test_the_same_home_has_the_same_tag_and_another_has_another(tmp_path):
    assert Home(tmp_path / "a").tag == Home(tmp_path / "a").tag != Home(tmp_path / "b").tag


def test_a_home_that_cannot_be_written_is_refused_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="cannot be written") as refused:
        Home(tmp_path / "file" / "gfe").make()
    assert "GFE_HOME" in refused.value.hint


def test_a_runtime_folder_that_is_a_link_is_refused(home, tmp_path):
    home.runtime.symlink_to(tmp_path)
    with pytest.raises(HomeUnusable, match="belongs to somebody else"):
        home.make()
    home.runtime.unlink()


def test_what_is_written_atomically_is_read_whole(tmp_path):
    write_atomically(tmp_path / "state.json", {"parts": [1, 2]})
    assert read_json(tmp_path / "state.json") == {"parts": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    (tmp_path / "broken.json").write_text("{")
    assert read_json(tmp_path / "broken.json") is None
    assert read_json(tmp_path / "absent.json") is None


def test_secrets_are_made_once_and_closed(tmp_path):
    first = secrets.make_all(tmp_path)
    texts = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert secrets.make_all(tmp_path) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == texts
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert len(texts["api_key_pepper"]) == len(texts["ray_token"]) == 64
    assert set(first) == {"postgres", "gfe_ledger", "gfe_pay", "gfe_serve"}


def test_the_public_half_belongs_to_the_private_half(tmp_path):
    from cluster.service_tokens import ServiceTokens, TokenVerifier

    secrets.make_all(tmp_path)
    token = ServiceTokens((tmp_path / "service_serve.pem").read_bytes(), "serve").mint("node")
    assert TokenVerifier((tmp_path / "service_serve.pub.pem").read_bytes(), "node").verify(token) == "serve"


def test_a_secret_that_somebody_else_planted_as_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "secret").symlink_to(tmp_path / "target")
    secrets.overwrite(tmp_path / "secret", "ours")
    assert (tmp_path / "target").read_text() == "theirs"
    assert not (tmp_path / "secret").is_symlink()
    assert json.dumps((tmp_path / "secret").read_text()) == '"ours"'
