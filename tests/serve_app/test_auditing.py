"""Ended jobs of edge nodes are offered to be audited, sealed, and no request waits for it."""

import asyncio
import contextlib
import random
from dataclasses import replace

import pytest

from cluster.audit.choosing import Choosing
from cluster.audit.sample import Sample
from cluster.jobs import JobKind, Text
from cluster.nodes import NodeKind
from ledger.client import AuditOffered, LedgerUnavailable, job_id
from serve_app import auditing
from serve_app.auditing import SEALING_KEY, AuditDesk
from serve_app.auditor.settings import AuditorSettings
from serve_app.job import Share
from tests.edge_agent import execute
from tests.edge_node import WEIGHTS, only_edge_node

MODEL = "fake:words=3"


def auditors_key(ledger):
    return AuditorSettings(secrets_dir=ledger.folder, ledger_socket=ledger.folder / "s").sealing_key()


@contextlib.asynccontextmanager
async def desk_of(platform, offers=None, choosing=None):
    """Give the platform a desk that offers to the ledger, or to what stands in its place."""
    seal_to = bytes.fromhex((platform.ledger.folder / SEALING_KEY).read_text())
    desk = AuditDesk(offers or platform.ledger.client, platform.context.feed, seal_to, choosing)
    platform.context.audits = desk
    running = asyncio.create_task(desk.run())
    try:
        yield desk
    finally:
        running.cancel()


@pytest.fixture
async def edge(platform, database):
    async with only_edge_node(platform, database, platform.workers[0]._runtime.url) as (node, _owner):
        yield node


async def test_the_auditor_gets_what_was_asked_and_answered_and_the_ledger_cannot_read_it(platform, edge, database):
    async with desk_of(platform) as desk:
        answer = (await platform.chat(MODEL, "a secret question", temperature=0)).json()
        await desk.drained()
        (task,) = await platform.ledger.auditor.take_audits(5)
    assert (task.node, task.model, task.weights_sha256) == (edge, MODEL, WEIGHTS)
    assert task.rule_inputs["runtime"].split()[0] in {"ollama", "embedded"}
    sample = Sample.opened(auditors_key(platform.ledger), task.sealed, job_id(task.job))
    assert sample.answer == answer["choices"][0]["message"]["content"]
    assert sample.request["messages"] == [{"role": "user", "content": "a secret question"}]
    assert sample.request["options"]["temperature"] == 0
    assert b"secret" not in str(execute(database, "SELECT * FROM ledger.audit_sample")).encode()
    assert (await platform.settled(), desk.counts["ok"]) == ("9.00", 1)


async def test_every_job_of_a_node_on_probation_is_offered_and_of_a_trusted_one_none(platform, database):
    async with desk_of(platform) as desk:
        await platform.chat(MODEL)  # on the operator's machine
        async with only_edge_node(platform, database, platform.workers[0]._runtime.url):
            for n in range(3):
                await platform.chat(MODEL, f"question {n}")
        await desk.drained()
        assert len(await platform.ledger.auditor.take_audits(10)) == 3


async def test_a_node_that_the_feed_has_not_told_of_yet_is_audited(platform, edge):
    del platform.context.feed.nodes[edge]
    async with desk_of(platform) as desk:
        await platform.chat(MODEL)
        await desk.drained()
        assert desk.counts == {"ok": 1}


async def test_a_share_is_offered_once_a_node_has_proved_itself(platform, edge, database):
    execute(database, "UPDATE ledger.node SET audit_percent = 5 WHERE id = %s", [edge])
    platform.context.feed._seq = None
    await platform.context.feed.poll()

    class Never(random.Random):
        def random(self):
            return 0.99

    async with desk_of(platform, choosing=Choosing(Never())) as desk:
        for n in range(3):
            await platform.chat(MODEL, f"question {n}")
        await desk.drained()
        assert len(await platform.ledger.auditor.take_audits(10)) == 1  # the day's first


async def test_what_is_marked_trusted_is_never_kept(platform, edge):
    told = []
    async with desk_of(platform) as desk:
        platform.context.audits = type("Ear", (), {"note": lambda self, job, cost: told.append((job, cost))})()
        await platform.chat(MODEL)
        ((job, cost),) = told
        assert cost == 1_000_000
        caller = job.placed.caller
        for changed, scoring in (
            ({"placed": job.placed.model_copy(update={"caller": caller.model_copy(update={"privacy": "trusted"})})}, ["trusted"]),
            ({"node": replace(job.node, kind=NodeKind.TRUSTED)}, []),
            ({"shares": [Share(edge, 1, 3)]}, ["several_nodes"]),  # nobody can say who wrote what
            ({"asked": replace(job.asked, kind=JobKind.EMBED)}, ["embedding"]),
            ({"events": [Text(seq=1, thinking="hm"), Text(seq=2, content="so")]}, ["thinking"]),
            ({"events": [Text(seq=1, content="so", tool_calls=({"function": {}},))]}, ["tool_calls"]),
            ({"events": []}, ["no_text"]),
            ({}, ["scorable"]),
        ):
            desk.ended.clear()
            desk.note(replace(job, **changed), cost)
            assert (list(desk.ended), desk._waiting.empty()) == (scoring, scoring != ["scorable"])
        await desk.drained()


def in_schema(**string):
    schema = {"type": "object", "properties": {"a": {"type": "string", **string}}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


@pytest.mark.parametrize(
    ("more", "scoring"),
    [
        ({}, "scorable"), ({"tools": []}, "scorable"), ({"frequency_penalty": 1.0}, "scorable"), (in_schema(), "scorable"),
        (in_schema(maxLength=9), "format"),
    ],
)  # fmt: skip
async def test_what_no_rule_can_judge_is_not_offered_and_counted(platform, edge, more, scoring):
    async with desk_of(platform) as desk:
        assert (await platform.chat(MODEL, **more)).status_code == 200
        await desk.drained()
        assert (desk.ended, desk.counts["ok"]) == ({scoring: 1}, int(scoring == "scorable"))


class Silent:
    """A ledger that answers nobody's offer until it is let."""

    def __init__(self):
        self.may, self.asked = asyncio.Event(), 0

    async def offer_audit(self, sample):
        self.asked += 1
        await self.may.wait()
        return AuditOffered(status="ok")


async def test_a_full_queue_drops_samples_and_delays_nobody(platform, edge, monkeypatch):
    monkeypatch.setattr(auditing, "MAX_WAITING", 2)
    silent = Silent()
    async with desk_of(platform, silent) as desk:
        for n in range(6):
            assert (await platform.chat(MODEL, f"question {n}")).status_code == 200
        assert desk.counts["queue_full"] in {3, 4}
        silent.may.set()
        await desk.drained()
        assert desk.counts["ok"] == 6 - desk.counts["queue_full"]


async def test_a_ledger_that_does_not_answer_is_asked_so_often_and_no_more(platform, edge, monkeypatch):
    monkeypatch.setattr(auditing, "PAUSE_S", 0.01)

    class Away:
        asked = 0

        async def offer_audit(self, sample):
            self.asked += 1
            raise LedgerUnavailable

    away = Away()
    async with desk_of(platform, away) as desk:
        await platform.chat(MODEL)
        await desk.drained()
    assert (away.asked, desk.counts["ledger_silent"]) == (auditing.TRIES, 1)


async def test_a_node_that_claims_no_digest_cannot_be_audited_and_hurts_nobody(platform, database):
    async with (
        only_edge_node(platform, database, platform.workers[0]._runtime.url, weights="none"),
        desk_of(platform) as desk,
    ):
        await platform.chat(MODEL)
        await desk.drained()
        assert desk.counts["no_digest"] == 1
