"""Why a node gets no jobs, and how well it does: told to its owner alone."""

import asyncio
import json
from dataclasses import replace

import psycopg
import pytest
from typer.testing import CliRunner

from cluster.nodes import Node, NodeKind, OfferedModel, Snapshot
from serve_app.catalog import Catalog, CatalogMode
from serve_app.cli import nodes as nodes_command
from serve_app.cli import wallet as wallet_command
from serve_app.feed import AdmissionFact, NodeFact
from serve_app.why_no_jobs import why_models, why_no_jobs
from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer
from tests.serve_app.test_nodes import own_node

FACT = NodeFact(owner="user_a", kind="edge", state="active", name="my GPU")
MODEL = OfferedModel(name="m:1b", digest="d", size_bytes=1, context_tokens=100, is_loaded=True)
NODE = Node(id="node_a", name="my GPU", kind=NodeKind.EDGE, url="http://x", slots=2, running=0, models=(MODEL,))


@pytest.mark.parametrize(
    ("node", "fact", "is_broken", "said"),
    [
        (NODE, FACT, False, []),
        (None, FACT, False, ["It is not connected"]),
        (replace(NODE, url=""), FACT, False, ["It is not connected"]),
        (None, replace(FACT, state="paused"), False, ["It is paused", "It is not connected"]),
        (NODE, replace(FACT, state="quarantined"), False, ["It is in quarantine"]),
        (NODE, replace(FACT, state="unheard of"), False, ["It is unheard of."]),
        (replace(NODE, is_healthy=False, reason="Ollama does not answer"), FACT, False, ["It is not healthy: Ollama does not answer."]),
        (replace(NODE, is_draining=True, reason="a game is running"), FACT, False, ["It takes no new jobs: a game is running."]),
        (NODE, FACT, True, ["Too many attempts failed"]),
        (replace(NODE, running=2), FACT, False, ["All its slots are in use: 2 of 2."]),
        (replace(NODE, slots=0), FACT, False, ["It offers no slot."]),
        (replace(NODE, models=()), FACT, False, ["It offers no model"]),
    ],
)
def test_what_keeps_every_job_away_is_told(node, fact, is_broken, said):
    found = why_no_jobs(node, fact, is_broken=is_broken)
    assert len(found) == len(said)
    assert all(sentence.startswith(begin) for sentence, begin in zip(found, said, strict=True))


def snapshot(*nodes, waiting=None):
    return Snapshot.of(1, {node.id: node for node in nodes}, waiting)


def why(*nodes, catalog=None, waiting=None, admission=None):
    (row,) = why_models("node_a", snapshot(*nodes, waiting=waiting), catalog or Catalog(), lambda model, digest: admission)
    return row["offered"], row["why"]


def test_a_models_rivals_and_its_queue_are_told():
    other, busy = replace(NODE, id="node_b"), replace(NODE, id="node_c", running=2)
    assert why(NODE) == (True, "Nobody waits for it; no other node offers it, so jobs come here when somebody asks for it.")
    assert why(NODE, other, busy)[1].startswith("Nobody waits for it; 2 other nodes offer it, 1 of them with a free slot")
    assert why(NODE, other)[1].startswith("Nobody waits for it; 1 other node offers it, 1 of them")
    assert why(NODE, waiting={"m:1b": 3})[1] == "3 jobs wait for it now."


def test_a_model_that_may_not_be_offered_is_told():
    approved = Catalog(CatalogMode.APPROVED, {"m:1b": "another"})
    assert why(NODE, catalog=Catalog(CatalogMode.APPROVED))[0] is False
    assert why(NODE, catalog=approved) == (
        False,
        "It is not the one of the platform's catalog, its digest is another: pull it again.",
    )
    assert why(replace(NODE, models=(replace(MODEL, fits=False),))) == (False, "The machine's memory is too small for it.")
    assert why(replace(NODE, models=(replace(MODEL, fits=False, trouble="It needs 9 GiB."),))) == (False, "It needs 9 GiB.")
    assert why_models("node_gone", snapshot(NODE), Catalog(), lambda model, digest: None) == []


def test_a_model_that_is_not_admitted_is_told():
    waiting = replace(NODE, models=(replace(MODEL, is_admitted=False, digest="a" * 64),))
    assert why(waiting) == (False, "It is to be tested before consumers' jobs come here; that begins in a moment.")
    testing = AdmissionFact("testing", "Being tested: 7 of 20 canaries passed.")
    assert why(waiting, admission=testing) == (False, testing.said)
    assert why(waiting, admission=AdmissionFact("admitted", "Admitted."))[0] is False  # the edge gateway hears of it in a moment
    unnamed = replace(NODE, models=(replace(MODEL, is_admitted=False),))
    assert why(unnamed) == (False, "The machine does not tell the digest of its weights, so that it cannot be tested.")
    unverified = AdmissionFact("admitted", "Admitted, not verified: the operator has no copy of this model.")
    offered, said = why(NODE, admission=unverified)
    assert offered
    assert said.startswith(f"{unverified.said} Nobody waits for it")


# --- over the API ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def market(platform_with, database):
    platform = await platform_with(credits="100.00", nodes=2)
    bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, bob.headers, "node_1")
    platform.bob = Consumer(platform, bob.headers)
    platform.bobs_key = await bob.key()
    return platform


async def test_the_owner_is_told_by_id_or_name_and_nobody_else(market):
    for wanted in ("node_1", "n"):
        answer = await market.bob.get(f"/api/computing/nodes/{wanted}/why/")
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["node_id"], said["takes_jobs"], said["reasons"]) == ("node_1", True, [])
        assert "fake:words=3" in {row["model"] for row in said["models"]}
    for path in ("node_1", "node_local", "nobody"):
        assert (await Consumer(market).get(f"/api/computing/nodes/{path}/why/")).status_code == 404
    assert (await market.bob.get("/api/computing/nodes/node_local/why/")).status_code == 404


async def test_attempts_that_broke_count_against_their_node_also_when_another_one_answered(market, database):
    """The job is taken over: the consumer sees nothing of it, the provider does."""
    consumer = Consumer(market)
    await consumer.ended(await consumer.submitted(provider="bob"))
    await consumer.ended(await consumer.submitted(model="fake:garbage", provider="bob"))
    async with asyncio.timeout(60):
        while True:
            done = (await market.bob.get("/api/computing/nodes/node_1/why/")).json()["done"]
            if done["broken"] == 3:
                break
            await asyncio.sleep(0.05)
    assert (done["jobs"], done["attempts"], done["success_rate"]) == (1, 4, 0.25)
    stats = (await market.bob.get("/api/computing/provider-stats/")).json()
    assert stats["by_node"] == [done]
    assert (stats["completed"], stats["failed"]) == (1, 1)
    with psycopg.connect(database.admin_url) as admin:
        assert admin.execute("SELECT sum(broken) FROM serve_app.node_day WHERE node = 'node_local'").fetchone()[0] in {None, 0}


@pytest.fixture
def gfe(market, monkeypatch):
    monkeypatch.setenv("GFE_API_URL", market.url)
    monkeypatch.setenv("GFE_CONSOLE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GFE_API_KEY", market.bobs_key)

    async def run(app, *arguments):
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))

    return run


async def test_the_command_tells_it(gfe):
    told = await gfe(nodes_command.app, "why", "node_1")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.splitlines()[0] == "n takes jobs; 0 paid in 30 days"
    assert "fake:words=3: Nobody waits for it; 1 other node offers it" in told.stdout
    assert json.loads((await gfe(nodes_command.app, "why", "node_1", "--json")).stdout)["node_id"] == "node_1"
    assert "No node 'other' is here now." in (await gfe(nodes_command.app, "why", "other")).stderr


def test_of_a_banned_node_the_command_tells_what_the_ledger_found(monkeypatch):
    done = {"jobs": 4, "success_rate": 1.0}
    said = {"node_id": "node_1", "name": "n", "takes_jobs": False, "reasons": ["It is banned: …"], "models": [], "done": done}
    asked = []

    class Found:
        api_url, console_url = "http://api", "http://console"

        def call(self, method, url):
            asked.append(url)
            return {"state_reason": "A third audit found it."} if url.startswith(self.console_url) else said

    monkeypatch.setattr(nodes_command, "installation", Found)
    told = CliRunner().invoke(nodes_command.app, ["why", "n"])
    assert told.stdout.splitlines() == [
        "n takes no jobs; 4 paid in 30 days, 100.0% of the attempts ended well", "It is banned: …", "A third audit found it.",
    ]  # fmt: skip
    assert asked == ["http://api/api/computing/nodes/n/why/", "http://console/api/core/nodes/node_1/audits/"]


def test_earnings_are_shown_by_day_model_or_node(monkeypatch):
    escrow = {"node_id": "node_1", "name": "my GPU", "amount": "2.00", "first_at": None, "last_at": "2026-12-01T10:20:30+00:00"}
    said = {
        "total": "9.00", "period": "3.00", "jobs": 3, "pending": "2.00", "released": "7.00",
        "by_day": [{"date": "2026-11-25", "earned": "0.00", "jobs": 0}, {"date": "2026-11-26", "earned": "3.00", "jobs": 3}],
        "by_model": [{"model": "m", "earned": "3.00", "jobs": 3}],
        "by_node": [{"node_id": "node_1", "name": "my GPU", "earned": "3.00", "jobs": 3}],
        "escrows": [escrow, escrow | {"name": "", "last_at": None}],
    }  # fmt: skip

    class Found:
        console_url = "http://console"

        def call(self, method, url, params):
            assert (method, url, params) == ("GET", "http://console/api/payments/earnings/", {"days": 7})
            return said

    monkeypatch.setattr(wallet_command, "installation", Found)

    def run(*arguments):
        return CliRunner().invoke(wallet_command.app, ["earnings", "--days", "7", *arguments])

    by_node = run()
    assert by_node.stdout.splitlines() == [
        "earned 9.00 in all, 3.00 by 3 jobs in 7 days; 7.00 can be withdrawn, 2.00 waits", "", "node    earned  jobs", "my GPU  3.00    3",
    ]  # fmt: skip
    assert by_node.stderr == (
        "\n2.00 of my GPU waits; all of it can be withdrawn after 2026-12-01T10:20 UTC\n"
        "\n2.00 of node_1 waits: nothing is released while the node is in quarantine or banned\n"
    )
    assert run("--by", "day").stdout.splitlines()[-1].split() == ["2026-11-26", "3.00", "3"]
    assert run("--by", "model").stdout.splitlines()[-1].split() == ["m", "3.00", "3"]
    assert json.loads(run("--json").stdout) == said
    refused = run("--by", "hour")
    assert (refused.exit_code, refused.stderr) == (1, "error: --by hour: must be day, model, node\n")
