"""One attempt as its driver has it: what its node is asked, and its events, also when the connection to it breaks.

A trusted node whose connection breaks is lost. An edge node is behind an edge gateway, which holds nothing that its agent does not have: when
that is restarted, or the agent goes to another one, the driver attaches again where it was.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from cluster.deadlines import deadlines_of
from cluster.edge.sampling import explicit
from cluster.errors import AttemptUnknown, ClusterUnreachable, NodeLost
from cluster.jobs import Attempt, Event
from cluster.nodes import Node, NodeKind
from serve_app.context import ServeContext
from serve_app.job import OpenJob

log = structlog.get_logger()
AGAIN_S = 0.3
LOOK_S = 1.0  # so often one looks whether the agent went elsewhere
BEFORE_TEXT_S = 5.0  # so long an edge node's connection may be away
IN_TEXT_S = 15.0


def attempt_of(context: ServeContext, job: OpenJob, node: Node) -> Attempt:
    """Write what a node is asked."""
    asked = job.asked
    model = next((one for one in node.models if one.name == asked.model), None)
    job.weights = model.digest if model else ""
    has_failed = node.id in job.failed_on
    deadlines = deadlines_of(model, asked.max_tokens, context.limits, prompt_bytes=asked.prompt_bytes, has_failed=has_failed)
    request = explicit(asked.kind, asked.request, job.id) if node.kind is NodeKind.EDGE else asked.request
    return Attempt(
        job=job.name, number=job.number, node=node.id, kind=asked.kind, model=asked.model, model_digest=job.weights, request=request,
        max_tokens=asked.max_tokens, deadlines=deadlines, delivered=tuple(job.events),
    )  # fmt: skip


async def events_of(context: ServeContext, job: OpenJob, node: Node, attempt: Attempt, *, attaches: bool) -> AsyncGenerator[Event, None]:
    """Yield an attempt's events after those that the job has, to its end. `attaches`: it was begun before, by a driver that was lost.

    Raises:
        NodeBusy: It refused before starting.
        NodeLost: It broke.
        AttemptSuperseded: The node knows a newer attempt.
    """
    begins, lost_at = not attaches, None
    while True:
        heard = len(job.events)
        events = context.nodes.run(node.url, attempt) if begins else context.nodes.rejoin(node.url, attempt, heard)
        if node.kind is NodeKind.EDGE and len(context.settings.edges) > 1:
            events = _while_here(context, node, events)
        try:
            async with aclosing(events):
                async for event in events:
                    lost_at = None
                    yield event
            return
        except AttemptUnknown:
            raise
        except NodeLost as lost:
            if node.kind is not NodeKind.EDGE or (begins and len(job.events) == heard):
                raise
            begins = False
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if now - lost_at > (IN_TEXT_S if job.has_text else BEFORE_TEXT_S):
                raise
            log.info("edge_lost", job=job.name, node=node.id, reason=lost.detail)
            await asyncio.sleep(AGAIN_S)
            node = _where_it_is(context, node)


async def _while_here(context: ServeContext, node: Node, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Yield events as long as the node is reached at this edge gateway: one that its agent has left hears nothing more, and does not know why.

    Raises:
        NodeLost: The node is elsewhere.
    """
    async with aclosing(events):
        while True:
            step = asyncio.ensure_future(anext(events, None))
            try:
                while not (await asyncio.wait({step}, timeout=LOOK_S))[0]:
                    if _where_it_is(context, node).url != node.url:
                        raise NodeLost(node.id, "its agent went to another edge gateway")
            finally:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            if (event := step.result()) is None:
                return
            yield event


def _where_it_is(context: ServeContext, node: Node) -> Node:
    """Tell where a node is reached now: its agent may have gone to another edge gateway."""
    try:
        known = context.view.snapshot.nodes.get(node.id)
    except ClusterUnreachable:
        return node
    return replace(node, url=known.url) if known and known.url else node
