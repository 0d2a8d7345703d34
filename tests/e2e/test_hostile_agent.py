"""Agents that cheat, on a whole installation: the real program behind the real edge gateway, judged by the real auditor; and honest ones.

In development earnings are released at once: here they wait a day, so that a ban finds them. Consumers pay with credits that they deposited.
"""

import signal
import time
from contextlib import ExitStack
from decimal import Decimal

import psycopg
import pytest

from bench.requantize import requantize
from cluster import processes
from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from ledger.money import accounts
from tests.books import unquiet
from tests.e2e.market import Market, told, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]
FLAT, PER_TOKEN, DEPOSIT = Decimal(1), Decimal("0.01"), Decimal(100)
PROMPTS = ("Write a story about a clock.", "Explain how the sea makes salt.", "Give me advice for a long winter.")
ANSWER_TOKENS = 72
AUDITS = 3  # within which a cheat is caught
AUDIT_LIMIT_S = 90
FEED_LIMIT_S = 15  # until everybody knows what the ledger decided
REFUSED = 77  # the agent's exit code when it is not wanted any more
ALARMS = 10
STORY_TOKENS = 300
MICRO = 1_000_000


@pytest.fixture(scope="module")
def market(new_installation, tmp_path_factory):
    found = new_installation(26000)
    found.environment |= {
        "GFE_WELCOME_CREDITS": "0.00", "GFE_PAYOUT_DELAY_HOURS": "24", "GFE_JOB_PRICE": str(FLAT),
        "GFE_COMPLETION_PRICE": str(PER_TOKEN * MICRO),
        "GFE_ADMISSION_CANARIES": "0", "GFE_CANARY_PERCENT": "0",  # a cheat is refused before its first job otherwise, as test_admission_of_cheats.py shows
    }  # fmt: skip
    found.up()
    with ExitStack() as stack:
        yield Market(found, tmp_path_factory.mktemp("market"), stack, DEPOSIT)
    found.remove()  # now, not at the end of the run: an idle installation costs the others their time


@pytest.fixture(scope="module")
def original():
    return fetch(SMOLLM2, cache_folder(), Mirrors())


@pytest.fixture(scope="module")
def honest_runtime(market, original):
    return market.runtime("honest", original)


@pytest.fixture(scope="module")
def honest(market, honest_runtime):
    return market.agent("honest", honest_runtime)


def answered(market, agent):
    """Let a machine answer what is too short to be judged, then three longer ones at once, for two consumers; answers these, the jobs, the costs."""
    consumers = [market.consumer() for _ in range(2)]
    jobs = [consumers[0].submit("Say hi.", agent.node, 4)]
    rows = [consumers[0].row(jobs[0])]
    jobs += [consumers[n % 2].submit(prompt, agent.node, ANSWER_TOKENS) for n, prompt in enumerate(PROMPTS)]
    rows += [consumers[n % 2].row(job) for n, job in enumerate(jobs[1:])]
    assert [(row["status"], row["node"]["id"]) for row in rows] == [("COMPLETED", agent.node)] * len(rows), rows
    costs = [Decimal(row["cost"]) for row in rows]
    assert costs == [FLAT + PER_TOKEN * market.tokens(row["result"]["output"]) for row in rows]
    return consumers, jobs, costs


def judged(report, jobs):
    """The verdicts on these jobs that say something: whether each is a flag."""
    return [one["is_flagged"] for one in report["results"] if one["job_id"] in jobs and one["rule"] in {"A", "B"}]


def balances(consumers):
    return [consumer.balance for consumer in consumers]


def test_an_honest_machine_is_left_alone(market, honest):
    before, _ = honest.owner.earnings()
    consumers, jobs, costs = answered(market, honest)

    def found():
        return honest.owner.audits(honest.node)

    wait_for(lambda: len(judged(found(), jobs)) == AUDITS, AUDIT_LIMIT_S, lambda: f"not audited: {found()}")
    assert judged(found(), jobs) == [False] * AUDITS
    assert (found()["state"], found()["strikes"], found()["count_alarms"]) == ("active", 0, 0)
    assert honest.owner.earnings() == (before + sum(costs), 0)
    assert balances(consumers) == [DEPOSIT - costs[0] - costs[1] - costs[3], DEPOSIT - costs[2]]
    market.installation.require_books()


def test_a_machine_that_serves_fewer_bits_is_banned_within_three_audits_and_everybody_is_paid_back(market, original):
    copy = market.folder / "q4_0.gguf"
    requantize(original, copy, "q4_0")
    agent = market.agent("cheat", market.runtime("cheat", copy))
    owner, began = agent.owner, time.monotonic()
    consumers, jobs, costs = answered(market, agent)
    wait_for(lambda: owner.audits(agent.node)["state"] == "banned", AUDIT_LIMIT_S, lambda: f"not banned: {owner.audits(agent.node)}")
    told("from the first job to the ban", time.monotonic() - began)

    report = owner.audits(agent.node)
    assert judged(report, jobs) == [True] * AUDITS
    assert {step["step"] for step in report["steps"]} == {"reaudit", "quarantine", "ban"}
    assert "does not come from the advertised model" in report["state_reason"]
    assert "You may appeal" in report["what_next"]
    assert agent.process.wait(AUDIT_LIMIT_S) == REFUSED, agent.said
    told("from the first job to the end of its agent", time.monotonic() - began)
    assert f"This node is banned. {report['state_reason']}" in agent.said
    wait_for(lambda: "It is banned" in owner.why(agent.node), FEED_LIMIT_S, lambda: owner.why(agent.node))
    assert report["state_reason"] in owner.why(agent.node)

    assert balances(consumers) == [DEPOSIT - costs[0], DEPOSIT]  # what was not flagged is not given back
    assert owner.earnings() == (0, 0)
    assert forfeited(market, agent.node) == costs[0]
    market.installation.require_books()
    assert unquiet(admin_url(market)) == {}


def admin_url(market):
    return (market.installation.home.secrets / "admin_database_url").read_text()


def forfeited(market, node):
    """What a node lost, in credits."""
    with psycopg.connect(admin_url(market)) as connection:
        row = connection.execute("SELECT posted FROM ledger.account WHERE address = %s", [accounts.forfeited(node)]).fetchone()
    return Decimal(row[0]) / MICRO


def test_a_machine_that_claims_more_tokens_is_paid_by_our_count_and_in_quarantine_after_ten_jobs(market, honest_runtime):
    port = market.beside("tests.e2e.inflating_runtime", honest_runtime)["port"]
    agent = market.agent("inflating", f"http://127.0.0.1:{port}")
    owner, consumer, began = agent.owner, market.consumer(), time.monotonic()

    def found():
        report = owner.audits(agent.node)
        return report["state"], report["count_alarms"]

    def paid(n):
        """Have the machine say a sentence, which ends before its limit: a claim above that is cut by the agent itself."""
        row = consumer.row(consumer.submit(f"Tell me a fact about the number {n}.", agent.node, 200, stop="."))
        counted = market.tokens(row["result"]["output"])
        assert row["usage"]["completion_tokens"] == counted < 200 // 3
        assert Decimal(row["cost"]) == FLAT + PER_TOKEN * counted
        return Decimal(row["cost"])

    costs = [paid(n) for n in range(ALARMS - 1)]
    wait_for(lambda: found() == ("active", ALARMS - 1), FEED_LIMIT_S, lambda: f"{found()} after {ALARMS - 1} jobs")
    costs.append(paid(ALARMS - 1))
    wait_for(lambda: found() == ("quarantined", ALARMS), FEED_LIMIT_S, lambda: f"{found()} after {ALARMS} jobs")
    told("from the first job to the quarantine", time.monotonic() - began)

    report = owner.audits(agent.node)
    assert report["strikes"] == 0  # its answers are good
    assert "token counts were off" in report["state_reason"]
    assert "token counts were off" in agent.command("why")
    wait_for(lambda: "in quarantine" in owner.why(agent.node), FEED_LIMIT_S, lambda: owner.why(agent.node))
    assert owner.earnings() == (sum(costs), 0)
    assert consumer.balance == DEPOSIT - sum(costs)
    market.installation.require_books()


def test_an_edge_gateway_killed_in_mid_stream_costs_no_word_one_reconnect_and_one_charge(market, honest):
    installation, consumer = market.installation, market.consumer()
    _, unbroken, usual_s = streamed(consumer, honest.node)
    connects, before = honest.connects, consumer.balance
    victim = processes.process_of(installation.pid_of("edge"))

    def strike():
        processes.send(victim, signal.SIGKILL)

    job, text, longest_s = streamed(consumer, honest.node, strike)
    told("longest time without a word, the edge gateway killed", longest_s)
    told("longest time without a word, nothing killed", usual_s)
    assert text == unbroken
    row = consumer.row(job)
    assert row["attempts"] == 1  # the same one went on
    assert installation.pid_of("edge") != victim.pid
    assert honest.connects == connects + 1
    assert before - consumer.balance == Decimal(row["cost"]) == FLAT + PER_TOKEN * market.tokens(text)
    installation.require_books()


def streamed(consumer, node, strike=lambda: None):
    """Have a machine tell a long story, and strike in its middle; answers the job, the text and the longest time between two pieces of it."""
    job = consumer.submit("Tell me a very long story about a whale.", node, STORY_TOKENS)
    pieces, at, longest_s = [], time.monotonic(), 0.0
    for said in consumer.events(job):
        if said["event"] == "end":
            assert (said["status"], said["result"]["output"]) == ("COMPLETED", "".join(pieces))
        if said.get("content"):
            pieces.append(said["content"])
            longest_s, at = max(longest_s, time.monotonic() - at), time.monotonic()
            if len(pieces) == STORY_TOKENS // 6:
                strike()
    return job, "".join(pieces), longest_s
