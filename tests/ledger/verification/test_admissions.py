"""Canaries between Serve, the ledger and the auditor: leased by one, counted once, and what the owner and other services are told."""

import asyncio
import uuid

import pytest

from ledger.client import CanaryOffer, CanaryReport, NotPermitted
from ledger.verification import admissions
from tests.edge_agent import execute
from tests.ledger.auditing import DIGEST, OPERATOR, market, sample_of, verdict_on

CANARIES = 6


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0", admission_canaries=CANARIES)


@pytest.fixture
async def m(ledger, database):
    return await market(ledger, database)


def offer(node, model="m", digest=DIGEST, slots=2):
    return CanaryOffer(node=node, model=model, digest=digest, slots=slots, free=slots)


async def take(m, *offers, nodes=16):
    return await m.ledger.client.take_canaries(offers, nodes)


async def answer(m, task, **changes):
    """Report a canary as Serve does, with a sample to be judged."""
    sample = sample_of(task.node, task.id, model=task.model)
    report = CanaryReport(id=task.id, **({"sample": sample, "first_token_s": 0.2, "tokens_per_s": 30.0} | changes))
    return (await m.ledger.client.report_canary(report)).status


async def judge(m, task, **changes):
    await m.ledger.auditor.report_audit(verdict_on(task.id, **changes))


async def run(m, node, count, *, model="m", **verdict):
    """Let so many canaries be answered and judged."""
    done = 0
    while done < count:
        for task in await take(m, offer(node, model, slots=1)):
            assert await answer(m, task) == "ok"
            await judge(m, task, **verdict)
            done += 1


async def admission(m, node, model="m"):
    (found,) = [one for row in await m.owner.nodes() if row["id"] == node for one in row["admissions"] if one["model"] == model]
    return found


def told(m, node):
    """What the feed said of a node's models, the oldest first."""
    return execute(
        m.database,
        "SELECT detail ->> 'model', detail ->> 'state', (detail ->> 'is_final')::boolean FROM ledger.feed "
        "WHERE subject = %s AND kind = 'admission' ORDER BY seq",
        [node],
    )


async def test_a_model_passes_and_everybody_who_must_know_is_told(m):
    node = await m.node()
    await run(m, node, CANARIES)
    assert await take(m, offer(node)) == ()
    found = await admission(m, node)
    assert (found["state"], found["passed"], found["asked"], found["tokens_per_s"]) == ("admitted", CANARIES, CANARIES, 30.0)
    assert told(m, node)[0] == ("m", "testing", False)
    assert told(m, node)[-1] == ("m", "admitted", False)
    page = await m.ledger.client.feed(None)
    assert page.has_admission
    assert [entry.detail["state"] for entry in page.entries if entry.kind == "admission"] == ["admitted"]
    audits = await m.audits(node)
    assert [step["step"] for step in audits["steps"]] == ["admit"]
    assert (audits["strikes"], audits["audited"], audits["jobs"]) == (0, CANARIES, 0)
    assert "node.admit" in m.logged(node)


async def test_no_two_callers_get_the_same_canary(m):
    nodes = [await m.node() for _ in range(5)]
    taken = await asyncio.gather(*(take(m, *(offer(node) for node in nodes)) for _ in range(8)))
    tasks = [task for tasks in taken for task in tasks]
    assert sorted(task.node for task in tasks) == sorted(nodes)
    assert await take(m, *(offer(node) for node in nodes)) == ()  # one at a time
    await answer(m, tasks[0])
    assert [task.node for task in await take(m, *(offer(node) for node in nodes))] == [tasks[0].node]


async def test_two_ledgers_do_not_give_the_same_canary_twice(m, ledger_with):
    other = await ledger_with(beside=m.ledger, welcome_credits="0", admission_canaries=CANARIES)
    nodes = [await m.node() for _ in range(4)]
    offers = [offer(node) for node in nodes]
    taken = await asyncio.gather(*(one.client.take_canaries(offers, 16) for one in (m.ledger, other) * 6))
    assert sorted(task.node for tasks in taken for task in tasks) == sorted(nodes)


async def test_bounded_by_nodes_and_for_active_edge_nodes_alone(m):
    nodes = [await m.node() for _ in range(3)]
    m.make(nodes[0], state="paused")
    m.make(nodes[1], kind="trusted")
    assert await take(m, offer(nodes[0]), offer(nodes[1]), offer("node_unheard_of")) == ()
    more = [await m.node() for _ in range(3)]
    assert len(await take(m, *(offer(node) for node in more), nodes=2)) == 2


async def test_a_nodes_models_are_tested_one_after_another(m):
    node = await m.node()
    offers = offer(node, "one", slots=1), offer(node, "two", slots=1)
    seen = []
    for _ in range(2 * CANARIES):
        (task,) = await take(m, *offers)
        seen.append(task.model)
        await answer(m, task)
        await judge(m, task)
    assert seen == ["one"] * CANARIES + ["two"] * CANARIES
    assert await take(m, *offers) == ()


async def test_a_model_that_fails_does_not_keep_the_others_waiting(m):
    node = await m.node()
    offers = offer(node, "hangs", slots=1), offer(node, "good", slots=1)
    seen = []
    for _ in range(CANARIES + 2):
        (task,) = await take(m, *offers)
        seen.append(task.model)
        await answer(m, task, **({"failure": "it hung", "sample": None} if task.model == "hangs" else {}))
        if task.model == "good":
            await judge(m, task)
    assert seen == ["hangs"] + ["good"] * CANARIES + ["hangs"]


async def test_an_answer_counts_once_and_so_does_its_verdict(m):
    node = await m.node()
    (task,) = await take(m, offer(node))
    assert [await answer(m, task) for _ in range(2)] == ["ok", "exists"]
    assert await answer(m, task, failure="it changed its mind", sample=None) == "exists"
    for _ in range(2):
        await judge(m, task)
    found = await admission(m, node)
    assert (found["passed"], found["asked"], found["failed"]) == (1, 1, 0)
    assert (await m.ledger.client.report_canary(CanaryReport(id=uuid.uuid4()))).status == "unknown"


async def test_a_lease_that_ends_and_a_sample_that_is_lost_are_sent_again(m):
    node = await m.node()
    (task,) = await take(m, offer(node))
    execute(m.database, "UPDATE ledger.canary SET leased_until = clock_timestamp() - interval '1 second'")
    (again,) = await take(m, offer(node))
    assert again.id != task.id
    assert await answer(m, task) == "unknown"
    await answer(m, again)
    execute(m.database, "DELETE FROM ledger.audit_sample")  # unlogged: PostgreSQL fell
    await run(m, node, CANARIES)
    assert (await admission(m, node))["state"] == "admitted"


async def test_what_a_node_did_not_take_counts_for_nothing(m):
    node = await m.node()
    (task,) = await take(m, offer(node))
    assert await answer(m, task, was_sent=False, sample=None) == "ok"
    (again,) = await take(m, offer(node))
    assert again.id != task.id
    assert (await admission(m, node))["asked"] == 1


async def test_two_flags_refuse_the_model_and_are_no_strikes(m):
    node = await m.node()
    await run(m, node, 3)
    await run(m, node, 1, is_flagged=True)
    assert (await admission(m, node))["wanted"] == 2 * CANARIES
    await run(m, node, 1, is_flagged=True)
    found = await admission(m, node)
    assert (found["state"], found["again_at"], found["flagged"]) == ("refused", None, 2)
    assert await take(m, offer(node)) == ()
    assert told(m, node)[-1] == ("m", "refused", True)
    audits = await m.audits(node)
    assert (audits["state"], audits["strikes"], audits["audit_percent"]) == ("active", 0, 100)
    assert [step["step"] for step in audits["steps"]] == ["not_admitted", "retest", "retest"]
    assert [task.model for task in await take(m, offer(node), offer(node, "other"))] == ["other"]  # the node may do well with others
    assert [task.digest for task in await take(m, offer(await m.node(), digest="c" * 64))] == ["c" * 64]


async def test_strikes_of_paid_jobs_do_not_count_canaries(m):
    node = await m.node()
    await run(m, node, 2, is_flagged=True)
    await m.judge(node, *await m.serve(node, 1))
    assert (await m.audits(node))["strikes"] == 1


async def test_one_flag_and_twice_as_many_good_answers_admit(m):
    node = await m.node()
    await run(m, node, 1, is_flagged=True)
    await run(m, node, 2 * CANARIES)
    assert (await admission(m, node))["state"] == "admitted"


async def test_an_appeal_that_is_upheld_begins_the_test_anew(m):
    node = await m.node()
    answer = await m.owner.call("POST", f"nodes/{node}/appeal/", json={"note": "there is nothing yet"})
    assert answer.status_code == 400
    await run(m, node, 2, is_flagged=True)
    answer = await m.owner.call("POST", f"nodes/{node}/appeal/", json={"note": "my kernel is a new one"})
    assert answer.status_code == 201, answer.text
    await m.ledger.context.appeals.decide(answer.json()["id"], is_upheld=True, answer="indeed", origin=OPERATOR)
    assert told(m, node)[-1] == ("m", "testing", False)
    await run(m, node, CANARIES)
    assert (await admission(m, node))["state"] == "admitted"


async def test_an_operator_pardons_without_being_asked(m):
    node = await m.node()
    await run(m, node, 2, is_flagged=True)
    await m.ledger.context.appeals.lift(node, is_pardoned=True, reason="ours was wrong", origin=OPERATOR)
    assert (await admission(m, node))["state"] == "testing"


async def test_failures_refuse_for_a_while(m):
    node = await m.node()
    for n in range(3):
        (task,) = await take(m, offer(node, slots=1))
        assert await answer(m, task, failure=f"its runtime failed: number {n}", sample=None) == "ok"
    found = await admission(m, node)
    assert found["state"] == "refused"
    assert found["again_at"]
    assert "number 2" in found["said"]
    assert await take(m, offer(node)) == ()
    execute(m.database, "UPDATE ledger.admission SET again_at = clock_timestamp()")
    await run(m, node, CANARIES)
    assert (await admission(m, node))["state"] == "admitted"


async def test_short_answers_do_not_count_and_too_many_refuse_for_a_while(m):
    node = await m.node()
    await run(m, node, 4 * CANARIES, rule="none", why_not="short")
    found = await admission(m, node)
    assert (found["state"], found["passed"]) == ("refused", 0)
    assert found["again_at"]


async def test_what_nobody_can_judge_is_admitted_and_said_to_be_so(m):
    node = await m.node()
    await run(m, node, CANARIES, rule="none", why_not="no_copy")
    assert (await admission(m, node))["said"] == "Admitted, not verified: the operator has no copy of this model."


async def test_its_agent_is_told_in_a_sentence(m):
    node = await m.node()
    await run(m, node, 2)
    token = (await m.agent.token(node)).json()["access_token"]
    said = (await m.ledger.http.get("/api/core/agent/status/", headers={"Authorization": f"Bearer {token}"})).json()
    assert said["reasons"] == ["m: Being tested: 2 of 6 canaries passed."]


async def test_models_without_end_are_bounded(m, monkeypatch):
    monkeypatch.setattr(admissions, "MOST_MODELS", 3)
    node = await m.node()
    for n in range(6):
        for task in await take(m, offer(node, f"m{n}")):
            await answer(m, task, was_sent=False, sample=None)
    assert execute(m.database, "SELECT count(*)::int FROM ledger.admission") == [(3,)]


async def test_none_but_serve_may(m):
    with pytest.raises(NotPermitted):
        await m.ledger.auditor.take_canaries([offer(await m.node())], 1)
    with pytest.raises(NotPermitted):
        await m.ledger.auditor.report_canary(CanaryReport(id=uuid.uuid4()))


async def test_an_auditors_late_word_after_the_admission_changes_nothing_for_the_model(m):
    node = await m.node()
    await run(m, node, CANARIES)
    (state,) = {row["state"] for row in await m.owner.nodes()}
    assert state == "active"
    await m.judge(node, *await m.serve(node, 1))  # a paid job: a strike, by the rule for jobs
    assert (await m.audits(node))["strikes"] == 1
    assert (await admission(m, node))["state"] == "admitted"
