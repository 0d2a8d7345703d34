"""No input makes a 5xx (D21): generated requests to every operation that either port describes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.client import new_hold_id
from serve_app.local import secrets
from tests.ledger.people import PASSWORD

EXAMPLES = 10
pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
QUIET = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def served(database, tmp_path):
    """The ledger's own process over the test's database; answers its URL, socket and an operator's access token."""
    folder = tmp_path / "x"
    folder.mkdir()
    secrets.make_all(folder)
    secrets.overwrite(folder / "ledger_database_url", database.ledger_url)
    secrets.overwrite(folder / "pay_database_url", database.pay_url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "GFE_SECRETS_DIR": str(folder), "GFE_LEDGER_SOCKET": str(folder / "s" / "i.sock"), "GFE_LEDGER_PORT": str(port),
        "GFE_PUBLIC_URL": url, "GFE_REGISTERS_PER_HOUR": "1000000", "GFE_MAX_AGENTS": "10000",
    }  # fmt: skip
    run = [sys.executable, "-P", "-m", "ledger.cli"]
    subprocess.run([*run, "bootstrap"], env=environment, check=True, stdout=subprocess.DEVNULL)
    (folder / "password").write_text(PASSWORD)
    admin = [
        sys.executable,
        "-P",
        "-c",
        "from ledger.admin_cli import app; app()",
        "create-operator",
        "olga",
        "--password-file",
        str(folder / "password"),
    ]
    subprocess.run(admin, env=environment, check=True, stdout=subprocess.DEVNULL)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*run, "serve"], env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{url}/api/core/health/", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.05)
        tokens = httpx2.post(f"{url}/api/core/token/", json={"username": "olga", "password": PASSWORD}, trust_env=False).json()
        yield url, folder, tokens["access"]
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        process.terminate()
        process.wait(60)


def test_no_request_to_the_public_port_makes_a_5xx(served):
    url, _, token = served
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @QUIET
        @given(case=operation.as_strategy())
        def call(case):
            answer = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False)
            assert answer.status_code < 500, (case.method, case.path, case.body, answer.text)

        call()
        tried += 1
    assert tried > 55


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    "op", "id", "credential", "model", "prompt_tokens", "max_tokens", "ttl_s", "outcome", "completion_tokens", "counted_by", "node", "attempt",
    "reason", "older_than_s",
)  # fmt: skip
ANY = {
    "op": st.sampled_from(["place_hold", "capture", "void", "introspect", "find_holds"]), "id": st.uuids().map(str),
    "outcome": st.sampled_from(["succeeded", "incomplete", "canceled"]), "counted_by": st.sampled_from(["platform", "provider"]),
}  # fmt: skip


@st.composite
def operation(draw, key):
    """An operation that is nearly right: fields of the right kind, some of them replaced by anything."""
    fields = {
        "op": "place_hold", "id": str(new_hold_id()), "credential": key, "model": "m", "prompt_tokens": draw(st.integers(-1, 2**40)),
        "max_tokens": draw(st.integers(-1, 2**40)), "ttl_s": draw(st.integers(-1, 10**7)),
    }  # fmt: skip
    for name in draw(st.sets(st.sampled_from(FIELDS), max_size=4)):
        fields[name] = draw(ANY.get(name, JSON) | JSON)
    return fields


def test_no_operation_of_the_internal_port_makes_a_5xx_or_costs_its_neighbor(served):
    from cluster.service_tokens import ServiceTokens

    _, folder, _ = served
    key = (folder / "first_api_key").read_text()
    tokens = ServiceTokens((folder / "service_serve.pem").read_bytes(), "serve")
    good = {"op": "introspect", "credential": key}
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(folder / "s" / "i.sock")), base_url="http://internal") as http:

        @settings(QUIET, max_examples=200)
        @given(operations=st.lists(operation(key) | JSON, min_size=1, max_size=4))
        def send(operations):
            headers = {"Authorization": f"Bearer {tokens.mint('ledger-internal')}"}
            answer = http.post("/internal/v1/operations", content=json.dumps({"operations": [*operations, good]}), headers=headers)
            assert answer.status_code == 200, answer.text
            answers = answer.json()["answers"]
            assert len(answers) == len(operations) + 1
            assert answers[-1]["answer"] == "caller"

        send()
