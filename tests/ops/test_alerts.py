"""Alerts fire when what they watch is broken, and not before: real ledger, PostgreSQL, Dispatcher, replica, edge gateway, auditor.

What Ray exports is shown without Ray here; `test_installation.py` reads it from a running installation, and breaks that.
"""

import asyncio
import time

import httpx2
import psycopg
import pytest
from prometheus_client import generate_latest

from cluster.standby_nodes import StandbyNodes, StandbySettings
from ledger.db import DatabaseUnavailable, connect
from ledger.errors import GatewayUnavailable
from ledger.ids import new_uuid7
from ledger.loops import audit_new_entries, expire_holds, look
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply
from ledger.payments.inbox import work_inbox
from serve_app.auditor import working
from serve_app.auditor.__main__ import running_auditor
from tests.cluster.builders import wait
from tests.cluster.test_dispatcher import World
from tests.cluster.test_dispatcher import running as running_dispatcher
from tests.databases import Database
from tests.edge_agent import account
from tests.edge_platform import free_port, public_ledger, running_edge_platform
from tests.faults.platform import LEDGER, faulty_platform
from tests.ledger.auditing import market
from tests.ledger.paying import deposit, give_earnings, rows_of, send, withdraw
from tests.ledger.proof.server import throw_away_server
from tests.ops.promql import Scrapes
from tests.ops.watched import RaysPage, fires, holds
from tests.running_ledger import start_ledger
from tests.serve_app.test_auditor import ScriptedReference, auditor_with, offer
from tests.waiting import until

# `settings` are the auditor's; the fixture is made in tests/serve_app/test_auditor.py.
from tests.serve_app.test_auditor import settings  # noqa: F401  isort: skip


class Watched:
    """Scrapes what a test has, as Prometheus would: who does not answer is not in the scrape."""

    def __init__(self, *pages):
        self.pages, self.scrapes = pages, Scrapes()

    async def scrape(self):
        self.scrapes.add(time.time(), *[text for page in self.pages if (text := await page()) is not None])
        return self.scrapes


def page_of(ledger):
    async def page():
        await look(ledger.context)
        return (await ledger.http.get("/metrics")).text

    return page


def page_at(url):
    async def page():
        async with httpx2.AsyncClient() as http:
            try:
                return (await http.get(url)).text
            except httpx2.TransportError:
                return None

    return page


def page_of_told(told):
    shown = RaysPage()

    async def page():
        return shown.of(told())

    return page


# --- ledger -----------------------------------------------------------------------------------------------------------------------------


async def test_books_that_somebody_wrote_into(ledger, database):
    watched = Watched(page_of(ledger))
    await audit_new_entries(ledger.context)
    await give_earnings(ledger, database, 1_000_000)
    await audit_new_entries(ledger.context)
    assert not holds("BooksRed", await watched.scrape())
    assert not holds("BooksUnaudited", watched.scrapes)
    rows_of(database, "UPDATE ledger.account SET posted = posted + 7 WHERE address = 'world:test'")
    await audit_new_entries(ledger.context)
    assert fires("BooksRed", await watched.scrape())
    assert fires("BooksUnaudited", watched.scrapes)  # nobody audits any more
    rows_of(database, "UPDATE ledger.account SET posted = posted - 7 WHERE address = 'world:test'")
    await audit_new_entries(ledger.context)
    assert not holds("BooksRed", await watched.scrape())


async def test_a_hold_that_nobody_releases(ledger, database):
    watched = Watched(page_of(ledger))
    await ledger.client.place_hold(ledger.hold())
    assert not fires("HoldsOverdue", await watched.scrape())
    rows_of(database, "UPDATE ledger.hold SET expires_at = clock_timestamp() - interval '2 minutes'")
    assert fires("HoldsOverdue", await watched.scrape())
    await expire_holds(ledger.context)
    assert not holds("HoldsOverdue", await watched.scrape())


async def test_credits_that_stay_on_a_clearing_account(ledger, database):
    watched = Watched(page_of(ledger))
    await give_earnings(ledger, database, 30_000_000)
    assert (await withdraw(ledger, "20.00")).status_code == 201
    assert not fires("ClearingNotZero", await watched.scrape())  # it is on its way
    assert fires("WithdrawalsWaiting", watched.scrapes)
    rows_of(database, "UPDATE ledger.payment SET status = 'FAILED'")  # a refusal that forgot to give the credits back
    assert fires("ClearingNotZero", await watched.scrape())
    assert not fires("WithdrawalsWaiting", watched.scrapes)
    connection = await connect(database.pay_url, name="test")
    ids = await accounts.open_accounts(connection, ["clearing:payouts:mock", "world:test"])
    legs = ((ids["clearing:payouts:mock"], -20_000_000), (ids["world:test"], 20_000_000))
    assert await apply(connection, [Post(id=new_uuid7(), kind=Kind.ADJUSTMENT, legs=legs)]) == [Status.OK]
    await connection.close()
    assert not holds("ClearingNotZero", await watched.scrape())


async def test_an_event_that_waits_for_a_gateway_which_does_not_answer(ledger, database, monkeypatch):
    async def silent(*_):
        raise GatewayUnavailable("mock")

    watched = Watched(page_of(ledger))
    made = (await deposit(ledger)).json()
    monkeypatch.setattr(ledger.context.payments.gateways["mock"], "look_up", silent)
    await send(ledger, made)
    assert not holds("PaymentEventsWaiting", await watched.scrape())
    rows_of(database, "UPDATE ledger.payment_event SET received_at = received_at - interval '11 minutes'")
    assert fires("PaymentEventsWaiting", await watched.scrape())
    monkeypatch.undo()
    rows_of(database, "UPDATE ledger.payment_event SET next_at = clock_timestamp()")
    await work_inbox(ledger.context.payments)
    assert not holds("PaymentEventsWaiting", await watched.scrape())


async def test_an_appeal_that_nobody_answers(ledger_with, database):
    ledger = await ledger_with(welcome_credits="0")
    watched = Watched(page_of(ledger))
    m = await market(ledger, database)
    node = await m.node()
    await m.judge(node, *(await m.serve(node, 5))[:3])
    assert not holds("AppealsOpen", await watched.scrape())
    assert (
        await m.owner.call("POST", f"nodes/{node}/appeal/", json={"note": "The driver was broken; it is mended now."})
    ).status_code < 300
    assert fires("AppealsOpen", await watched.scrape())


async def test_a_database_that_is_killed(tmp_path):
    with throw_away_server() as server:
        database = Database(server.admin_url, server.ledger_url, server.pay_url, "", "gfe")
        ledger, stop = await start_ledger(database, tmp_path)
        try:
            watched = Watched(page_of(ledger))
            assert not holds("DatabaseSilent", await watched.scrape())
            server.kill()
            with pytest.raises(DatabaseUnavailable):
                await look(ledger.context)
            watched.scrapes.add(time.time(), (await ledger.http.get("/metrics")).text)
            assert fires("DatabaseSilent", watched.scrapes)
            await asyncio.to_thread(server.start)
            assert not holds("DatabaseSilent", await watched.scrape())
        finally:
            await stop()


async def test_a_ledger_that_is_stopped(ledger):
    async with public_ledger(ledger, free_port()) as url:
        watched = Watched(page_at(f"{url}/metrics"))
        assert not holds("LedgerDown", await watched.scrape())
    assert fires("LedgerDown", await watched.scrape())


# --- jobs and nodes ---------------------------------------------------------------------------------------------------------------------


async def test_runtimes_that_fail_and_nodes_that_are_killed(ledger_with, database):
    ledger = await ledger_with(**LEDGER)
    async with faulty_platform(database, ledger, nodes=2, node_wait_s=0.5) as platform:
        watched = Watched(page_of_told(platform.dispatcher.figures), page_of_told(platform.contexts[0].figures.told))
        for _ in range(3):
            assert (await platform.chat("fake:words=3", max_tokens=3)).status_code == 200
        await watched.scrape()
        assert (await platform.chat("fake:words=3", max_tokens=3)).status_code == 200
        await watched.scrape()
        alerts = ("NodeLost", "NoNodeReady", "AvailabilityBurnsFast", "AvailabilityBurnsSlowly", "JobApiDown", "DispatcherDown")
        assert [alert for alert in alerts if holds(alert, watched.scrapes)] == []
        for node in platform.nodes:
            node.script.always = "fake:500"
        assert (await platform.chat("fake:words=3", max_tokens=3)).status_code == 502
        await watched.scrape()
        for alert in ("AvailabilityBurnsFast", "AvailabilityBurnsSlowly"):
            assert holds(alert, watched.scrapes)
        assert fires("AvailabilityBurnsFast", watched.scrapes)
        assert not fires("NodeLost", watched.scrapes)
        for node in platform.nodes:
            node.worker.kill()
        await until(lambda: not any(node.is_healthy for node in platform.known().values()))
        await watched.scrape()
        assert fires("NodeLost", watched.scrapes)
        assert fires("NoNodeReady", watched.scrapes)
    assert fires("JobApiDown", watched.scrapes)  # nobody tells anything any more
    assert fires("DispatcherDown", watched.scrapes)


@pytest.mark.nightly  # the ledger takes its time to give up
async def test_a_settlement_that_the_ledger_does_not_take(ledger_with, database):
    ledger = await ledger_with(**LEDGER)
    async with faulty_platform(database, ledger, nodes=1) as platform:
        watched = Watched(page_of_told(platform.contexts[0].figures.told))
        with psycopg.connect(database.admin_url) as blocking:
            job = asyncio.create_task(platform.chat("fake:drip=0.1", max_tokens=5))
            await until(lambda: platform.nodes[0].script.running)
            await asyncio.to_thread(blocking.execute, "LOCK TABLE ledger.hold IN ACCESS EXCLUSIVE MODE")
            assert (await job).status_code == 200
            assert not holds("SettlementLate", await watched.scrape())
            rows_of(database, "UPDATE serve_app.job SET ended_at = ended_at - interval '6 minutes' WHERE owed IS NOT NULL")
            await until(lambda: platform.contexts[0].figures.oldest_unsettled_s > 300)
            assert fires("SettlementLate", await watched.scrape())
        await platform.require_quiet()
        await until(lambda: platform.contexts[0].figures.oldest_unsettled_s == 0)
        assert not holds("SettlementLate", await watched.scrape())


async def test_a_standby_node_that_does_not_come(tmp_path, monkeypatch):
    async def ask(_):
        """The cloud has no GPU left."""

    listed = tmp_path / "nodes"
    listed.write_text("node_s1")
    nodes = StandbyNodes(StandbySettings(listed, 0.1), None, ask)
    watched = Watched(page_of_told(nodes.figures))
    async with running_dispatcher(World()) as dispatcher:
        looking = asyncio.create_task(nodes.look_for_ever(dispatcher))
        nodes.running([])
        await until(lambda: nodes.states == {"node_s1": "off"})
        assert not fires("StandbyNodeLate", await watched.scrape())
        monkeypatch.setattr("cluster.standby.GROW_AFTER_S", 0)
        exchanging = asyncio.create_task(dispatcher.exchange("replica", [wait("job_1", is_async=True)], [], []))
        await until(lambda: nodes.states == {"node_s1": "coming"})
        assert not fires("StandbyNodeLate", await watched.scrape())
        monkeypatch.setattr("cluster.standby.START_LIMIT_S", 0.1)
        await until(lambda: nodes.states == {"node_s1": "late"})
        assert fires("StandbyNodeLate", await watched.scrape())
        await dispatcher.exchange("replica", [], ["job_1"], [])
        await until(lambda: nodes.states == {"node_s1": "off"})
        assert not holds("StandbyNodeLate", await watched.scrape())
        await asyncio.gather(exchanging)
        looking.cancel()


@pytest.mark.nightly  # eleven seconds, most of them waiting
async def test_jobs_that_wait_too_long(ledger_with, database):
    ledger = await ledger_with(**LEDGER)
    async with faulty_platform(database, ledger, nodes=1, slots=1) as platform:
        watched = Watched(page_of_told(platform.contexts[0].figures.told))
        await platform.chat("fake:words=3", max_tokens=3)
        await watched.scrape()
        assert not fires("QueueWaitLong", await watched.scrape())
        platform.nodes[0].script.always = "fake:long=1@5.5"
        answers = await asyncio.gather(*(platform.chat("fake:words=3", max_tokens=3) for _ in range(2)))
        assert [answer.status_code for answer in answers] == [200, 200]
        await watched.scrape()
        assert holds("QueueWaitLong", watched.scrapes)
        assert holds("FirstTokenSlow", watched.scrapes)


# --- edge gateway and auditor -----------------------------------------------------------------------------------------------------------


async def test_an_edge_gateway_that_is_stopped(ledger, database):
    async with running_edge_platform(database, ledger) as world:
        watched = Watched(page_at(f"{world.edges[0].node_url}/metrics"))
        assert not holds("EdgeDown", await watched.scrape())
        await world.stack_of_edge.aclose()
        assert fires("EdgeDown", await watched.scrape())


async def test_an_auditor_without_a_ledger_and_none_at_all(ledger, settings):  # noqa: F811
    async with running_auditor(settings) as url:
        watched = Watched(page_at(f"{url}/metrics"))

        async def has_asked():
            return not holds("AuditorDown", await watched.scrape())

        while not await has_asked():
            await asyncio.sleep(0.05)
    gone = settings.model_copy(update={"ledger_socket": settings.ledger_socket.with_name("nobody.sock")})
    async with running_auditor(gone) as url:
        alone = Watched(page_at(f"{url}/metrics"))
        assert fires("AuditorDown", await alone.scrape())
    assert fires("AuditorDown", await watched.scrape())


async def test_a_reference_that_does_not_answer_and_a_sample_that_grows_old(ledger, database, settings, monkeypatch):  # noqa: F811
    monkeypatch.setattr(working, "PAUSE_S", 0.01)
    node = (await (await account(ledger, database)).enrolled())[1]
    auditor = auditor_with(ledger, settings, ScriptedReference(fails=working.TRIES))

    async def page():
        return generate_latest(auditor._metrics.registry).decode()

    watched = Watched(page, page_of(ledger))
    await offer(ledger, settings, node)
    assert not fires("AuditorGivesUp", await watched.scrape())
    await auditor.work()
    assert fires("AuditorGivesUp", await watched.scrape())
    assert not holds("AuditSamplesOld", watched.scrapes)
    rows_of(database, "UPDATE ledger.audit_sample SET wanted_at = wanted_at - interval '25 hours'")
    assert fires("AuditSamplesOld", await watched.scrape())
