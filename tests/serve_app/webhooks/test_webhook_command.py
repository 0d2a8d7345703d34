"""`gfe jobs webhook`, and the snippets of its documentation."""

import asyncio
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli import jobs as command
from serve_app.cli import webhooks
from serve_app.cli.http import Installation
from serve_app.webhooks.signing import Secrets, Signer
from tests.serve_app.webhooks.desk import call, chat, deliver, deliveries, replica
from tests.serve_app.webhooks.receiver import verified

PAGE = Path(__file__).parents[3] / "docs/concepts/webhooks.md"


@pytest.fixture
def gfe(platform, monkeypatch):
    monkeypatch.setattr(webhooks, "installation", lambda: Installation(platform.url, "", platform.key))

    async def run(*arguments):
        return await asyncio.to_thread(CliRunner().invoke, command.app, ["webhook", *arguments])

    return run


async def test_a_webhook_is_added_tested_rotated_looked_at_and_removed(gfe, platform, database, receiver):
    added = await gfe("add", receiver.url, "--event", "job.failed", "--description", "orders")
    id_, secret = added.stdout.split()
    assert (added.exit_code, "not shown again" in added.stderr) == (0, True)
    listed = (await gfe("list")).stdout
    assert all(word in listed for word in (id_, receiver.url, "job.failed", "every", "well"))
    queued = json.loads((await gfe("test", id_, "--json")).stdout)
    waiting = (await gfe("deliveries", id_)).stdout
    assert all(word in waiting for word in (queued["id"], "webhook.test", "pending", "waits"))
    async with replica(platform, database, runs=False) as deliverer:
        await deliver(deliverer)
        assert verified(secret, receiver.got[0])["data"] == {"webhook": id_}
        shown = (await gfe("deliveries")).stdout
        assert all(word in shown for word in ("delivered", "answered 200"))
        assert (await gfe("resend", queued["id"])).stdout == f"queued {queued['id']}\n"
        await deliver(deliverer)
        assert receiver.ids == [queued["id"]] * 2
        receiver.answers = [500]
        await chat(platform, "fake:500")
        await deliver(deliverer)
    failing = (await gfe("deliveries", "--limit", "1")).stdout
    assert "It answered 500. Next try " in failing
    assert "fails since" in (await gfe("list")).stdout
    rotated = json.loads((await gfe("rotate", id_, "--json")).stdout)
    assert (rotated["secret_version"], rotated["secret"] == secret) == (2, False)
    assert (await gfe("rotate")).stdout.startswith("whsec_")
    assert (await gfe("remove", id_)).stdout == f"removed {id_}\n"
    assert json.loads((await gfe("list", "--json")).stdout) == []
    assert await deliveries(platform) == []


async def test_a_disabled_webhook_says_why_and_is_enabled_again(gfe, platform, receiver):
    made = json.loads((await gfe("add", receiver.url, "--json")).stdout)
    await call(platform, "PATCH", f"{made['id']}/", json={"enabled": False})
    assert "disabled: Disabled by its owner." in (await gfe("list")).stdout
    refused = await gfe("test", made["id"])
    assert (refused.exit_code, "Enable it first" in refused.stderr) == (1, True)
    assert (await gfe("enable", made["id"])).stdout == f"{made['id']} is enabled\n"


async def test_a_url_that_is_not_allowed_is_refused_in_words(gfe):
    refused = await gfe("add", "https://10.0.0.1/")
    assert (refused.exit_code, "not public" in refused.stderr) == (1, True)


# --- the page ---------------------------------------------------------------------------------------------------------------------------

SECRETS, SIGNER = Secrets(b"root"), Signer.of_account("user_a", 2, datetime.now(UTC))
BODY = '{"type": "job.succeeded", "data": {"model": "é"}}'


def snippet(start):
    """The indented block of the page that begins like this."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), re.MULTILINE)
    (found,) = [block for block in blocks if block.lstrip().startswith(start)]
    return "\n".join(line.removeprefix("    ") for line in found.splitlines())


def signed(body=BODY, at=None):
    return SECRETS.headers(SIGNER, "evt_1", body, at or datetime.now(UTC))


def secret(version):
    return SECRETS.secret(Signer.of_account("user_a", version, None))


def test_the_snippets_in_python_take_what_is_ours_and_nothing_else():
    known = {}
    exec(snippet("import base64"), known)
    is_ours = known["is_ours"]
    assert all(is_ours(secret(version), signed(), BODY.encode()) for version in (1, 2))
    assert not is_ours(secret(3), signed(), BODY.encode())
    assert not is_ours(secret(2), signed(), BODY.replace("succeeded", "failed").encode())
    assert not is_ours(secret(2), signed(at=datetime(2026, 1, 1, tzinfo=UTC)), BODY.encode())


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_snippet_in_javascript_takes_what_is_ours_and_nothing_else(tmp_path):
    cases = [(secret(1), signed(), BODY), (secret(2), signed(), BODY), (secret(3), signed(), BODY), (secret(2), signed(), BODY + " ")]
    program = f"{snippet('import { createHmac')}\nconsole.log(JSON.stringify({json.dumps(cases)}.map((one) => isOurs(...one))));\n"
    (tmp_path / "page.mjs").write_text(program)
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, True, False, False]
