"""One of several ledger processes leads; when it goes, another one does."""

import asyncio

import psycopg

from ledger import leader
from ledger.leader import lead
from tests.waiting import until


class Candidate:
    """A process that would lead, and what it did."""

    def __init__(self, url):
        self.is_leading = asyncio.Event()
        self.task = asyncio.create_task(lead(url, lambda: [self._work()]))

    async def _work(self):
        self.is_leading.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.is_leading.clear()

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_one_leads_and_the_next_follows_when_it_ends(database, monkeypatch):
    monkeypatch.setattr(leader, "LOOK_EVERY_S", 0.05)
    candidates = [Candidate(database.ledger_url) for _ in range(3)]
    for left in (3, 2, 1):
        await until(lambda: any(one.is_leading.is_set() for one in candidates))
        (now,) = [one for one in candidates if one.is_leading.is_set()]
        assert len(candidates) == left
        await now.end()
        assert not now.is_leading.is_set()
        candidates.remove(now)


async def test_a_leader_that_loses_its_connection_stops_working_and_may_lead_again(database, monkeypatch):
    monkeypatch.setattr(leader, "LOOK_EVERY_S", 0.05)
    one = Candidate(database.ledger_url)
    for _ in range(2):
        await until(one.is_leading.is_set)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            (ended,) = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'gfe_leader' AND datname = current_database()"
            ).fetchone()
        assert ended == 1
        await until(lambda: not one.is_leading.is_set())
    await until(one.is_leading.is_set)
    await one.end()
