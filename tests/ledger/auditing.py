"""A provider with an audited node and a consumer who pays for its jobs: what the tests of verification share."""

import uuid

from ledger.audit_log import Origin
from ledger.client import AuditSample, AuditVerdict, Capture, new_hold_id
from ledger.money import accounts
from tests.edge_agent import account, execute
from tests.ledger.people import somebody
from tests.ledger.test_money_reads import fund, person_of

CREDIT = 1_000_000
DIGEST = "a" * 64
OPERATOR = Origin("test")


class Market:
    """What the two do, and how they stand."""

    def __init__(self, ledger, database, owner, consumer, consumer_id):
        self.ledger, self.database, self.owner, self.consumer, self.consumer_id = ledger, database, owner, consumer, consumer_id

    async def node(self, **body):
        """A new node of the provider's."""
        agent, node = await self.owner.enrolled(**body)
        self.agent = agent
        return node

    async def serve(self, node, count=1, **changes):
        """Let a node serve jobs that the consumer pays for; answers their ids."""
        jobs = []
        for _ in range(count):
            placed = await self.ledger.client.place_hold(self.ledger.hold(key=self.consumer.tokens["access"]))
            fields = {
                "outcome": "succeeded",
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "counted_by": "platform",
                "node": node,
                "attempt": 1,
            }
            await self.ledger.client.capture(Capture(id=placed.id, **fields | changes))
            jobs.append(placed.id)
        return jobs

    async def judge(self, node, *jobs, is_flagged=True, rule="A"):
        """Audit jobs; answers what the ledger said to the last verdict."""
        said = None
        for job in jobs:
            await self.offer(node, job)
            said = await self.ledger.auditor.report_audit(verdict_on(job, is_flagged=is_flagged, rule=rule))
        return said

    async def offer(self, node, job):
        offered = await self.ledger.client.offer_audit(sample_of(node, job))
        assert offered.status == "ok"

    async def audits(self, node, **query):
        answer = await self.owner.call("GET", f"nodes/{node}/audits/", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def balance(self, address):
        found = execute(self.database, "SELECT posted FROM ledger.account WHERE address = %s", [address])
        return found[0][0] if found else 0

    def escrow(self, node):
        return self.balance(accounts.pending(self.owner.person, node))

    def forfeited(self, node):
        return self.balance(accounts.forfeited(node))

    @property
    def consumers(self):
        """What the consumer has, promotional and deposited."""
        return self.balance(accounts.promo(self.consumer_id)), self.balance(accounts.paid(self.consumer_id))

    def told(self, node):
        """What the feed said of a node, the oldest first."""
        return execute(
            self.database,
            "SELECT detail ->> 'state', (detail ->> 'audit_percent')::int FROM ledger.feed WHERE subject = %s ORDER BY seq",
            [node],
        )

    def logged(self, target):
        return [
            action for (action,) in execute(self.database, "SELECT action FROM ledger.audit_log WHERE target = %s ORDER BY seq", [target])
        ]

    def make(self, node, **columns):
        """Set columns of a node as nothing else does."""
        for name, value in columns.items():
            execute(self.database, f"UPDATE ledger.node SET {name} = %s WHERE id = %s", [value, node])


def sample_of(node, job=None, **changes):
    fields = {"job": job or new_hold_id(), "node": node, "model": "m", "model_digest": f"sha256:{DIGEST}", "weights_sha256": DIGEST}
    return AuditSample(**fields | {"sealed": "c2VhbGVk"} | changes)


def verdict_on(job, *, is_flagged=False, rule="A", **changes):
    return AuditVerdict(id=job, is_flagged=is_flagged, rule=rule, score=0.3, windows=3, tokens=96, **changes)


async def market(ledger, database, *, paid=100 * CREDIT):
    """Open one: the consumer has deposited so much."""
    consumer = await somebody(ledger, "ada")
    consumer_id = await person_of(ledger, consumer.tokens["access"])
    if paid:
        await fund(database, consumer_id, paid)
    return Market(ledger, database, await account(ledger, database, f"provider-{uuid.uuid4().hex[:8]}"), consumer, consumer_id)
