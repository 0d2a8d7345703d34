"""Whose counts are paid: ours where a reference runtime has the model; else the agent's, bounded. Receipts are checked against what was delivered."""

import asyncio

import pytest

from cluster.edge.counting import ReferenceCounter, is_off
from cluster.receipts import Receipt, is_signed_by, text_sha256
from cluster.runtime.ollama import OllamaRuntime
from tests.edge_agents import words_of
from tests.scripted_runtime import Script, serve


@pytest.fixture
async def reference():
    """A reference runtime that has one model, and counts words."""
    script = Script()
    script.has_tokenizer = True
    runner, url = await serve(script)
    runtime = OllamaRuntime(url)
    await runtime.start()
    found = await runtime.inventory()
    yield runtime, found.models[0].digest
    await runtime.aclose()
    await runner.cleanup()


@pytest.mark.parametrize("inflates", [1, 10])
async def test_a_reference_with_the_same_weights_counts_and_a_wrong_claim_is_seen(edge_with, reference, inflates):
    """Seed defect D16: counts ten times too high are billed by our own."""
    runtime, digest = reference
    edge = await edge_with(counter=ReferenceCounter(runtime))
    await edge.honest(edge.enroll(), words=20, digest=digest, inflates=inflates)
    attempt = edge.attempt(model_digest=digest, request={"messages": [{"role": "user", "content": "a b c d e f g"}]})
    end = (await edge.run(attempt))[-1]
    assert (end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.counted_by) == (7, 20, "platform")
    assert edge.metric("count_mismatches_total") == (inflates > 1)


async def test_without_a_reference_the_claim_counts_and_is_bounded(edge):
    await edge.honest(edge.enroll(), words=20, inflates=1000)
    attempt = edge.attempt()
    end = (await edge.run(attempt))[-1]
    said = "".join(words_of(attempt.job, 20))
    assert end.usage.counted_by == "provider"
    assert end.usage.completion_tokens <= len(said) + 1
    attempt = edge.attempt(max_tokens=5)
    assert (await edge.run(attempt))[-1].usage.completion_tokens == 5


async def test_tokens_of_a_chunk_are_believed_up_to_its_bytes_and_the_limit(edge):
    socket = await edge.ready(edge.enroll())
    reading = edge.client.run(edge.url, attempt := edge.attempt(max_tokens=6))
    task = asyncio.ensure_future(anext(reading))
    await socket.until("offer")
    await socket.send(type="accept", job=attempt.job, lease=1)
    await task
    for seq in range(3):
        await socket.send(type="chunk", job=attempt.job, lease=1, seq=seq, delta={"content": "abcd"}, tokens=10**9)
    assert [(await anext(reading)).tokens for _ in range(3)] == [4, 2, 0]
    await reading.aclose()


async def test_a_reference_that_is_silent_leaves_the_claim(edge_with):
    dead = OllamaRuntime("http://127.0.0.1:9")
    await dead.start()
    edge = await edge_with(counter=ReferenceCounter(dead))
    await edge.honest(edge.enroll(), words=5)
    assert (await edge.run(edge.attempt()))[-1].usage.counted_by == "provider"
    await dead.aclose()


async def test_a_receipt_that_fits_travels_with_the_end_and_can_be_checked_by_anybody(edge):
    identity = edge.enroll()
    await edge.honest(identity, words=5)
    attempt = edge.attempt()
    end = (await edge.run(attempt))[-1]
    receipt = Receipt(
        job=attempt.job, lease=1, node="node_edge", model_digest=end.receipt.model_digest, text_sha256=text_sha256("".join(words_of(attempt.job, 5)), ""),
        prompt_tokens=end.receipt.prompt_tokens, completion_tokens=end.receipt.completion_tokens, reason=end.reason,
    )  # fmt: skip
    assert is_signed_by(receipt, end.receipt.signature, identity.raw)
    assert edge.metric("receipts_total", receipt="good") == 1


async def test_receipts_of_another_text_key_or_count_are_left_out(edge):
    identity = edge.enroll()
    agent = await edge.honest(identity, words=5)
    honest = dict(edge.known)

    async def receipt_with(change):
        attempt = edge.attempt()
        produce = agent.produce

        async def forged(offer):
            await produce(offer)
            change(agent.ends[offer["job"], offer["lease"]])

        agent.produce = forged
        end = (await edge.run(attempt))[-1]
        agent.produce = produce
        return end.receipt

    assert await receipt_with(lambda end: end["receipt"].update(text_sha256="0" * 64)) is None
    assert await receipt_with(lambda end: end["receipt"].update(signature="A" * 86)) is None
    assert await receipt_with(lambda end: end["usage"].update(eval_count=6)) is None
    assert await receipt_with(lambda end: end.pop("receipt")) is None
    assert edge.metric("receipts_total", receipt="bad") == 3
    assert edge.metric("receipts_total", receipt="none") == 1
    assert honest == edge.known


@pytest.mark.parametrize(
    ("claimed", "counted", "off"),
    [(100, 100, False), (103, 100, False), (104, 100, True), (1019, 1000, False), (1021, 1000, True), (0, 3, False)],
)
def test_counts_may_differ_by_two_in_a_hundred_and_three_tokens(claimed, counted, off):
    assert is_off(claimed, counted) is off
