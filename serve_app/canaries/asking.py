"""Asks one canary of one node, on the path of a job: the same attempt, the same events, the same deadlines. Without a hold and without a row."""

import asyncio
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from random import Random

from cluster.edge.counting import is_off
from cluster.errors import AttemptSuperseded, NodeLost
from cluster.jobs import End, EndReason, Fail, JobKind, Text, Usage
from cluster.nodes import Node, OfferedModel
from cluster.prompt_size import most_tokens
from ledger.client import Caller, HoldPlaced, Price
from serve_app.attempts import attempt_of, events_of
from serve_app.canaries.writing import Written, write, write_embedding, write_long
from serve_app.context import ServeContext
from serve_app.job import JobRequest, OpenJob

LIMIT_S = 180.0  # of a canary; shorter than its lease at the ledger
MOST_LONG_BYTES = 32 * 1024  # of a prompt that fills the context: about 8,000 tokens
SURE_BYTES = 3.0  # of English per token, at least: what has so many bytes fits
FILLED = 0.9  # of the context, by prompt and answer
MOST_BYTES_PER_TOKEN = 8  # fewer tokens than that: it did not read all of it
EMBEDDED_BYTES = 300
NOBODY = Caller(user="", username="", key="", scopes=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An answer, or why there is none that counts: `fault`, in words for the node's owner."""

    job: OpenJob
    fault: str = ""
    usage: Usage | None = None
    first_token_s: float | None = None
    tokens_per_s: float | None = None


async def written_for(context: ServeContext, node: Node, model: OfferedModel, chance: Random, *, is_long: bool) -> Written:
    """Write a canary for a model; a long one fills its context, by our own count where the edge gateway has one."""
    thinks, tokens = "thinking" in model.capabilities, model.context_tokens
    size = int(min(MOST_LONG_BYTES, (FILLED * tokens) * SURE_BYTES)) if is_long else EMBEDDED_BYTES
    if "embedding" in model.capabilities and "completion" not in model.capabilities:
        return write_embedding(chance, size)
    if not is_long:
        return write(chance, context_tokens=tokens, thinks=thinks)
    made = write_long(chance, size, context_tokens=tokens, thinks=thinks)
    try:
        counted = await context.facts.count(node.url, node.id, model.name, made.request["messages"])
    except NodeLost:
        counted = None
    if not counted:
        return made
    fuller = int(size * (FILLED * tokens - made.max_tokens) / counted)
    return write_long(chance, min(MOST_LONG_BYTES, fuller), context_tokens=tokens, thinks=thinks)


def canary_job(id_: uuid.UUID, node: Node, model: str, written: Written) -> OpenJob:
    """Make the job that a canary is: nobody's, and free."""
    asked = JobRequest(
        kind=written.kind, model=model, request=written.request, max_tokens=written.max_tokens, prompt_bytes=most_tokens(written.request)
    )
    placed = HoldPlaced(status="ok", id=id_, caller=NOBODY, price=Price(version=0, flat=0), held=0)
    return OpenJob(id_, asked, placed, node, time.monotonic())


async def ask(context: ServeContext, job: OpenJob) -> Asked:
    """Send a canary and read its answer.

    Raises:
        NodeBusy: The node took nothing; nothing was started.
    """
    assert job.node is not None
    node = job.node
    context.view.note_placed(node.id)
    try:
        async with asyncio.timeout(LIMIT_S):
            return await _read(context, job, node)
    except TimeoutError:
        fault = f"it took longer than {LIMIT_S:g} s"
    except NodeLost as lost:
        fault = f"the node was lost: {lost.detail}"
    except AttemptSuperseded:
        fault = "the node knows a newer attempt"
    except asyncio.CancelledError:
        context.spawn(context.nodes.cancel(node.url, job.name, job.number))
        raise
    await context.nodes.cancel(node.url, job.name, job.number)
    return Asked(job=job, fault=fault)


async def _read(context: ServeContext, job: OpenJob, node: Node) -> Asked:
    began, first_at = time.monotonic(), 0.0
    async with aclosing(events_of(context, job, node, attempt_of(context, job, node), attaches=False)) as events:
        async for event in events:
            if isinstance(event, End):
                ended = time.monotonic()
                tokens = event.usage.completion_tokens
                speed = (tokens - 1) / (ended - first_at) if first_at and tokens > 1 and ended > first_at else None
                return Asked(
                    job=job, fault=fault_of(job, event), usage=event.usage, first_token_s=first_at - began if first_at else None,
                    tokens_per_s=speed,
                )  # fmt: skip
            if isinstance(event, Fail):
                return Asked(job=job, fault=f"its runtime failed: {event.detail}")
            if isinstance(event, Text) and not first_at:
                first_at = time.monotonic()
            job.note(event)
    raise NodeLost(node.id, "its answer ended without an end")


def fault_of(job: OpenJob, end: End) -> str:
    """Tell what is wrong with the shape of an answer; empty: nothing."""
    assert job.node is not None
    texts = [event for event in job.events if isinstance(event, Text)]
    if job.asked.kind is JobKind.EMBED:
        return _prompt_fault(job, end) if any(text.embeddings for text in texts) else "it embedded nothing"
    model = next((one for one in job.node.models if one.name == job.asked.model), None)
    if any(text.tool_calls for text in texts):
        return "it called tools that nobody offered"
    if any(text.thinking for text in texts) and (model is None or "thinking" not in model.capabilities):
        return "it thought aloud, and does not say that the model can"
    if end.reason not in {EndReason.STOP, EndReason.LENGTH}:
        return f"its answer ended with `{end.reason}`"
    if not any(text.content or text.thinking for text in texts):
        return "it answered nothing"
    return _prompt_fault(job, end)


def _prompt_fault(job: OpenJob, end: End) -> str:
    """Tell whether the prompt was read as it was sent: by our count where there is one, else by its length."""
    said, ours = end.receipt, end.usage
    if ours.counted_by == "platform":
        if said is not None and is_off(said.prompt_tokens, ours.prompt_tokens):
            return f"it read {said.prompt_tokens} tokens of a prompt that has {ours.prompt_tokens}"
        return ""
    least = _bytes_of(job) // MOST_BYTES_PER_TOKEN
    return f"it read {ours.prompt_tokens} tokens of a prompt that has {least} at least" if ours.prompt_tokens < least else ""


def _bytes_of(job: OpenJob) -> int:
    request = job.asked.request
    texts = [message["content"] for message in request.get("messages", ())] or [request.get("input", "")]
    return sum(len(text) for text in texts)
