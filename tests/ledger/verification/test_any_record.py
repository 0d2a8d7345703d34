"""Whatever audits find in whatever order, between releases, refunds and pardons: states follow the rules, and money goes where it may."""

import asyncio
import uuid
from datetime import timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.audit_log import Origin
from ledger.db import Database
from ledger.errors import InsufficientFunds, InvalidRequest, PaymentEnded
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.audit import audit_at
from ledger.money.earnings import Earnings
from ledger.money.posting import Kind, Post, Status, apply
from ledger.operators.refunds import refund
from ledger.verification.appeals import Appeals
from ledger.verification.payouts import payout_terms
from ledger.verification.samples import Sample, Samples
from ledger.verification.verdicts import Verdict, Verdicts

COST, FEE = 1000, 100
OPERATOR = Origin("test")
jobs = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("serve"), st.booleans()), st.tuples(st.sampled_from(["flag", "flag", "flag", "clean", "refund"]), jobs),
    st.tuples(st.sampled_from(["release", "spend", "lift", "pardon"]), st.none()),
)  # fmt: skip


class Play:
    """One node with its owner and a consumer, and what must be so of them."""

    def __init__(self, database):
        self.database = Database(database.ledger_url, name="test", size=2)
        self.pay = Database(database.pay_url, name="test", size=1)
        self.admin = Database(database.admin_url, name="test", size=1)
        self.owner, self.consumer, self.node = uuid.uuid4(), uuid.uuid4(), f"node_{uuid.uuid4().hex}"
        self.jobs, self.judged, self.flags, self.flagged = [], set(), [], set()
        self.state, self.refunded, self.spent, self.pardoned, self.owed = "active", {}, 0, 0, 0
        self.names = {
            "promo": accounts.promo(self.consumer), "paid": accounts.paid(self.consumer), "own": accounts.promo(self.owner),
            "escrow": accounts.pending(self.owner, self.node), "earned": accounts.earned(self.owner), "kept": accounts.forfeited(self.node),
            "fees": accounts.FEES, "world": "world:test", "goodwill": accounts.GOODWILL,
        }  # fmt: skip

    async def begin(self):
        async def work(connection):
            for person in (self.owner, self.consumer):
                await connection.execute(
                    "INSERT INTO ledger.person (id, username, name_key) VALUES (%s, %s, %s)", [person, str(person), str(person)]
                )
            await connection.execute(
                "INSERT INTO ledger.node (id, person_id, name, kind, public_key) VALUES (%s, %s, 'n', 'edge', %s)",
                [self.node, self.owner, self.node],
            )

        await self.admin.transact(work)
        self.ids = dict(
            zip(self.names, (await self.pay.run(lambda c: accounts.open_accounts(c, list(self.names.values())))).values(), strict=True)
        )
        await self.post(self.pay, Kind.DEPOSIT, world=-200_000, promo=100_000, paid=100_000)
        self.fees, self.goodwill = await self.balance("fees"), await self.balance("goodwill")

    async def post(self, database, kind, *, id_=None, meta=None, **legs):
        post = Post(id=id_ or new_uuid7(), kind=kind, meta=meta, legs=tuple((self.ids[name], amount) for name, amount in legs.items()))
        assert await database.transact(lambda connection: apply(connection, [post])) == [Status.OK]

    async def look(self):
        """Every account's balance by its name here, and the node's state and share of audits."""

        async def query(connection):
            cursor = await connection.execute("SELECT id, posted FROM ledger.account WHERE id = ANY (%s)", [list(self.ids.values())])
            posted = dict(await cursor.fetchall())
            cursor = await connection.execute("SELECT state, audit_percent FROM ledger.node WHERE id = %s", [self.node])
            return {name: posted[id_] for name, id_ in self.ids.items()}, await cursor.fetchone()

        return await self.database.run(query)

    async def balance(self, name):
        return (await self.look())[0][name]

    # --- what may happen ------------------------------------------------------------------------------------------------------------

    async def serve(self, is_promotional):
        if self.state == "banned":
            return  # nothing is captured for a banned node
        job = new_uuid7()
        meta = {"cost": COST, "held": COST, "node": self.node, "user": str(self.consumer), "model": "m", "price": [1, COST, 0, 0]}
        source, target = ("promo", "own") if is_promotional else ("paid", "escrow")
        await self.post(self.database, Kind.CAPTURE, id_=job, meta=meta, **{source: -COST, target: COST - FEE, "fees": FEE})
        self.jobs.append(job)

    async def judge(self, n, is_flagged):
        if not (waiting := [job for job in self.jobs if job not in self.judged]):
            return
        job = waiting[n % len(waiting)]
        sample = Sample(job=job, node=self.node, model="m", model_digest="d", weights_sha256="d", rule_inputs={}, sealed="x")
        offered = await Samples(self.database).offer(sample)
        assert offered == ("unwanted" if self.state == "banned" else "ok")
        if offered == "unwanted":
            return
        said = await Verdicts(self.database).report(
            Verdict(job=job, is_flagged=is_flagged, rule="A", score=0.0, windows=1, tokens=32, detail="")
        )
        self.judged.add(job)
        self.flags.append(is_flagged)
        if is_flagged:
            self.flagged.add(job)
            self.state = {1: self.state, 2: "quarantined"}.get(sum(self.flags), "banned")
        assert (said.state, said.strikes) == (self.state, sum(self.flags))
        if self.state == "banned":
            await self.see_refunds()

    async def see_refunds(self):
        """Nobody but consumers of flagged jobs is refunded by a ban, and none more than the job cost."""

        async def query(connection):
            cursor = await connection.execute(
                "SELECT t.reverses, sum(e.amount)::bigint FROM ledger.txn t JOIN ledger.entry e ON e.txn_id = t.id AND e.amount > 0 "
                "WHERE t.kind = 7 AND t.reverses = ANY (%s) GROUP BY 1",
                [self.jobs],
            )
            return dict(await cursor.fetchall())

        found = await self.database.run(query)
        assert all(0 < amount <= COST for amount in found.values())
        new = {job: amount for job, amount in found.items() if job not in self.refunded}
        assert new.keys() <= self.flagged
        assert all(found[job] == amount for job, amount in self.refunded.items())
        self.owed += sum(amount - FEE for amount in new.values())
        self.refunded = found

    async def give_back(self, n):
        """The operator refunds a job."""
        job = self.jobs[n % len(self.jobs)]
        try:
            done = await refund(self.database, job, "the operator wants it", OPERATOR)
        except (InsufficientFunds, PaymentEnded):
            return
        assert done.existed == (job in self.refunded)
        self.refunded.setdefault(job, COST)

    async def release(self):
        before = await self.balance("escrow"), await self.balance("earned")
        await Earnings(self.database, terms=payout_terms(timedelta())).release()
        if self.state in {"quarantined", "banned"}:
            assert (await self.balance("escrow"), await self.balance("earned")) == before

    async def spend(self):
        if amount := await self.balance("own"):
            await self.post(self.pay, Kind.DEPOSIT, own=-amount, world=amount)
            self.spent += amount

    async def lift(self, *, is_pardoned):
        try:
            await Appeals(self.database).lift(self.node, is_pardoned=is_pardoned, reason="looked at", origin=OPERATOR)
        except InvalidRequest:
            assert self.state == "active" or (self.state == "banned" and not is_pardoned)
            assert not (is_pardoned and self.flags)
            return
        self.state = "active"
        if is_pardoned:
            self.flags, self.flagged = [], set()
            self.pardoned, self.owed = self.pardoned + self.owed, 0
            assert self.goodwill - await self.balance("goodwill") == self.pardoned

    # --- what must be so ------------------------------------------------------------------------------------------------------------

    async def see(self):
        now, node = await self.look()
        assert node == (self.state, 100)
        charged, back = COST * len(self.jobs), sum(self.refunded.values())
        assert now["promo"] + now["paid"] == 200_000 - charged + back
        theirs = now["own"] + now["escrow"] + now["earned"] + now["kept"] + self.spent
        assert theirs + now["fees"] - self.fees == charged - back + self.pardoned
        if self.state == "banned":
            assert now["escrow"] == 0

    async def play(self, wanted):
        await self.begin()
        try:
            for step, argument in wanted:
                match step:
                    case "serve":
                        await self.serve(argument)
                    case "flag" | "clean":
                        await self.judge(argument, step == "flag")
                    case "refund":
                        await self.give_back(argument)
                    case "release":
                        await self.release()
                    case "spend":
                        await self.spend()
                    case _:
                        await self.lift(is_pardoned=step == "pardon")
                await self.see()
        finally:
            for one in (self.database, self.pay, self.admin):
                await one.close()


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.booleans(), min_size=3, max_size=6), st.lists(steps, min_size=8, max_size=25))
def test_states_follow_the_rules_and_money_goes_where_it_may(database, served, wanted):
    asyncio.run(Play(database).play([*(("serve", is_promotional) for is_promotional in served), *wanted]))
    assert all(one.is_held for one in audit_at(database.admin_url))
