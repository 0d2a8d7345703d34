"""Earnings: released for withdrawal after the pay-out delay, and summed by day, model and node for their owner."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ledger.db import Connection, Database
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

ACCOUNTS_PER_ROUND = 200
ENTRIES_PER_RELEASE = 5000
_NAMESPACE = uuid.UUID("0d7a2f0e-54c9-5b6e-8a51-4a6c2f7e9b02")


@dataclass(frozen=True, slots=True)
class Sum:
    """What was earned in micro-credits, by how many jobs."""

    earned: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A provider's earnings: ever, in the period asked for, by day (every day of it), by model, and by node: its id, its name."""

    total: Sum
    period: Sum
    by_day: tuple[tuple[date, Sum], ...]
    by_model: tuple[tuple[str, Sum], ...]
    by_node: tuple[tuple[str, str, Sum], ...]


Terms = Callable[[Connection, str], Awaitable[timedelta | None]]


def after(delay: timedelta) -> Terms:
    """Terms that are the same for every node."""

    async def terms(_connection: Connection, _node: str) -> timedelta:
        return delay

    return terms


class Earnings:
    """Releases and sums. `terms`: how long a node's earnings wait, so that a wrong payment can be taken back; None: nothing leaves now."""

    def __init__(self, database: Database, *, terms: Terms) -> None:
        self._database = database
        self._terms = terms
        self._looked_up_to = 0  # each round goes on behind the accounts of the one before

    async def release(self) -> int:
        """Move what has waited long enough from the nodes' `pending` to their owners' `earned`; answer how many nodes got something.

        Raises:
            DatabaseUnavailable: The database does not answer; what was not done, the next round does.
        """

        async def waiting(connection: Connection) -> list[tuple[int, str]]:
            cursor = await connection.execute(
                "SELECT a.id, a.address FROM ledger.account a LEFT JOIN ledger.release_mark m ON m.account_id = a.id "
                "WHERE starts_with(a.address, 'provider:') AND split_part(a.address, ':', 3) = 'pending' AND a.posted > 0 "
                "AND a.seq > coalesce(m.seq, 0) AND a.id > %s ORDER BY a.id LIMIT %s",
                [self._looked_up_to, ACCOUNTS_PER_ROUND],
            )
            return [(row[0], row[1]) for row in await cursor.fetchall()]

        found = await self._database.run(waiting)
        self._looked_up_to = found[-1][0] if len(found) == ACCOUNTS_PER_ROUND else 0
        done = 0
        for account, address in found:
            _, owner, _, *node = address.split(":")

            async def work(connection: Connection, account: int = account, owner: str = owner, node: str = ":".join(node)) -> bool:
                async with connection.transaction():
                    return await self._release_one(connection, account, accounts.earned(uuid.UUID(owner)), node)

            done += await self._database.run(work)
        return done

    async def _release_one(self, connection: Connection, account: int, target: str, node: str) -> bool:
        """Release the oldest entries of one account. What was taken back meanwhile and is too young itself holds them all up."""
        await connection.execute("INSERT INTO ledger.release_mark (account_id, seq) VALUES (%s, 0) ON CONFLICT DO NOTHING", [account])
        cursor = await connection.execute("SELECT seq FROM ledger.release_mark WHERE account_id = %s FOR UPDATE", [account])
        mark = await cursor.fetchone()
        assert mark is not None
        delay = await self._terms(connection, node)
        if delay is None:
            return False
        cursor = await connection.execute(
            "SELECT max(r.seq), coalesce(sum(r.amount) FILTER (WHERE r.kind <> %s), 0), (SELECT posted - held FROM ledger.account WHERE id = %s) FROM ("
            "SELECT e.seq, e.amount, t.kind FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id WHERE e.account_id = %s AND e.seq > %s "
            "AND t.at <= clock_timestamp() - %s::interval ORDER BY e.seq LIMIT %s) r",
            [int(Kind.EARNINGS_RELEASE), account, account, mark[0], delay, ENTRIES_PER_RELEASE],
        )
        row = await cursor.fetchone()
        assert row is not None
        last, due, free = row
        if last is None or due < 0 or due > free:
            return False
        if due:
            ids = await accounts.open_accounts(connection, [target])
            post = Post(
                id=uuid.uuid5(_NAMESPACE, f"{account}:{last}"), kind=Kind.EARNINGS_RELEASE,
                legs=((account, -int(due)), (ids[target], int(due))), meta={"up_to": last},
            )  # fmt: skip
            if await apply(connection, [post]) != [Status.OK]:
                return False
        await connection.execute("UPDATE ledger.release_mark SET seq = %s WHERE account_id = %s", [last, account])
        return bool(due)

    async def report(self, person: uuid.UUID, days: int, now: datetime) -> Report:
        """Tell a provider what was earned: ever, and in the last `days` days, today included (days are UTC's).

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        first = now.astimezone(UTC).date() - timedelta(days=days - 1)

        async def work(connection: Connection) -> Report:
            async with connection.transaction():
                await _sum_up(connection, person)
                cursor = await connection.execute(
                    "SELECT coalesce(sum(earned), 0), coalesce(sum(jobs), 0) FROM ledger.earnings_day WHERE person_id = %s", [person]
                )
                total = await cursor.fetchone()
                cursor = await connection.execute(
                    "SELECT d.day, d.model, d.node, coalesce(n.name, ''), d.earned, d.jobs FROM ledger.earnings_day d "
                    "LEFT JOIN ledger.node n ON n.id = d.node AND n.person_id = d.person_id WHERE d.person_id = %s AND d.day >= %s",
                    [person, first],
                )
                rows = await cursor.fetchall()
            assert total is not None
            return _report(Sum(int(total[0]), int(total[1])), rows, first, days)

        return await self._database.run(work)

    async def of_node(self, person: uuid.UUID, node: str, now: datetime) -> tuple[Sum, Sum]:
        """Tell what a person's node earned: ever, and today (UTC's).

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        today = now.astimezone(UTC).date()

        async def work(connection: Connection) -> tuple[Sum, Sum]:
            async with connection.transaction():
                await _sum_up(connection, person)
                cursor = await connection.execute(
                    "SELECT coalesce(sum(earned), 0), coalesce(sum(jobs), 0), coalesce(sum(earned) FILTER (WHERE day = %s), 0), "
                    "coalesce(sum(jobs) FILTER (WHERE day = %s), 0) FROM ledger.earnings_day WHERE person_id = %s AND node = %s",
                    [today, today, person, node],
                )
                row = await cursor.fetchone()
            assert row is not None
            return Sum(int(row[0]), int(row[1])), Sum(int(row[2]), int(row[3]))

        return await self._database.run(work)


def _report(total: Sum, rows: list[tuple[date, str, str, str, int, int]], first: date, days: int) -> Report:
    """Lay rows of (day, model, node, its name, earned, jobs) out."""
    by_day = {first + timedelta(days=n): Sum() for n in range(days)}
    by_model: dict[str, Sum] = {}
    by_node: dict[tuple[str, str], Sum] = {}
    for day, model, node, name, earned, jobs in rows:
        by_day[day] = _plus(by_day.get(day, Sum()), earned, jobs)
        by_model[model] = _plus(by_model.get(model, Sum()), earned, jobs)
        by_node[node, name] = _plus(by_node.get((node, name), Sum()), earned, jobs)
    period = Sum(sum(one.earned for one in by_day.values()), sum(one.jobs for one in by_day.values()))
    models = sorted(by_model.items(), key=lambda item: (-item[1].earned, item[0]))
    nodes = sorted(((*node, one) for node, one in by_node.items()), key=lambda item: (-item[2].earned, item[0]))
    return Report(total, period, tuple(sorted(by_day.items())), tuple(models), tuple(nodes))


def _plus(one: Sum, earned: int, jobs: int) -> Sum:
    return Sum(one.earned + earned, one.jobs + jobs)


# A node's earnings are what came into its escrow; what promotional credits paid has no escrow, and is of the node that finished the job.
# A job counts once, at the node that finished it where that is the person's, whatever else of the person's served it.
_SUM_UP = """
WITH own AS (SELECT a.id, a.seq AS last, coalesce(m.seq, 0) AS mark, substring(a.address FROM '^provider:[^:]+:pending:(.+)$') AS node
               FROM ledger.account a LEFT JOIN ledger.earnings_mark m ON m.account_id = a.id
              WHERE a.address = ANY (%(addresses)s) AND a.seq > coalesce(m.seq, 0)),
fresh AS (SELECT (t.at AT TIME ZONE 'UTC')::date AS day, coalesce(t.meta->>'model', '') AS model, t.kind, e.amount,
                 coalesce(own.node, max(own.node) OVER (PARTITION BY t.id), c.meta->>'node', t.meta->>'node', '') AS node,
                 row_number() OVER (PARTITION BY t.id ORDER BY own.node IS DISTINCT FROM coalesce(c.meta->>'node', t.meta->>'node'), own.id) AS nr
            FROM own JOIN ledger.entry e ON e.account_id = own.id AND e.seq > own.mark AND e.seq <= own.last JOIN ledger.txn t ON t.id = e.txn_id
            LEFT JOIN ledger.txn c ON c.id = t.reverses
           WHERE (t.kind = %(capture)s AND e.amount > 0) OR (t.kind = %(refund)s AND e.amount < 0)),
marked AS (INSERT INTO ledger.earnings_mark (account_id, seq) SELECT id, last FROM own ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq)
INSERT INTO ledger.earnings_day AS d (person_id, day, model, node, earned, jobs)
SELECT %(person)s, day, model, node, sum(amount),
       count(*) FILTER (WHERE nr = 1 AND kind = %(capture)s) - count(*) FILTER (WHERE nr = 1 AND kind = %(refund)s)
  FROM fresh GROUP BY day, model, node
ON CONFLICT (person_id, day, model, node) DO UPDATE SET earned = d.earned + excluded.earned, jobs = d.jobs + excluded.jobs"""


async def _sum_up(connection: Connection, person: uuid.UUID) -> None:
    """Add the entries since the last time to the summary, in the caller's transaction; one at a time per person."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", [str(person)])
    addresses = [*await accounts.open_pendings(connection, person), accounts.promo(person)]
    await connection.execute(_SUM_UP, {"addresses": addresses, "person": person, "capture": int(Kind.CAPTURE), "refund": int(Kind.REFUND)})
