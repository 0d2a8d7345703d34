"""Cancels jobs (seed L12): a mark in the job's row, which its driver sees wherever it is, and a word to the node at once.

What runs ends by itself then: its node's log ends as canceled, and the driver reads that like any other end. What waits leaves the queue. Only
a job that carries the mark ends so: a node that says `canceled` of its own accord is lost to it.
"""

import asyncio

import structlog

from cluster.errors import ClusterError, NodeLost
from cluster.jobs import EndReason
from cluster.nodes import Node
from ledger.client import job_id
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import JobEnded
from serve_app.job import OpenJob
from serve_app.store.records import JobRecord

log = structlog.get_logger()
LOOK_S = 0.75  # with the statement and the word to the node a job stops within a second


class JobCanceled(Exception):
    """The consumer wants the job to end, and no node runs it."""


async def cancel(context: ServeContext, record: JobRecord) -> None:
    """Let a job end, whoever drives it; again is fine.

    Raises:
        JobEnded: It has ended already.
        DatabaseUnavailable: Whether it will end is unknown.
    """
    found = await context.cancels.want(record.id)
    if found is None:
        raise JobEnded
    if (job := context.driven.get(record.id)) is not None:
        stop(context, job)
    elif found.node is not None and (node := _node_of(context, found.node)) is not None:
        context.spawn(context.nodes.cancel(node.url, job_id(record.id), found.attempt))


def stop(context: ServeContext, job: OpenJob) -> None:
    """Stop a job that is driven here: what it waits for, and what runs on its node."""
    job.cancel_wanted.set()
    if job.node is not None:
        context.spawn(context.nodes.cancel(job.node.url, job.name, job.number))


async def stop_unwanted(context: ServeContext) -> None:
    """Look for ever for marks on jobs that are driven here; asks nobody while there are none."""
    while True:
        await asyncio.sleep(LOOK_S)
        if not context.driven:
            continue
        try:
            unwanted = await context.cancels.wanted(context.writer.driver)
        except DatabaseUnavailable:
            continue
        for id_ in unwanted:
            if (job := context.driven.get(id_)) is not None:
                stop(context, job)


def require_wanted(job: OpenJob) -> None:
    """See that a job is still to be run.

    Raises:
        JobCanceled: It is not.
    """
    if job.cancel_wanted.is_set():
        raise JobCanceled


async def require_canceled(context: ServeContext, job: OpenJob, node: Node, reason: EndReason) -> None:
    """See that a job which a node calls canceled is. One that was taken over may have been canceled by its client's leaving.

    Raises:
        NodeLost: The node gave it up by itself.
        DatabaseUnavailable: Nobody can say.
    """
    if reason is not EndReason.CANCELED or job.cancel_wanted.is_set() or (job.is_adopted and job.is_sync):
        return
    if not await context.cancels.is_wanted(job.id):
        raise NodeLost(node.id, "it gave the job up")
    job.cancel_wanted.set()


async def unless_canceled(job: OpenJob, waiting: "asyncio.Task[Node]") -> Node:
    """Wait for a node, as long as the job is wanted.

    Raises:
        JobCanceled: It is not any more; nothing waits for it now.
        NoCapacity: No node came free in time.
    """
    unwanted = asyncio.ensure_future(job.cancel_wanted.wait())
    try:
        await asyncio.wait({waiting, unwanted}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise JobCanceled
        return waiting.result()
    finally:
        unwanted.cancel()
        waiting.cancel()
        await asyncio.gather(waiting, unwanted, return_exceptions=True)


def _node_of(context: ServeContext, id_: str) -> Node | None:
    try:
        return context.view.snapshot.nodes.get(id_)
    except ClusterError:
        return None
