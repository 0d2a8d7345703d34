"""A job's receipt: asked for over the API, and by the command that checks it (both sides get receipts that they can verify)."""

import asyncio
import base64
import json
from dataclasses import replace

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from cluster.jobs import AgentReceipt, End, Text
from cluster.receipts import Receipt, sign, text_sha256
from serve_app.cli import jobs as command
from serve_app.receipts import BadReceipt, check, check_answer
from tests.edge_platform import running_edge_platform
from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer
from tests.serve_app.test_nodes import own_node


def base64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Vouching:
    """The client of nodes; what ends on an edge node is signed with its key, as its agent would and the edge gateway has checked."""

    def __init__(self, nodes, key, digest=None):
        self._nodes, self._key, self._digest = nodes, key, digest

    def __getattr__(self, name):
        return getattr(self._nodes, name)

    async def run(self, url, attempt):
        texts = [event for event in attempt.delivered if isinstance(event, Text)]
        async for event in self._nodes.run(url, attempt):
            if isinstance(event, Text):
                texts.append(event)
            if isinstance(event, End) and attempt.node == "node_1":
                event = replace(event, receipt=self._receipt(attempt, event, texts))  # noqa: PLW2901
            yield event

    def _receipt(self, attempt, end, texts):
        told = text_sha256("".join(one.content for one in texts), "".join(one.thinking for one in texts))
        claims = Receipt(
            job=attempt.job, lease=attempt.number, node=attempt.node, model_digest=self._digest or attempt.model_digest, text_sha256=told,
            prompt_tokens=90, completion_tokens=80, reason=end.reason,
        )  # fmt: skip
        return AgentReceipt(
            model_digest=claims.model_digest, text_sha256=told, signature=sign(claims, self._key), prompt_tokens=90, completion_tokens=80
        )


@pytest.fixture
async def market(platform_with, database):
    """Bob's edge node beside the operator's."""
    platform = await platform_with(credits="100.00", nodes=2)
    platform.bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, platform.bob.headers, "node_1")
    platform.node_key = Ed25519PrivateKey.generate()
    public = base64url(platform.node_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.node SET public_key = %s WHERE id = 'node_1'", [public])
    platform.context.nodes = Vouching(platform.context.nodes, platform.node_key)
    platform.keys = (await platform.ledger.http.get("/.well-known/jwks.json")).json()
    return platform


async def ended(market, **asked):
    owner = Consumer(market)
    name = (await owner.ended(await owner.submitted(**{"provider": "bob"} | asked)))["id"]
    await market.settled()
    return name


async def receipt(market, job):
    answer = await Consumer(market).get(f"/api/computing/jobs/{job}/receipt/")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("model", ["fake:words=3", "fake:thinks", "fake:tools"])
async def test_both_signatures_and_the_hash_of_the_answer_fit(market, model):
    job = await ended(market, model=model)
    said = await receipt(market, job)
    claims = check(said["receipt"], market.keys, job)
    assert claims == said["claims"]
    row = await Consumer(market).job(job)
    assert (claims["cost"], claims["node"], claims["outcome"]) == (row["cost"], "node_1", "succeeded")
    assert {name: claims["usage"][name] for name in row["usage"]} == row["usage"]
    assert (claims["agent"]["prompt_tokens"], claims["agent"]["completion_tokens"]) == (90, 80)  # what it says is kept, not paid for
    record = await market.context.store.find(_id(job))
    thinking = "".join(text.thinking for text in _told(record))
    check_answer(claims, (row["result"] or {}).get("output", ""), thinking)
    assert bool(thinking) == (model == "fake:thinks")
    with pytest.raises(BadReceipt, match="its hash is another"):
        check_answer(claims, "another answer", thinking)


def _id(job):
    from ledger.client import uuid_of_job

    return uuid_of_job(job)


def _told(record):
    from serve_app.store.answers import told_of

    return told_of(record.result, record.marks)


async def test_of_a_trusted_node_the_platform_alone_signs(market):
    job = await ended(market, provider="node_local")
    claims = check((await receipt(market, job))["receipt"], market.keys, job)
    assert (claims["node"], claims["node_key"], "agent" in claims) == ("node_local", None, False)
    assert len(claims["model_digest"]) == 64


async def test_a_failed_job_has_one_too(market):
    job = await ended(market, model="fake:garbage")
    claims = check((await receipt(market, job))["receipt"], market.keys, job)
    assert (claims["outcome"], claims["cost"], "agent" in claims) == ("voided", "0.00", False)


async def test_it_is_its_owners_alone_and_comes_when_the_job_is_settled(market):
    owner = Consumer(market)
    job = await owner.submitted(model="fake:hang@2", provider="bob")
    await owner.reaches(job, "RUNNING")
    while not market.workers[1]._attempts[job, 1].log.next_seq > 2:
        await asyncio.sleep(0.01)
    early = await owner.get(f"/api/computing/jobs/{job}/receipt/")
    assert (early.status_code, early.json()["code"]) == (409, "not_settled")
    other = await Consumer(market, market.bob.headers).get(f"/api/computing/jobs/{job}/receipt/")
    assert (other.status_code, other.json()["detail"]) == (404, "No Job matches the given query.")
    await owner.call("DELETE", f"/api/computing/jobs/{job}/")
    await owner.ended(job)
    await market.settled()
    claims = check((await receipt(market, job))["receipt"], market.keys, job)
    assert (claims["outcome"], "agent" in claims) == ("canceled", False)


async def test_a_node_that_vouches_for_other_weights_is_seen(market):
    market.context.nodes = Vouching(market.context.nodes._nodes, market.node_key, "e" * 64)
    job = await ended(market)
    with pytest.raises(BadReceipt, match="node_1 vouches for another model"):
        check((await receipt(market, job))["receipt"], market.keys, job)


async def test_through_the_edge_gateway_the_agents_own_signature_reaches_the_consumer(database, ledger_with):
    """The whole path: an agent that enrolled, its frames, the gateway's check, the driver, the books."""
    ledger = await ledger_with(welcome_credits="10.00")
    async with running_edge_platform(database, ledger) as made:
        agent = await made.agent(words=12)
        owner = Consumer(made.platform)
        job = (await owner.ended(await owner.submitted(model="m")))["id"]
        await made.platform.settled()
        said = await receipt(made.platform, job)
        claims = check(said["receipt"], (await ledger.http.get("/.well-known/jwks.json")).json(), job)
        assert (claims["node"], claims["agent"]["completion_tokens"]) == (agent.identity.node, 12)
        check_answer(claims, (await owner.job(job))["result"]["output"], "")


# --- the command ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gfe(market, monkeypatch, tmp_path):
    monkeypatch.setenv("GFE_API_URL", market.url)
    monkeypatch.setenv("GFE_CONSOLE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GFE_API_KEY", market.key)
    (tmp_path / "keys.json").write_text(json.dumps(market.keys))

    async def run(*arguments):
        return await asyncio.to_thread(CliRunner().invoke, command.app, ["receipt", *arguments])

    return run


async def test_a_receipt_is_shown_saved_and_verified_without_the_platform(gfe, market, tmp_path, monkeypatch):
    job, keys, saved = await ended(market, model="fake:thinks"), str(tmp_path / "keys.json"), tmp_path / "receipt.jwt"
    shown = await gfe(job, "--verify", "--jwks", keys, "--out", str(saved))
    assert shown.exit_code == 0, shown.stderr
    assert "cost     1.00 of 1.00 held" in shown.stdout
    assert "signed   by http://127.0.0.1:8080 and by the node" in shown.stdout
    assert shown.stderr == "\nverified: the platform's signature, the node's signature, the hash of the answer\n"
    monkeypatch.setenv("GFE_API_URL", "http://127.0.0.1:1")
    offline = await gfe(job, "--verify", "--jwks", keys, "--file", str(saved))
    assert (offline.exit_code, offline.stdout) == (0, shown.stdout)
    assert "the hash" not in offline.stderr
    said = json.loads((await gfe(job, "--file", str(saved), "--json")).stdout)
    assert (said["receipt"], said["claims"]["job"], said["verified"]) == (saved.read_text().strip(), job, [])


async def test_a_forged_receipt_is_refused_in_a_sentence(gfe, market, tmp_path):
    job, other = await ended(market), await ended(market)
    saved = tmp_path / "receipt.jwt"
    token = (await receipt(market, job))["receipt"]
    cases = {
        token.replace(token[60], "A" if token[60] != "A" else "B", 1): job,
        token: other,
        "nonsense": job,
    }
    for text, name in cases.items():
        saved.write_text(text)
        refused = await gfe(name, "--verify", "--jwks", str(tmp_path / "keys.json"), "--file", str(saved))
        assert (refused.exit_code, refused.stdout) == (1, ""), text
        assert refused.stderr.startswith("error: ")
        assert "do not rely on this receipt" in refused.stderr


async def test_an_answer_that_was_changed_afterwards_is_seen(gfe, market, tmp_path, database):
    job = await ended(market)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.job_text SET marks = NULL, result = 'something else' WHERE job_id = %s", [_id(job)])
    # The platform signs again what it keeps now; the node's signature is under what it delivered then.
    refused = await gfe(job, "--verify", "--jwks", str(tmp_path / "keys.json"))
    assert refused.exit_code == 1
    assert "node_1 vouches for another answer than the platform" in refused.stderr


async def test_keys_that_cannot_be_had_are_told(gfe, market):
    job = await ended(market)
    for options, said in [(["--jwks", "missing.json"], "cannot be read"), (["--jwks", __file__], "is no JSON"), ([], "does not answer")]:
        refused = await gfe(job, "--verify", *options)
        assert refused.exit_code == 1
        assert said in refused.stderr
