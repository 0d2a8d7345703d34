"""A node that serves a worse copy of the model under its name is caught in three audits, and banned; an honest one is left alone.

The copy is of the embedded model, its weights requantized to Q4_0; the node claims the original's digest. Answers, reference and audits are real.
"""

import contextlib

import pytest

from bench.requantize import requantize
from cluster.audit.reference import Reference
from cluster.runtime.front.model import Manifest
from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from serve_app.auditor.examining import Examiner
from serve_app.auditor.metrics import AuditorMetrics
from serve_app.auditor.working import Auditor
from tests.books import unquiet
from tests.edge_agent import execute
from tests.edge_node import only_edge_node
from tests.front_in_process import digest_of, front_on
from tests.serve_app.test_auditing import auditors_key, desk_of

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]
CONTEXT = 512
ANSWER_TOKENS = 72
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "text", "schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
}
PROMPTS = ("Write a story about a clock.", "Explain how the sea makes salt.", "Give me advice for a long winter.")


@pytest.fixture(scope="module")
def original():
    return fetch(SMOLLM2, cache_folder(), Mirrors())


@pytest.fixture(scope="module")
def copy(original, tmp_path_factory):
    target = tmp_path_factory.mktemp("copy") / "q4_0.gguf"
    requantize(original, target, "q4_0")
    return target


@contextlib.asynccontextmanager
async def front_with(store, weights):
    """A front whose `smollm2:135m` has these weights."""
    async with front_on(store, context_tokens=CONTEXT) as front:
        front.library.blobs.adopt(weights, sha256 := digest_of(weights.read_bytes()).removeprefix("sha256:"))
        await front.library.put(Manifest(name=SMOLLM2.name, weights=sha256, size_bytes=weights.stat().st_size))
        yield front


@pytest.fixture
async def reference(original, tmp_path):
    async with front_with(tmp_path / "reference", original) as front:
        client = Reference(front.url)
        await client.start()
        yield client
        await client.aclose()


async def audited(platform, database, reference, weights, store, ways):
    """Let a node with these weights answer three chats, asked in these ways and each audited; answers its state and flags, and both wallets."""
    examiner = Examiner(reference, auditors_key(platform.ledger))
    auditor = Auditor(platform.ledger.auditor, examiner, AuditorMetrics(), 1)
    async with (
        front_with(store, weights) as front,
        only_edge_node(platform, database, front.url, SMOLLM2.gguf_sha256) as (node, owner),
        desk_of(platform) as desk,
    ):
        for prompt, way in zip(PROMPTS, ways, strict=True):
            answer = await platform.chat(SMOLLM2.name, prompt, **{"top_p": 0.9, "max_tokens": ANSWER_TOKENS, **way})
            assert answer.status_code == 200, answer.text
            assert await platform.settled()
            await desk.drained()
            assert await auditor.work() == 1
        ((state, flags),) = execute(
            database,
            "SELECT n.state, count(*) FILTER (WHERE v.is_flagged) FROM ledger.node n JOIN ledger.audit_verdict v ON v.node_id = n.id "
            "WHERE n.id = %s GROUP BY n.state",
            [node],
        )
        earned = (await platform.ledger.http.get("/api/payments/wallet/", headers=owner.headers)).json()["balance"]
        return state, flags, await platform.settled(), earned


async def test_a_copy_of_fewer_bits_is_caught_in_three_audits_its_node_banned_and_its_consumer_refunded(
    platform, database, reference, copy, tmp_path
):
    # At temperature 0 each window is enough; of sampled ones nearly each (docs/benchmarks.md).
    greedy = (
        {"temperature": 0},
        {"temperature": 0, "frequency_penalty": 1.0},
        {"temperature": 0, "response_format": SCHEMA, "max_tokens": 120},
    )
    assert await audited(platform, database, reference, copy, tmp_path / "cheat", greedy) == ("banned", 3, "10.00", "0.00")
    assert unquiet(database.admin_url) == {}


async def test_an_honest_node_is_left_alone(platform, database, reference, original, tmp_path):
    ways = (
        {"temperature": 0.8},
        {"temperature": 0, "frequency_penalty": 1.0},
        {"temperature": 0.8, "response_format": SCHEMA, "max_tokens": 120},
    )
    assert await audited(platform, database, reference, original, tmp_path / "honest", ways) == ("active", 0, "7.00", "3.00")
