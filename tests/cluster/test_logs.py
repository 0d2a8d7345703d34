"""Logs hold neither credentials nor what people wrote."""

import json
import logging

import pytest
import structlog

from cluster import logs

KEY = "gfe_live_abcdefgh_" + "x" * 43 + "_123456"
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJzZXJ2ZSJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def restored():
    saved = structlog.get_config()
    yield
    structlog.configure(**saved)


@pytest.fixture
def entry(capsys):
    return lambda: json.loads(capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": f"Bearer {TOKEN}"}, {"api_key": KEY}, {"apikey": "x"}, {"service_token": "x"}, {"db_password": "x"}, {"prompt": "my secret"},
        {"messages": [{"content": "my secret"}]}, {"content": "my secret"},
    ],
)  # fmt: skip
def test_secret_and_personal_fields_are_hidden(entry, fields):
    logs.configure("worker")
    structlog.get_logger().info("something_happened", **fields)
    said = entry()
    assert {said[name] for name in fields} == {logs.HIDDEN}
    assert (said["event"], said["process"], said["level"]) == ("something_happened", "worker", "info")


@pytest.mark.parametrize("secret", [KEY, TOKEN, "postgresql://gfe_serve:hunter2@/gfe?host=/run"])
def test_secrets_inside_texts_and_tracebacks_are_hidden(entry, secret):
    logs.configure("worker")
    log = structlog.get_logger()
    log.info("refused", reason=f"it was {secret}!")
    said = json.dumps(entry())
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("broke")
    traced = entry()
    for text in (said, json.dumps(traced)):
        assert logs.HIDDEN in text
        assert "hunter2" not in text
        assert KEY not in text
        assert TOKEN not in text
    assert "ValueError" in traced["exception"]


def test_counts_of_tokens_are_not_secrets(entry):
    logs.configure("worker")
    structlog.get_logger().info("ended", prompt_tokens=3, job="job_1")
    said = entry()
    assert (said["prompt_tokens"], said["job"]) == (3, "job_1")


def test_what_is_below_the_level_is_not_written(capsys):
    logs.configure("worker", logging.WARNING)
    structlog.get_logger().info("quiet")
    assert capsys.readouterr().err == ""


def test_a_traceback_on_a_terminal_shows_no_local_variables(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logs.configure("worker")

    def fails(credential):
        raise ValueError(len(credential))

    try:
        fails(KEY)
    except ValueError:
        structlog.get_logger().exception("it_failed")
    said = capsys.readouterr().err
    assert "ValueError: 68" in said
    assert "fails" in said
    assert KEY not in said
