"""PostgreSQL as far as the job rows need it: the statements of `serve_app/store/jobs.py`, each atomic, over one clock.

The seam is psycopg's connection: `Line`, `JobWriter` and `JobStore` run as they are. `tests/contract/test_job_store_contract.py` holds
these rows and the real server's against each other. A statement that is not known here is an error, never a guess.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

from serve_app.store import batches, cancels, counts, files, jobs
from serve_app.webhooks import outbox
from tests.simulation.network import ask

EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
ENDED = 2  # states from here on are ends


@dataclass
class Row:
    """One job, with its texts."""

    id: Any
    user_id: str
    username: str
    key_id: str
    kind: str
    model: str
    node: str | None
    held: int
    driver: str | None
    lease_until: float | None
    created_at: float
    request: str | None
    terms: str | None
    why: str | None
    is_sync: bool
    state: int = 0
    is_incomplete: bool = False
    attempt: int = 1
    cost: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    counted_by: str | None = None
    owed: str | None = None
    settled_at: float | None = None
    cancel_at: float | None = None
    error: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    result: str | None = None
    marks: str | None = None
    weights: str | None = None
    receipt: str | None = None
    served: str | None = None
    seen_at: float | None = None


@dataclass
class JobTable:
    """The rows. `clock` is the server's; `watch` is told of each row before it changes, and what becomes of it."""

    clock: Any
    rows: dict[Any, Row] = field(default_factory=dict)
    watch: Any = None

    def execute(self, statement, parameters):
        """Run a statement; answer its rows."""
        for known, run in STATEMENTS.items():
            if known in statement:
                return getattr(self, run)(*parameters)
        raise AssertionError(f"the simulated database does not know this statement: {statement}")

    def ping(self):
        return [(1,)]

    def change(self, row, **changes):
        if self.watch:
            self.watch(row, changes)
        for name, value in changes.items():
            setattr(row, name, value)

    def create(self, *columns_and_lease):
        *columns, driver, lease_s = columns_and_lease
        now, made = self.clock(), []
        for id_, user, username, key, kind, model, node, held, is_sync, request, terms, why, _prompt, _webhook in zip(
            *columns, strict=True
        ):
            if id_ not in self.rows:
                lease = (driver, now + lease_s, now)
                self.rows[id_] = Row(id_, user, username, key, kind, model, node, held, *lease, request, terms, why, is_sync)
                made.append((id_,))
        return made

    def progress(self, ids, attempts, nodes, runnings, served, driver):
        written = []
        for id_, attempt, node, is_running, shares in zip(ids, attempts, nodes, runnings, served, strict=True):
            row = self._driven(id_, driver)
            if row is None or attempt < row.attempt:
                continue
            state, started_at = row.state, row.started_at
            if is_running:
                state, started_at = max(state, 1), started_at or self.clock()
            self.change(row, attempt=attempt, node=node, state=state, started_at=started_at, served=shares or row.served)
            written.append((id_,))
        return written

    def finish(self, *columns_and_driver):
        *columns, driver, _shard, _shard_again = columns_and_driver
        written = []
        for one in zip(*columns, strict=True):
            id_, state, is_incomplete, prompt, completion, counted, owed, cost, error, result, marks, served, why, node, attempt = one[:15]
            row = self._driven(id_, driver)
            if row is None:
                continue
            self.change(
                row, state=state, node=node or row.node, attempt=attempt if node else row.attempt, is_incomplete=is_incomplete, prompt_tokens=prompt,
                completion_tokens=completion, counted_by=counted, owed=owed, cost=cost, error=error, served=served, ended_at=self.clock(),
                lease_until=None,
            )  # fmt: skip
            if result is not None or why is not None:
                texts = {"result": row.result if result is None else result, "marks": marks, "why": row.why if why is None else why}
                texts |= {"weights": one[15], "receipt": one[16]}
                row.__dict__.update(texts)
            written.append((id_,))
        return written

    def _driven(self, id_, driver):
        row = self.rows.get(id_)
        return row if row and row.driver == driver and row.state < ENDED else None

    def settled(self, ids, costs):
        written = []
        for id_, cost in zip(ids, costs, strict=True):
            row = self.rows.get(id_)
            if row and row.owed is not None:
                self.change(row, owed=None, settled_at=self.clock(), cost=row.cost if cost is None else cost)
                written.append((id_,))
        return written

    def find(self, id_):
        row = self.rows.get(id_)
        return [_found(row)] if row and row.request is not None else []  # a buried job has no texts

    def known(self, ids):
        return [(id_,) for id_ in ids if id_ in self.rows]

    def renew(self, lease_s, driver, ids):
        for id_ in ids:
            if row := self._driven(id_, driver):
                self.change(row, lease_until=self.clock() + lease_s)
        return []

    def adopt(self, own, limit, driver, lease_s, seen_s):
        now = self.clock()
        lost = [row for row in self.rows.values() if row.state < ENDED and row.lease_until < now and row.id not in own]
        mine = sorted(lost, key=lambda row: row.lease_until)[:limit]
        for row in mine:
            self.change(row, driver=driver, lease_until=now + lease_s)
        return [
            (
                row.id, row.user_id, row.username, row.key_id, row.kind, row.model, row.state, row.attempt, row.node, row.held, row.is_sync,
                self._is_seen(row, seen_s), row.request, row.terms, row.why, row.served,
            )
            for row in mine
        ]  # fmt: skip

    def _is_seen(self, row, seen_s):
        return row.seen_at is not None and row.seen_at > self.clock() - seen_s

    def bury(self, id_, user, username, key, kind, model, node, held, is_sync, driver):
        end = {"state": 3, "cost": 0, "owed": "void_retryable", "error": "It could not be recorded.", "ended_at": self.clock()}
        row = self.rows.get(id_)
        if row is None:
            self.rows[id_] = row = Row(
                id_, user, username, key, kind, model, node, held, driver, None, self.clock(), None, None, None, is_sync
            )
        if row.driver == driver and row.state < ENDED:
            self.change(row, lease_until=None, **end)
        return []

    def want_canceled(self, id_):
        row = self.rows.get(id_)
        if row is None or row.state >= ENDED:
            return []
        self.change(row, cancel_at=self.clock() if row.cancel_at is None else row.cancel_at)
        return [(row.attempt, row.node)]

    def wanted_canceled(self, driver):
        return [(row.id,) for row in self.rows.values() if row.driver == driver and row.cancel_at is not None and row.state < ENDED]

    def is_wanted_canceled(self, id_):
        row = self.rows.get(id_)
        return [(1,)] if row and row.cancel_at is not None else []

    def release(self, driver):
        for row in self.rows.values():
            if row.driver == driver and row.state < ENDED:
                self.change(row, lease_until=self.clock())
        return []

    def no_events(self, *_):
        """Nobody has a webhook here."""
        return []

    def no_batches(self, *_):
        """Nobody has a file or a batch here."""
        return []

    def no_counts(self, *_):
        """Nobody looks at the counts of nodes here."""
        return []

    def note_seen(self, id_):
        row = self.rows.get(id_)
        if row and row.state < ENDED:
            self.change(row, seen_at=self.clock())
        return []

    def is_seen(self, seen_s, id_):
        row = self.rows.get(id_)
        return [(self._is_seen(row, seen_s),)] if row else []

    def owed(self, older_than_s):
        until = self.clock() - older_than_s
        owed = sorted((row for row in self.rows.values() if row.owed is not None and row.ended_at <= until), key=lambda row: row.ended_at)
        return [
            (
                row.id, row.owed, row.prompt_tokens or 0, row.completion_tokens or 0, row.counted_by or "provider", row.node or "", row.attempt,
                row.served, self.clock() - row.ended_at,
            )
            for row in owed[:200]
        ]  # fmt: skip


def _at(moment):
    return None if moment is None else datetime.fromtimestamp(EPOCH + moment, UTC)


def _found(row):
    return (
        row.id, row.user_id, row.username, row.model, row.state, row.is_incomplete, row.attempt, row.node, row.held, row.cost, row.prompt_tokens,
        row.completion_tokens, row.counted_by, row.error, _at(row.created_at), _at(row.started_at), _at(row.ended_at), row.request, row.result,
        row.marks, row.why, row.weights, row.receipt,
    )  # fmt: skip


# A part of the text that no other statement has, and who runs it.
STATEMENTS = {
    jobs.CREATE: "create",
    jobs.PROGRESS: "progress",
    jobs.FINISH: "finish",
    jobs.SETTLED: "settled",
    "FROM serve_app.job j JOIN serve_app.job_text t": "find",
    "SELECT id FROM serve_app.job WHERE id = ANY": "known",
    "SET lease_until = clock_timestamp() + make_interval(secs => %b) WHERE driver": "renew",
    jobs.ADOPT: "adopt",
    jobs.BURY: "bury",
    "UPDATE serve_app.job SET seen_at = clock_timestamp() WHERE id = %b AND state < 2": "note_seen",
    "SELECT coalesce(seen_at > clock_timestamp() - make_interval(secs => %b), false) FROM serve_app.job WHERE id": "is_seen",
    "FROM serve_app.job WHERE owed IS NOT NULL AND ended_at <=": "owed",
    cancels.WANT: "want_canceled",
    cancels.WANTED: "wanted_canceled",
    cancels.IS_WANTED: "is_wanted_canceled",
    "SET lease_until = clock_timestamp() WHERE driver": "release",
    "SELECT 1": "ping",
    outbox.CLAIM: "no_events",
    outbox.EXPIRE: "no_events",
    outbox.PRUNE: "no_events",
    batches.CLAIM: "no_batches",
    batches.SWEEP: "no_batches",
    "UPDATE serve_app.batch SET lease_until": "no_batches",
    files.SWEEP: "no_batches",
    counts.NOTE_BROKEN: "no_counts",
}


class Connection:
    """Stands where psycopg's `AsyncConnection` does."""

    def __init__(self, end):
        self._end = end
        self.closed = False

    @classmethod
    async def connect(cls, url, **options):
        import asyncio

        try:
            return cls(await asyncio.get_running_loop().network.open("database"))
        except OSError as refused:
            raise psycopg.OperationalError(str(refused)) from refused

    def cursor(self, *, binary):
        assert binary
        return _Cursor(self)

    async def query(self, statement, parameters):
        try:
            return await ask(self._end, (statement.decode(), parameters))
        except OSError as broken:
            self.closed = True
            raise psycopg.OperationalError(str(broken)) from broken

    async def close(self):
        self.closed = True
        self._end.close()


class _Cursor:
    def __init__(self, connection):
        self._connection = connection
        self._rows = None
        self.description = None

    async def execute(self, statement, parameters):
        self._rows = await self._connection.query(statement, parameters)
        self.description = self._rows

    async def fetchall(self):
        return self._rows


def serve_database(network, process, table, duration_s):
    """Let the rows' server take connections; a statement takes `duration_s()` before it is done, and is done even if nobody waits."""

    def accept(end):
        def receive(asked):
            network.loop.call_later(duration_s(), answer, asked, context=process.context)

        def answer(asked):
            end.send(table.execute(*asked))

        end.receive = receive

    network.listen("database", process, accept)
