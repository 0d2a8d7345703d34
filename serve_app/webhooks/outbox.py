"""The outbox: what is to be told, to whom, and what became of it.

Rows are written in the statement that ends a job (`TELL`), so that a crash loses none. Any replica claims what is due, by a lease; per job and
endpoint the next one waits for the one before. Times are the database's, for every replica has a clock of its own.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.db import Line
from serve_app.store.records import JobState
from serve_app.webhooks.records import JOB_EVENTS, Answer, Claimed, Delivery, DeliveryState
from serve_app.webhooks.schedule import DISABLE_S, GIVE_UP_S
from serve_app.webhooks.signing import Signer

LEASE_S = 30.0  # longer than an attempt and the writing of its outcome can take
KEPT_DAYS = 30
PRUNED_AT_ONCE = 1000
AT_ONCE = 64
AT_ONCE_PER_HOST = 4
AT_ONCE_PER_ACCOUNT = 16

JOB_EVENTS_BY_STATE = f"ARRAY[{', '.join(repr(name) for name in JOB_EVENTS)}]"
# Part of the statements that end jobs: `done` are the rows that ended. Without a listener it looks into one index, and writes nothing.
TELL = f"""
INSERT INTO serve_app.webhook_event (user_id, webhook_id, job_id, type, url)
SELECT d.user_id, l.id, d.id, e.type, l.url
  FROM done d
 CROSS JOIN LATERAL (SELECT ({JOB_EVENTS_BY_STATE})[d.state - {int(JobState.SUCCEEDED) - 1}] AS type) e
 CROSS JOIN LATERAL (
   SELECT w.id, w.url FROM serve_app.webhook w
    WHERE w.user_id = d.user_id AND w.disabled_at IS NULL AND e.type = ANY (w.events) AND (w.key_id IS NULL OR w.key_id = d.key_id)
   UNION ALL SELECT NULL, d.webhook WHERE d.webhook IS NOT NULL) l"""  # noqa: S608
# Host by host, so that however much waits for one of them hides nothing of another; then the oldest of all, but not too much of one account.
CLAIM = """
WITH RECURSIVE lane AS (
  (SELECT e.lane FROM serve_app.webhook_event e WHERE e.state = 0 ORDER BY e.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT e.lane FROM serve_app.webhook_event e WHERE e.state = 0 AND e.lane > l.lane ORDER BY e.lane LIMIT 1) FROM lane l WHERE l.lane IS NOT NULL),
due AS (
  SELECT d.id, d.user_id, d.next_at, row_number() OVER (PARTITION BY d.user_id ORDER BY d.next_at, d.seq) AS nth
    FROM lane l LEFT JOIN unnest(%b::text[], %b::int[]) AS b(lane, used) ON b.lane = l.lane
   CROSS JOIN LATERAL (
     SELECT e.id, e.seq, e.user_id, e.next_at FROM serve_app.webhook_event e
      WHERE e.state = 0 AND e.lane = l.lane AND e.next_at <= now() AND (e.lease_until IS NULL OR e.lease_until < now())
        AND NOT EXISTS (SELECT FROM serve_app.webhook_event p
                         WHERE p.state = 0 AND p.job_id = e.job_id AND p.webhook_id IS NOT DISTINCT FROM e.webhook_id AND p.seq < e.seq)
      ORDER BY e.next_at, e.seq LIMIT greatest(0, %b - coalesce(b.used, 0))) d),
mine AS (
  SELECT e.id FROM serve_app.webhook_event e
   WHERE e.id IN (SELECT d.id FROM due d LEFT JOIN unnest(%b::text[], %b::int[]) AS a(user_id, used) ON a.user_id = d.user_id
                   WHERE d.nth <= %b - coalesce(a.used, 0) ORDER BY d.next_at LIMIT %b)
     AND e.state = 0 AND e.next_at <= now() AND (e.lease_until IS NULL OR e.lease_until < now())
     FOR UPDATE SKIP LOCKED),
taken AS (
  UPDATE serve_app.webhook_event e SET attempts = e.attempts + 1, claim = gen_random_uuid(), lease_until = now() + make_interval(secs => %b), tried_at = now()
    FROM mine WHERE e.id = mine.id RETURNING e.*)
SELECT t.id, t.claim, t.user_id, t.webhook_id, t.job_id, t.type, t.url, t.lane, t.attempts, extract(epoch FROM now() - t.begun_at)::float8, t.created_at,
       coalesce(w.has_result, false), w.id IS NOT NULL AND w.disabled_at IS NULL, w.version, w.rotated_at, coalesce(a.version, 1), a.rotated_at
  FROM taken t LEFT JOIN serve_app.webhook w ON w.id = t.webhook_id LEFT JOIN serve_app.webhook_account a ON a.user_id = t.user_id
 ORDER BY t.next_at, t.seq"""
# Delivered is delivered, whoever did it. What an endpoint failed before is forgotten with its first success.
DELIVERED = """
WITH done AS (UPDATE serve_app.webhook_event SET state = 1, status = %b, error = NULL, lease_until = NULL, ended_at = now() WHERE id = %b AND state = 0
              RETURNING webhook_id)
UPDATE serve_app.webhook w SET failing_since = NULL FROM done WHERE w.id = done.webhook_id AND w.failing_since IS NOT NULL"""
# A claim that ran out says nothing any more. An endpoint that has failed for days, or says that it is gone, is disabled with a note.
FAILED = """
WITH done AS (
  UPDATE serve_app.webhook_event
     SET state = CASE WHEN %b::float8 IS NULL THEN 2 ELSE 0 END, status = %b, error = %b, lease_until = NULL,
         next_at = now() + make_interval(secs => coalesce(%b::float8, 0)), ended_at = CASE WHEN %b::float8 IS NULL THEN now() END
   WHERE id = %b AND claim = %b AND state = 0 RETURNING webhook_id)
UPDATE serve_app.webhook w
   SET failing_since = coalesce(w.failing_since, now()),
       disabled_at = CASE WHEN %b::text IS NOT NULL OR w.failing_since < now() - make_interval(secs => %b) THEN now() END,
       disabled_why = CASE WHEN %b::text IS NOT NULL THEN %b::text WHEN w.failing_since < now() - make_interval(secs => %b) THEN %b::text END
  FROM done WHERE w.id = done.webhook_id AND w.disabled_at IS NULL RETURNING w.id, w.disabled_at IS NOT NULL"""
DROP_PENDING = """
UPDATE serve_app.webhook_event SET state = 2, error = %b, ended_at = now() WHERE webhook_id = %b AND state = 0"""
EXPIRE = """
UPDATE serve_app.webhook_event SET state = 2, error = coalesce(error, 'It could not be tried in time.'), ended_at = now()
 WHERE state = 0 AND begun_at < now() - make_interval(secs => %b) AND (lease_until IS NULL OR lease_until < now())"""
PRUNE = """
DELETE FROM serve_app.webhook_event WHERE id IN
  (SELECT id FROM serve_app.webhook_event WHERE begun_at < now() - make_interval(days => %b) ORDER BY begun_at LIMIT %b FOR UPDATE SKIP LOCKED)"""
TEST_EVENT = """
INSERT INTO serve_app.webhook_event (user_id, webhook_id, type, url)
SELECT w.user_id, w.id, 'webhook.test', w.url FROM serve_app.webhook w
 WHERE w.id = %b AND w.user_id = %b
   AND NOT EXISTS (SELECT FROM serve_app.webhook_event e WHERE e.webhook_id = w.id AND e.type = 'webhook.test' AND e.state = 0)"""
_COLUMNS = "seq, id, webhook_id, job_id, type, url, state, attempts, status, error, created_at, tried_at, next_at, ended_at"
LAST_TEST = f"""
SELECT {_COLUMNS} FROM serve_app.webhook_event WHERE webhook_id = %b AND user_id = %b AND type = 'webhook.test' ORDER BY seq DESC LIMIT 1"""  # noqa: S608
LIST = f"""
SELECT {_COLUMNS} FROM serve_app.webhook_event WHERE user_id = %b AND (%b::uuid IS NULL OR webhook_id = %b) AND seq < %b ORDER BY seq DESC LIMIT %b"""  # noqa: S608
# A new round of 24 hours. A try that is under way now is not doubled: its claim stands.
RESEND = f"""
UPDATE serve_app.webhook_event e SET state = 0, next_at = now(), begun_at = now(), ended_at = NULL
 WHERE e.id = %b AND e.user_id = %b
   AND (e.webhook_id IS NULL OR EXISTS (SELECT FROM serve_app.webhook w WHERE w.id = e.webhook_id AND w.disabled_at IS NULL))
RETURNING {_COLUMNS}"""  # noqa: S608
LAST = 2**63 - 1
LASTING_FAILURE = "It failed for 5 days without one success. Mend it, then enable it again."


class Outbox:
    """The rows of deliveries."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve_webhooks")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._line.drop()

    async def claim(self, limit: int, hosts: Mapping[str, int], accounts: Mapping[str, int]) -> list[Claimed]:
        """Take what is due, at most so many; `hosts` and `accounts` say how many are on their way to or for each now."""
        rows = await self._line.query(
            CLAIM,
            (
                list(hosts), list(hosts.values()), AT_ONCE_PER_HOST, list(accounts), list(accounts.values()), AT_ONCE_PER_ACCOUNT, limit, LEASE_S,
            ),
        )  # fmt: skip
        return [_claimed(row) for row in rows]

    async def delivered(self, id_: uuid.UUID, status: int) -> None:
        """The receiver took it."""
        await self._line.query(DELIVERED, (status, id_))

    async def failed(self, one: Claimed, answer: Answer, next_s: float | None, disable: str | None = None) -> None:
        """The receiver did not take it; it is tried again in so many seconds, or given up. `disable` says why its endpoint is to get nothing more."""
        rows = await self._line.query(
            FAILED,
            (
                next_s, answer.status, answer.error, next_s, next_s, one.id, one.claim, disable, DISABLE_S, disable, disable, DISABLE_S, LASTING_FAILURE,
            ),
        )  # fmt: skip
        if rows and rows[0][1]:
            await self.drop_pending(rows[0][0], "Its endpoint was disabled.")

    async def drop_pending(self, webhook: uuid.UUID, why: str) -> None:
        """Give up what waits for an endpoint that gets nothing more."""
        await self._line.query(DROP_PENDING, (why, webhook))

    async def tidy(self) -> None:
        """Give up what was not even tried within its time, and forget what is old."""
        await self._line.query(EXPIRE, (GIVE_UP_S + LEASE_S,))
        await self._line.query(PRUNE, (KEPT_DAYS, PRUNED_AT_ONCE))

    async def test(self, webhook: uuid.UUID, user: str) -> Delivery | None:
        """Queue a test for an endpoint; one that waits already is answered instead. None: there is no such endpoint of this account."""
        await self._line.query(TEST_EVENT, (webhook, user))
        rows = await self._line.query(LAST_TEST, (webhook, user))
        return _delivery(rows[0]) if rows else None

    async def list(self, user: str, webhook: uuid.UUID | None, before: int | None, limit: int) -> list[Delivery]:
        """List an account's deliveries, or those of one endpoint, newest first."""
        before = LAST if before is None else before
        return [_delivery(row) for row in await self._line.query(LIST, (user, webhook, webhook, before, limit))]

    async def resend(self, id_: uuid.UUID, user: str) -> Delivery | None:
        """Send once more, at once; None: there is no such delivery, or its endpoint is gone or disabled."""
        rows = await self._line.query(RESEND, (id_, user))
        return _delivery(rows[0]) if rows else None

    async def exists(self, id_: uuid.UUID, user: str) -> bool:
        """Tell whether an account has such a delivery."""
        return bool(await self._line.query("SELECT 1 FROM serve_app.webhook_event WHERE id = %b AND user_id = %b", (id_, user)))


def _claimed(row: Sequence[Any]) -> Claimed:
    (
        id_,
        claim,
        user,
        webhook,
        job,
        type_,
        url,
        lane,
        attempts,
        age_s,
        created_at,
        has_result,
        is_open,
        version,
        rotated_at,
        of_account,
        rotated_account,
    ) = row
    signer = None
    if webhook is None:
        signer = Signer.of_account(user, of_account, rotated_account)
    elif is_open:
        signer = Signer.of_endpoint(webhook, version, rotated_at)
    return Claimed(
        id=id_, claim=claim, user=user, webhook=webhook, job=job, type=type_, url=url, lane=lane, attempts=attempts, age_s=age_s, created_at=created_at,
        has_result=has_result, signer=signer,
    )  # fmt: skip


def _delivery(row: Sequence[Any]) -> Delivery:
    state = DeliveryState(row[6])
    return Delivery(
        seq=row[0], id=row[1], webhook=row[2], job=row[3], type=row[4], url=row[5], state=state, attempts=row[7], status=row[8], error=row[9],
        created_at=row[10], tried_at=row[11], next_at=row[12] if state is DeliveryState.PENDING else None, ended_at=row[13],
    )  # fmt: skip
