"""Job rows: what is written, in which order, and what is read.

One batching writer per replica: what arrives while a statement is in the database goes into the next one. `create` and `finish` are
awaited; `running` and `settled` are not. Every write of a driver names it, so that the old driver of an adopted job writes nothing.
"""

import asyncio
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import structlog

from serve_app.db import DatabaseUnavailable, Line
from serve_app.store.counts import COUNT_ENDED, shard_of
from serve_app.store.records import Adopted, Finish, JobRecord, JobState, NewJob, Owed, Progress
from serve_app.webhooks.outbox import TELL

log = structlog.get_logger()
LEASE_S = 15
SEEN_S = 15  # how long a job whose consumer left waits for somebody to read it
ADOPT_LIMIT = 50
RETRY_LIMIT_S = 2.5
MAX_WAITING = 2048


CREATE = """
WITH new AS (SELECT * FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::boolean[],
             %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
             AS u(id, user_id, username, key_id, kind, model, node, held, is_sync, request, terms, why, prompt, webhook)),
job AS (INSERT INTO serve_app.job (id, user_id, username, key_id, kind, model, node, held, is_sync, prompt, webhook, driver, lease_until)
        SELECT id, user_id, username, key_id, kind, model, node, held, is_sync, prompt, webhook, %b::text, clock_timestamp() + make_interval(secs => %b) FROM new
        ON CONFLICT DO NOTHING RETURNING id),
text AS (INSERT INTO serve_app.job_text (job_id, request, terms, why) SELECT new.id, new.request, new.terms, new.why FROM new JOIN job USING (id))
SELECT id FROM job"""
PROGRESS = """
UPDATE serve_app.job j SET change = DEFAULT, attempt = u.attempt, node = u.node, served = coalesce(u.served, j.served), state = CASE WHEN u.running AND j.state = 0 THEN 1 ELSE j.state END,
       started_at = CASE WHEN u.running THEN coalesce(j.started_at, clock_timestamp()) ELSE j.started_at END
  FROM unnest(%b::uuid[], %b::smallint[], %b::text[], %b::boolean[], %b::text[]) AS u(id, attempt, node, running, served)
 WHERE j.id = u.id AND j.driver = %b::text AND j.state < 2 AND u.attempt >= j.attempt RETURNING j.id"""
FINISH = """
WITH u AS (SELECT * FROM unnest(%b::uuid[], %b::smallint[], %b::boolean[], %b::int[], %b::int[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[],
           %b::text[], %b::text[], %b::text[], %b::text[], %b::smallint[], %b::text[], %b::text[])
           AS u(id, state, incomplete, prompt, completion, counted, owed, cost, error, result, marks, served, why, node, attempt, weights, receipt)),
done AS (UPDATE serve_app.job j SET change = DEFAULT, state = u.state, node = coalesce(u.node, j.node), attempt = CASE WHEN u.node IS NULL THEN j.attempt ELSE u.attempt END, is_incomplete = u.incomplete, prompt_tokens = u.prompt, completion_tokens = u.completion,
         counted_by = u.counted, owed = u.owed, cost = u.cost, error = u.error, served = u.served, ended_at = clock_timestamp(), lease_until = NULL
    FROM u WHERE j.id = u.id AND j.driver = %b::text AND j.state < 2
    RETURNING j.id, j.model, j.node, j.state, j.owed, j.completion_tokens, j.user_id, j.key_id, j.webhook),
text AS (UPDATE serve_app.job_text t SET result = coalesce(u.result, t.result), marks = u.marks, why = coalesce(u.why, t.why),
         weights = u.weights, receipt = u.receipt FROM u JOIN done USING (id)
         WHERE t.job_id = u.id AND (u.result IS NOT NULL OR u.why IS NOT NULL)),
<counts>,
told AS (<tell>)
SELECT id FROM done""".replace("<counts>", COUNT_ENDED).replace("<tell>", TELL)
SETTLED = """
UPDATE serve_app.job j SET change = DEFAULT, owed = NULL, settled_at = clock_timestamp(), cost = coalesce(u.cost, j.cost)
  FROM unnest(%b::uuid[], %b::bigint[]) AS u(id, cost) WHERE j.id = u.id AND j.owed IS NOT NULL RETURNING j.id"""
ADOPT = """
WITH lost AS (SELECT id FROM serve_app.job WHERE state < 2 AND lease_until < clock_timestamp() AND id <> ALL (%b::uuid[]) ORDER BY lease_until LIMIT %b
              FOR UPDATE SKIP LOCKED),
mine AS (UPDATE serve_app.job j SET driver = %b::text, lease_until = clock_timestamp() + make_interval(secs => %b) FROM lost WHERE j.id = lost.id
         RETURNING j.*)
SELECT m.id, m.user_id, m.username, m.key_id, m.kind, m.model, m.state, m.attempt, m.node, m.held, m.is_sync,
       coalesce(m.seen_at > clock_timestamp() - make_interval(secs => %b), false), t.request, t.terms, t.why, m.served
  FROM mine m JOIN serve_app.job_text t ON t.job_id = m.id"""
# A stone on the grave of a job of which nobody knows whether it was recorded: a record that comes later meets it, and does nothing.
# One that was never recorded has no texts, and nobody is told of it.
BURY = (
    """
WITH buried AS (INSERT INTO serve_app.job AS j (id, user_id, username, key_id, kind, model, node, held, is_sync, driver, state, cost, owed, error, ended_at)
VALUES (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, 3, 0, 'void_retryable', 'It could not be recorded.', clock_timestamp())
ON CONFLICT (id) DO UPDATE SET change = DEFAULT, state = EXCLUDED.state, cost = EXCLUDED.cost, owed = EXCLUDED.owed, error = EXCLUDED.error,
  ended_at = EXCLUDED.ended_at, lease_until = NULL WHERE j.driver = EXCLUDED.driver AND j.state < 2
  RETURNING j.id, j.user_id, j.key_id, j.state, j.webhook),
done AS (SELECT b.* FROM buried b JOIN serve_app.job_text t ON t.job_id = b.id)"""  # noqa: S608
    + TELL
)

_Waiting = tuple[Any, "asyncio.Future[bool] | None"]


class JobWriter:
    """Writes a replica's job rows in batches. The order between a job's own writes is kept: create, progress, finish, settled."""

    def __init__(self, url: str, driver: str) -> None:
        self.driver = driver
        self.live: set[uuid.UUID] = set()  # jobs that this process drives
        self._line = Line(url, name="gfe_serve_writer")
        self._shard = shard_of(driver)
        self._creates: list[_Waiting] = []
        self._progress: dict[uuid.UUID, Progress] = {}
        self._raises: list[_Waiting] = []
        self._finishes: list[_Waiting] = []
        self._settled: dict[uuid.UUID, int | None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write (inside the running loop)."""
        self._task = asyncio.create_task(self._run(), name="job writer")

    async def aclose(self) -> None:
        """Write what waits, then stop."""
        if self._task:
            self._wake.set()
            while self._creates or self._finishes or self._settled:
                await asyncio.sleep(0.01)
                if self._task.done():
                    break
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._line.drop()

    async def create(self, job: NewJob) -> bool:
        """Record a job; False when its id was there before.

        Raises:
            DatabaseUnavailable: The outcome is unknown.
        """
        self.live.add(job.id)
        return await self._put(self._creates, job)

    def running(self, progress: Progress) -> None:
        """Say that a job runs; nobody waits for it, the newest state wins."""
        self._progress[progress.id] = progress
        self._wake.set()

    async def raise_attempt(self, progress: Progress) -> bool:
        """Raise a job's attempt number before the attempt is made; False: the job is not ours any more.

        Raises:
            DatabaseUnavailable: The outcome is unknown.
        """
        self._progress.pop(progress.id, None)
        return await self._put(self._raises, progress)

    async def finish(self, finish: Finish) -> bool:
        """Record a job's end; False: it had ended before, or is not ours any more.

        Raises:
            DatabaseUnavailable: The outcome is unknown.
        """
        self._progress.pop(finish.id, None)
        is_ours = await self._put(self._finishes, finish)
        self.live.discard(finish.id)
        return is_ours

    def settled(self, id_: uuid.UUID, cost: int | None) -> None:
        """Say that the ledger acknowledged; nobody waits for it."""
        self._settled[id_] = cost
        self._wake.set()

    async def _put(self, waiting: list[_Waiting], value: Any) -> bool:
        if len(waiting) >= MAX_WAITING:
            raise DatabaseUnavailable(0)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting.append((value, future))
        self._wake.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write(self._creates, self._write_creates)
            await self._write(self._raises, self._write_progress)
            await self._write(self._finishes, self._write_finishes)
            if self._progress:
                values = [(one, None) for one in self._progress.values()]
                self._progress = {}
                await self._write(values, self._write_progress)
            if self._settled:
                settled, self._settled = self._settled, {}
                await self._write_settled(settled)

    async def _write(self, waiting: Sequence[_Waiting], write: Any) -> None:
        """Write a batch; after a lost connection once more: every write may be done twice."""
        batch = list(waiting)
        if not batch:
            return
        if isinstance(waiting, list):
            del waiting[: len(batch)]
        loop = asyncio.get_running_loop()
        until = loop.time() + RETRY_LIMIT_S
        while True:
            try:
                done = await write([value for value, _ in batch])
                break
            except Exception as failed:  # noqa: BLE001 - whatever it was, the callers must hear of it
                if isinstance(failed, DatabaseUnavailable) and loop.time() + 0.1 < until:
                    await asyncio.sleep(0.1)
                    continue
                log.warning("job_rows_not_written", count=len(batch), reason=str(failed))
                for _, future in batch:
                    if future and not future.done():
                        future.set_exception(failed if isinstance(failed, DatabaseUnavailable) else DatabaseUnavailable(0))
                return
        for value, future in batch:
            if future and not future.done():
                future.set_result(value.id in done)

    async def _write_creates(self, jobs: list[NewJob]) -> set[uuid.UUID]:
        rows = await self._line.query(
            CREATE,
            (
                [job.id for job in jobs], [job.user for job in jobs], [job.username for job in jobs], [job.key for job in jobs],
                [job.kind for job in jobs], [job.model for job in jobs], [job.node for job in jobs], [job.held for job in jobs],
                [job.is_sync for job in jobs], [job.request for job in jobs], [job.terms for job in jobs], [job.why for job in jobs],
                [job.prompt for job in jobs], [job.webhook for job in jobs],
                self.driver, float(LEASE_S),
            ),
        )  # fmt: skip
        return {row[0] for row in rows}

    async def _write_progress(self, steps: list[Progress]) -> set[uuid.UUID]:
        arrays = (
            [one.id for one in steps], [one.attempt for one in steps], [one.node for one in steps], [one.is_running for one in steps],
            [one.served for one in steps],
        )  # fmt: skip
        return {row[0] for row in await self._line.query(PROGRESS, (*arrays, self.driver))}

    async def _write_finishes(self, ends: list[Finish]) -> set[uuid.UUID]:
        arrays = (
            [one.id for one in ends], [int(one.state) for one in ends], [one.is_incomplete for one in ends], [one.prompt_tokens for one in ends],
            [one.completion_tokens for one in ends], [one.counted_by for one in ends], [one.owed for one in ends], [one.cost for one in ends],
            [one.error for one in ends], [one.result for one in ends], [one.marks for one in ends], [one.served for one in ends],
            [one.why for one in ends], [one.node for one in ends], [one.attempt for one in ends], [one.weights for one in ends],
            [one.receipt for one in ends],
        )  # fmt: skip
        return {row[0] for row in await self._line.query(FINISH, (*arrays, self.driver, self._shard, self._shard))}

    async def _write_settled(self, settled: dict[uuid.UUID, int | None]) -> None:
        try:
            await self._line.query(SETTLED, (list(settled), list(settled.values())))
        except DatabaseUnavailable:
            self._settled = settled | self._settled  # the next write takes them along


class JobStore:
    """Reads, and the writes of the sweeper; rare, one statement each."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._line.drop()

    async def ping(self) -> None:
        """See whether the database answers.

        Raises:
            DatabaseUnavailable: It does not.
        """
        await self._line.query("SELECT 1")

    async def find(self, id_: uuid.UUID) -> JobRecord | None:
        """Look a job up."""
        rows = await self._line.query(
            "SELECT j.id, j.user_id, j.username, j.model, j.state, j.is_incomplete, j.attempt, j.node, j.held, j.cost, j.prompt_tokens, "
            "j.completion_tokens, j.counted_by, j.error, j.created_at, j.started_at, j.ended_at, t.request, t.result, t.marks, t.why, t.weights, "
            "t.receipt "
            "FROM serve_app.job j JOIN serve_app.job_text t ON t.job_id = j.id WHERE j.id = %b",
            (id_,),
        )
        if not rows:
            return None
        row = rows[0]
        return JobRecord(
            id=row[0], user=row[1], username=row[2], model=row[3], state=JobState(row[4]), is_incomplete=row[5], attempt=row[6], node=row[7],
            held=row[8], cost=row[9], prompt_tokens=row[10], completion_tokens=row[11], counted_by=row[12], error=row[13], created_at=row[14],
            started_at=row[15], ended_at=row[16], request=json.loads(row[17]), result=row[18], marks=row[19],
            why=json.loads(row[20]) if row[20] else [], weights=row[21], receipt=json.loads(row[22]) if row[22] else None,
        )  # fmt: skip

    async def known(self, ids: list[uuid.UUID]) -> set[uuid.UUID]:
        """Tell which jobs exist."""
        return {row[0] for row in await self._line.query("SELECT id FROM serve_app.job WHERE id = ANY (%b)", (ids,))}

    async def renew(self, driver: str, live: Collection[uuid.UUID]) -> None:
        """Renew the leases of a driver's jobs, in one statement; of those that it really drives, so that a forgotten one runs out."""
        await self._line.query(
            "UPDATE serve_app.job SET lease_until = clock_timestamp() + make_interval(secs => %b) WHERE driver = %b AND state < 2 AND id = ANY (%b)",
            (float(LEASE_S), driver, list(live)),
        )

    async def release(self, driver: str) -> None:
        """A driver leaves: whoever looks next may take its jobs over."""
        await self._line.query("UPDATE serve_app.job SET lease_until = clock_timestamp() WHERE driver = %b AND state < 2", (driver,))

    async def bury(self, job: NewJob, driver: str) -> None:
        """End a job whether it was recorded or not; it owes its hold."""
        await self._line.query(
            BURY,
            (job.id, job.user, job.username, job.key, str(job.kind), job.model, job.node, job.held, job.is_sync, driver),
        )

    async def adopt(self, driver: str, live: Collection[uuid.UUID]) -> list[Adopted]:
        """Take over jobs whose driver's lease ran out, at most `ADOPT_LIMIT` at a time; each goes to one driver only.

        Also this driver's own, where it does not drive them: a record that came late, an end that could not be written.

        A job that is read along by nobody is wanted only when it runs on by itself.
        """
        rows = await self._line.query(ADOPT, (list(live), ADOPT_LIMIT, driver, float(LEASE_S), float(SEEN_S)))
        return [
            Adopted(
                id=row[0], user=row[1], username=row[2], key=row[3], kind=row[4], model=row[5], state=JobState(row[6]), attempt=row[7], node=row[8],
                held=row[9], is_sync=row[10], is_wanted=not row[10] or row[11], request=json.loads(row[12]),
                terms=json.loads(row[13]) if row[13] else {}, why=json.loads(row[14]) if row[14] else [], served=row[15],
            )
            for row in rows
        ]  # fmt: skip

    async def note_seen(self, id_: uuid.UUID) -> None:
        """Somebody reads a running job beside its driver."""
        await self._line.query("UPDATE serve_app.job SET seen_at = clock_timestamp() WHERE id = %b AND state < 2", (id_,))

    async def is_seen(self, id_: uuid.UUID) -> bool:
        """Tell whether somebody has read a job within `SEEN_S`."""
        rows = await self._line.query(
            "SELECT coalesce(seen_at > clock_timestamp() - make_interval(secs => %b), false) FROM serve_app.job WHERE id = %b",
            (float(SEEN_S), id_),
        )
        return bool(rows and rows[0][0])

    async def owed(self, older_than_s: float) -> list[Owed]:
        """List settlements that the ledger has not acknowledged, oldest first."""
        rows = await self._line.query(
            "SELECT id, owed, coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0), coalesce(counted_by, 'provider'), coalesce(node, ''), attempt, served, "
            "extract(epoch FROM clock_timestamp() - ended_at)::float8 FROM serve_app.job WHERE owed IS NOT NULL AND ended_at <= clock_timestamp() - make_interval(secs => %b) ORDER BY ended_at LIMIT 200",
            (float(older_than_s),),
        )
        return [
            Owed(
                id=row[0], what=row[1], prompt_tokens=row[2], completion_tokens=row[3], counted_by=row[4], node=row[5], attempt=row[6], served=row[7],
                age_s=row[8],
            )
            for row in rows
        ]  # fmt: skip
