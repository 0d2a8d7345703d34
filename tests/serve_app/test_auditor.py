"""The auditor: takes samples, has them scored, reports; what it cannot judge it says, and what does not answer it asks again so often."""

import asyncio
import math

import aiohttp
import pytest

from cluster.audit.reference import ModelMissing, Scored
from cluster.audit.rules import Step
from cluster.audit.sample import Sample
from cluster.audit.sampling import NO_PENALTIES, Candidate, Penalties, penalties_of
from cluster.errors import RuntimeFailed, RuntimeRefused
from ledger.client import AuditSample, AuditVerdict, job_id, new_hold_id
from serve_app.auditor import working
from serve_app.auditor.__main__ import running_auditor
from serve_app.auditor.examining import Examiner
from serve_app.auditor.metrics import AuditorMetrics
from serve_app.auditor.settings import AuditorSettings
from serve_app.auditor.working import Auditor
from tests.edge_agent import account, execute

WEIGHTS = "b" * 64
GREEDY = {"messages": [{"role": "user", "content": "hello"}], "options": {"temperature": 0}}
SAMPLED = GREEDY | {"options": {"temperature": 0.8}}


class ScriptedReference:
    """A reference that finds each claimed token so many nats below its own best; it has one model."""

    def __init__(self, gap=0.0, tokens=100, fails=0, penalized_gap=0.0):
        self.gap, self.tokens, self.fails, self.penalized_gap = gap, tokens, fails, penalized_gap
        self.asked = []

    async def model(self, name, weights):
        if weights != WEIGHTS:
            raise ModelMissing(name, weights)
        return "ours:latest"

    async def score(self, model, request, answer, *, window, chance):
        self.asked.append((model, request, answer, window, chance))
        if self.fails:
            self.fails -= 1
            raise RuntimeFailed(0, "the runtime does not answer")
        if answer == "too long":
            raise RuntimeRefused(400, "the input length exceeds the context length")
        count = 0 if answer == "[1, 2, 3]" else min(window, self.tokens)
        best = Candidate(1, math.log(0.95))
        gap = self.gap if penalties_of(request["options"]).are_none else self.penalized_gap
        step = Step(2, (best, Candidate(2, best.logprob - gap), Candidate(3, -20.0)))
        return Scored(tokens=self.tokens, steps=(step,) * count)


@pytest.fixture
async def node(ledger, database):
    return (await (await account(ledger, database)).enrolled())[1]


@pytest.fixture
def settings(ledger):
    return AuditorSettings(
        secrets_dir=ledger.folder, ledger_socket=ledger.context.settings.ledger_socket, auditor_port=0, auditor_look_s=0.05
    )


def auditor_with(ledger, settings, reference):
    return Auditor(ledger.auditor, Examiner(reference, settings.sealing_key()), AuditorMetrics(), 0.05)


async def offer(ledger, settings, node, *, request=GREEDY, answer="an answer", weights=WEIGHTS, runtime="embedded 1", job=None):
    """Offer a sample as Serve does."""
    id_ = new_hold_id()
    to = settings.sealing_key().public_key().public_bytes_raw()
    sealed = Sample(request, answer).sealed(to, job or job_id(id_))
    await ledger.client.offer_audit(
        AuditSample(
            job=id_, node=node, model="m", model_digest=weights, weights_sha256=weights, rule_inputs={"runtime": runtime}, sealed=sealed
        )
    )
    return id_


def verdicts(database):
    return execute(database, "SELECT is_flagged, rule, tokens, detail FROM ledger.audit_verdict ORDER BY at")


async def test_an_honest_answer_passes_and_another_models_is_flagged(ledger, database, node, settings):
    for gap in (0.0, 0.5):
        reference = ScriptedReference(gap)
        await offer(ledger, settings, node)
        assert await auditor_with(ledger, settings, reference).work() == 1
        ((model, request, answer, window, chance),) = reference.asked
        assert (model, request, answer, window) == ("ours:latest", NO_PENALTIES.of(GREEDY), "an answer", 32)
        assert 0 <= chance < 1
    assert verdicts(database) == [
        (False, "A", 32, "mean gap 0.000 nats over 32 tokens, at most 0.05 is expected"),
        (True, "A", 32, "mean gap 0.500 nats over 32 tokens, at most 0.05 is expected"),
    ]


async def test_a_sampled_answer_is_judged_by_the_other_rule(ledger, database, node, settings):
    await offer(ledger, settings, node, request=SAMPLED)
    await auditor_with(ledger, settings, ScriptedReference(3.0)).work()
    ((is_flagged, rule, tokens, detail),) = verdicts(database)
    assert (is_flagged, rule, tokens) == (True, "B", 64)
    assert "62 of them the model could not have drawn" in detail


@pytest.mark.parametrize(
    ("runtime", "gaps", "is_flagged"),
    [
        ("embedded 1", {"gap": 0.5}, False),  # without the penalties it would not have said so
        ("embedded 1", {"penalized_gap": 0.5}, True),
        ("ollama 1", {"penalized_gap": 0.5}, False),  # it may be an engine that knows no penalties
        ("ollama 1", {"gap": 0.5, "penalized_gap": 0.5}, True),
    ],
)
async def test_an_answer_with_penalties_is_read_as_the_nodes_engine_may_have_counted_them(
    ledger, database, node, settings, runtime, gaps, is_flagged
):
    asked = GREEDY | {"options": {"temperature": 0, "repeat_penalty": 1.1}}
    reference = ScriptedReference(**gaps)
    await offer(ledger, settings, node, request=asked, runtime=runtime)
    await auditor_with(ledger, settings, reference).work()
    assert [row[:2] for row in verdicts(database)] == [(is_flagged, "A")]
    readings = [Penalties(repeat_penalty=1.1), NO_PENALTIES][: 1 if runtime.startswith("embedded") else 2]
    assert [request for _, request, *_ in reference.asked] == [one.of(asked) for one in readings]
    assert len({chance for *_, chance in reference.asked}) == 1  # the same window


async def test_short_answers_are_judged_together(ledger, database, node, settings):
    auditor = auditor_with(ledger, settings, ScriptedReference(0.5, tokens=20))
    for _ in range(2):
        await offer(ledger, settings, node)
        await auditor.work()
    first, second = verdicts(database)
    assert first == (False, "none", 0, "too short to be judged alone: 20 of 32 tokens wait for the node's next answers")
    assert second[:3] == (True, "A", 40)
    assert second[3].endswith("with the node's earlier short answers")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": "c" * 64}, "the reference does not have `m` with the weights cccccccccccc"),
        ({"request": GREEDY | {"tools": [{}]}}, "`tools` is not scored"),
        ({"answer": "[1, 2, 3]"}, "nothing of the answer can be judged"),
        ({"answer": "too long"}, "the reference does not run this request"),
        ({"job": "job_other"}, "the sample cannot be opened"),
    ],
)
async def test_what_cannot_be_judged_is_no_flag_and_says_why(ledger, database, node, settings, changes, why):
    await offer(ledger, settings, node, **changes)
    await auditor_with(ledger, settings, ScriptedReference(5.0)).work()
    ((is_flagged, rule, tokens, detail),) = verdicts(database)
    assert (is_flagged, rule, tokens) == (False, "none", 0)
    assert detail.startswith(why)


async def test_without_a_reference_nothing_is_judged_and_the_reason_names_the_setting(ledger, database, node, settings):
    await offer(ledger, settings, node)
    await auditor_with(ledger, settings, None).work()
    assert verdicts(database) == [(False, "none", 0, "no reference runtime is set (GFE_REFERENCE_URL)")]


async def test_a_reference_that_is_away_for_a_moment_is_asked_again(ledger, database, node, settings, monkeypatch):
    monkeypatch.setattr(working, "PAUSE_S", 0.01)
    await offer(ledger, settings, node)
    await auditor_with(ledger, settings, ScriptedReference(fails=working.TRIES - 1)).work()
    assert [row[:2] for row in verdicts(database)] == [(False, "A")]


async def test_a_reference_that_stays_away_leaves_the_sample_to_be_taken_again(ledger, database, node, settings, monkeypatch):
    monkeypatch.setattr(working, "PAUSE_S", 0.01)
    job = await offer(ledger, settings, node)
    auditor = auditor_with(ledger, settings, ScriptedReference(fails=working.TRIES))
    assert await auditor.work() == 1
    assert verdicts(database) == []
    assert auditor._metrics.given_up._value.get() == 1
    execute(database, "UPDATE ledger.audit_sample SET leased_until = clock_timestamp() - interval '1 second'")
    await auditor.work()
    assert execute(database, "SELECT job_id FROM ledger.audit_verdict") == [(job,)]


async def test_a_sample_that_is_gone_when_the_verdict_comes_ends_nothing(ledger, database, node, settings):
    await offer(ledger, settings, node)
    (task,) = await ledger.auditor.take_audits()
    execute(database, "DELETE FROM ledger.audit_sample")
    auditor = auditor_with(ledger, settings, ScriptedReference())
    assert not await auditor._reported(AuditVerdict(id=task.id, is_flagged=False, rule="A"))
    assert await auditor.work() == 0


async def test_the_process_works_and_shows_its_figures(ledger, database, node, settings):
    async with running_auditor(settings) as url, aiohttp.ClientSession() as http:
        await offer(ledger, settings, node)
        async with asyncio.timeout(60):
            while not verdicts(database):
                await asyncio.sleep(0.02)
        health = await (await http.get(f"{url}/healthz")).json()
        async with asyncio.timeout(60):
            while 'gfe_auditor_verdicts_total{found="clean",rule="none"} 1.0' not in await (await http.get(f"{url}/metrics")).text():
                await asyncio.sleep(0.02)
    assert health == {"status": "ok", "reference": "no reference runtime is set (GFE_REFERENCE_URL)"}
