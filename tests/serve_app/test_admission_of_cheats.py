"""A real agent that serves a worse copy of the model under its name never gets a paid job; an honest one earns after its canaries.

Agents, edge gateway, canaries, answers, reference and audits are real; the copy is requantized to Q4_0 and claims the original's digest.
"""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from cluster.limits import LIMITS
from cluster.runtime.models import SMOLLM2
from provider_join.agent import enroll
from provider_join.agent.runtime import SharedRuntime
from serve_app.auditor.examining import Examiner
from serve_app.auditor.metrics import AuditorMetrics
from serve_app.auditor.working import Auditor
from tests.books import unquiet
from tests.edge_agent import execute
from tests.edge_platform import running_edge_platform
from tests.provider_join.test_agent_on_platform import enrolled, online
from tests.serve_app.test_admission import sending, state_of
from tests.serve_app.test_auditing import auditors_key, desk_of
from tests.serve_app.test_cheats import copy, front_with, original, reference  # noqa: F401 - fixtures
from tests.waiting import until

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]
CANARIES = 4


class Claiming(SharedRuntime):
    """A runtime whose owner claims that it has the original's weights."""

    async def inventory(self):
        found = await super().inventory()
        return replace(found, models=tuple(replace(model, digest=SMOLLM2.gguf_sha256) for model in found.models))


@pytest.fixture
async def world(database, ledger_with, reference, monkeypatch):  # noqa: F811
    monkeypatch.setattr(enroll, "origin_of", lambda url: "http://127.0.0.1:8080")
    ledger = await ledger_with(welcome_credits="10.00", public_url="http://127.0.0.1:8080", admission_canaries=CANARIES)
    url = reference._runtime.url
    platform = running_edge_platform(database, ledger, reference_url=url, limits=LIMITS)  # a busy machine takes its time
    async with platform as made, desk_of(made.platform), auditing(made, reference):
        yield made


@contextlib.asynccontextmanager
async def auditing(world, reference):  # noqa: F811
    """Let the auditor work."""
    ledger = world.platform.ledger
    task = asyncio.create_task(Auditor(ledger.auditor, Examiner(reference, auditors_key(ledger)), AuditorMetrics(), 0.2).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked_for_ever(world):
    """A consumer who asks for the model again and again; answers how often it got it."""
    answers = []
    while True:
        answers.append((await world.platform.chat(SMOLLM2.name, "Who are you?", max_tokens=8)).status_code)
        if answers[-1] == 200:
            return answers
        await asyncio.sleep(0.5)


async def test_a_copy_of_fewer_bits_never_gets_a_paid_job(world, database, copy, tmp_path):  # noqa: F811
    home, _, _ = await enrolled(world, tmp_path / "agent")
    async with front_with(tmp_path / "store", copy) as front, online(world, home, front, Claiming), sending(world):
        asking = asyncio.create_task(asked_for_ever(world))
        await until(lambda: (state_of(database, home.enrollment().node, SMOLLM2.name) or ("",))[0] == "refused", 600)
        await asyncio.sleep(2)
        assert not asking.done()
        asking.cancel()
    ((flagged, passed),) = execute(database, "SELECT flagged, passed FROM ledger.admission")
    assert flagged >= 2, passed
    assert await world.platform.settled() == "10.00"
    assert execute(database, "SELECT count(*)::int FROM ledger.txn WHERE kind = 2") == [(0,)]
    assert unquiet(database.admin_url) == {}


async def test_an_honest_agent_earns_after_its_canaries(world, database, original, tmp_path):  # noqa: F811
    home, _, _ = await enrolled(world, tmp_path / "agent")
    async with front_with(tmp_path / "store", original) as front, online(world, home, front), sending(world):
        assert (await world.platform.chat(SMOLLM2.name, max_tokens=8)).status_code == 404
        answers = await asyncio.wait_for(asked_for_ever(world), 600)
    assert answers[-1] == 200
    assert state_of(database, home.enrollment().node, SMOLLM2.name)[1] == f"Admitted: {CANARIES} canaries passed."
    assert execute(database, "SELECT failed, flagged, unjudged FROM ledger.admission") == [(0, 0, 0)]
    assert await world.platform.settled() == "9.00"
    assert unquiet(database.admin_url) == {}
