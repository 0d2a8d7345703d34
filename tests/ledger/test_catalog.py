"""The catalog: who may change it, what is kept of a change, and what the feed tells of it."""

import asyncio
import json
import os
import sys

import pytest

from cluster.runtime.models import KNOWN
from tests.ledger.people import PASSWORD, bearer, sign_in, somebody

QWEN = {
    "name": "Qwen3:8B", "digest": "a" * 64, "source": "ollama.com", "license": "Apache-2.0", "size_bytes": 5_200_000_000, "context_tokens": 8192,
}  # fmt: skip


@pytest.fixture
async def operator(ledger):
    from ledger.audit_log import Origin
    from ledger.identity.passwords import Passwords
    from ledger.operators import people

    await ledger.context.database.transact(
        lambda connection: people.create_operator(connection, "olga", PASSWORD, Passwords((8, 1)), 10, Origin("test"))
    )
    return bearer((await sign_in(ledger, "olga")).json()["access"])


async def test_what_we_fetch_ourselves_is_in_it_from_the_beginning(ledger, operator):
    listed = (await ledger.http.get("/api/admin/catalog/", headers=operator)).json()["results"]
    assert {row["name"]: (row["digest"], row["size_bytes"], row["license"], row["source"]) for row in listed} == {
        known.name: (known.gguf_sha256, known.size_bytes, known.license, f"{known.package} {known.version}") for known in KNOWN.values()
    }


async def test_a_model_is_added_replaced_and_removed_and_the_feed_tells_each(ledger, operator):
    before = (await ledger.client.feed(None)).seq
    made = await ledger.http.post("/api/admin/catalog/", json=QWEN, headers=operator)
    assert (made.status_code, made.json()["name"]) == (201, "qwen3:8b")
    await ledger.http.post("/api/admin/catalog", json=QWEN | {"digest": "b" * 64}, headers=operator)
    listed = (await ledger.http.get("/api/admin/catalog/", headers=operator)).json()["results"]
    assert [row["digest"] for row in listed if row["name"] == "qwen3:8b"] == ["b" * 64]
    gone = await ledger.http.delete("/api/admin/catalog/qwen3:8b/", headers=operator)
    assert gone.status_code == 204
    assert (await ledger.http.delete("/api/admin/catalog/qwen3:8b/", headers=operator)).status_code == 404
    told = (await ledger.client.feed(before)).entries
    assert [(entry.kind, entry.subject, entry.detail.get("digest")) for entry in told] == [
        ("model", "qwen3:8b", "a" * 64),
        ("model", "qwen3:8b", "b" * 64),
        ("model", "qwen3:8b", None),
    ]
    lines = (await ledger.http.get("/api/admin/audit-log/", headers=operator)).json()["results"]
    assert [line["action"] for line in lines if line["target"] == "qwen3:8b"] == ["catalog.removed", "catalog.added", "catalog.added"]


async def test_a_name_with_a_namespace_and_without_a_tag_is_kept_with_its_tag(ledger, operator):
    await ledger.http.post("/api/admin/catalog/", json=QWEN | {"name": "library/Phi"}, headers=operator)
    listed = (await ledger.http.get("/api/admin/catalog/", headers=operator)).json()["results"]
    assert "library/phi:latest" in {row["name"] for row in listed}
    assert (await ledger.http.delete("/api/admin/catalog/library/phi/", headers=operator)).status_code == 204


WRONG = (
    {"digest": "abc"}, {"digest": "A" * 64}, {"size_bytes": 0}, {"context_tokens": 0}, {"name": ""}, {"name": "a b"}, {"name": "0:"}, {"more": 1},
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_field_is_400(ledger, operator, wrong):
    answer = await ledger.http.post("/api/admin/catalog/", json=QWEN | wrong, headers=operator)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_nobody_else_sees_or_changes_it(ledger):
    ada = await somebody(ledger)
    for method in ("GET", "POST"):
        answer = await ledger.http.request(method, "/api/admin/catalog/", json=QWEN if method == "POST" else None, headers=ada.headers)
        assert answer.status_code == 403


async def test_the_command_changes_it_on_the_machine_itself(ledger):
    environment = {**os.environ, "GFE_SECRETS_DIR": str(ledger.folder), "GFE_LEDGER_SOCKET": str(ledger.context.settings.ledger_socket)}

    async def catalog(*arguments):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", "from ledger.admin_cli import app; app()", "catalog", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, wrong = await process.communicate()
        return process.returncode, said.decode(), wrong.decode()

    terms = ("--source", "ollama.com", "--license", "MIT", "--size", "5000", "--context", "8192")
    assert (await catalog("add", "Qwen3:8B", "--digest", "a" * 64, *terms))[:2] == (0, "qwen3:8b may be offered\n")
    listed = json.loads((await catalog("list", "--json"))[1])
    assert {row["name"]: row["digest"] for row in listed}["qwen3:8b"] == "a" * 64
    refused = await catalog("add", "qwen3:8b", "--digest", "short", *terms)
    assert (refused[0], refused[2].startswith("digest: ")) == (1, True)
    assert (await catalog("remove", "qwen3:8b"))[0] == 0
    assert (await catalog("remove", "qwen3:8b"))[0] == 1
    assert "qwen3:8b" not in (await catalog("list"))[1]
