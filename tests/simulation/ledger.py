"""The ledger as a process: the fake of the tests behind the wire of the real one, with books that can be added up."""

from aiohttp import web

from ledger.client import FeedPage, LedgerError, NotFound, Refused, job_cost
from ledger.pricing import split_fee
from ledger.wire import ANSWERS, FEED, OPERATIONS, Answers, HoldsFound, Introspected
from tests.fakes import FakeLedger

FEE_PERCENT = 10


class BookedLedger(FakeLedger):
    """The fake, whose captures pay the node's provider and a fee, and whose holds expire after `grace_s` beyond their time."""

    def __init__(self, nodes, grace_s, **prices):
        super().__init__(nodes=set(nodes), **prices)
        self.grace_s = grace_s
        self.earned = dict.fromkeys(nodes, 0)
        self.fees = self.goodwill = 0
        self.put_in = 0
        self.effects = []  # (what, hold's id, cost), in their order

    def add_key(self, key, balance=0, **more):
        self.put_in += balance
        return super().add_key(key, balance, **more)

    async def capture(self, operation):
        if unknown := [share.node for share in operation.shares if share.node not in self.nodes]:
            raise NotFound("Node", unknown[0])
        return await super().capture(operation)

    def _resolve(self, how, hold, operation, cost):
        self.effects.append((how, operation.id, cost))
        share, fee = split_fee(cost, FEE_PERCENT)
        if how == "capture":
            self._pay(operation, share)
            self.fees += fee
        elif operation.served and operation.served.node in self.nodes:
            served = operation.served
            would_cost = job_cost(hold.placed.price, hold.placed.held, "incomplete", served.prompt_tokens, served.completion_tokens)
            paid, _ = split_fee(would_cost, FEE_PERCENT)
            self.earned[served.node] += paid
            self.goodwill += paid
        return super()._resolve(how, hold, operation, cost)

    def _pay(self, capture, amount):
        """Pay by tokens; what is left over goes to the node that finished."""
        rest = amount
        for share in capture.shares:
            part = amount * share.tokens // max(1, capture.completion_tokens, sum(one.tokens for one in capture.shares))
            self.earned[share.node] += part
            rest -= part
        self.earned[capture.node] += rest


async def operate(ledger, operation):
    """Do one operation; a refusal is an answer."""
    try:
        match operation.op:
            case "place_hold":
                return await ledger.place_hold(operation)
            case "capture":
                return await ledger.capture(operation)
            case "void":
                return await ledger.void(operation)
            case "introspect":
                return Introspected(caller=await ledger.introspect(operation.credential))
            case "find_holds":
                return HoldsFound(holds=await ledger.find_holds(operation.older_than_s, operation.limit))
    except LedgerError as refused:
        return Refused(code=refused.code, fields=dict(vars(refused)))
    raise AssertionError(f"unknown operation {operation}")


def ledger_app(ledger):
    """The two routes that a replica calls."""

    async def operations(request):
        asked = OPERATIONS.validate_json(await request.read())
        answers = tuple([await operate(ledger, one) for one in asked.operations])
        return web.Response(body=ANSWERS.dump_json(Answers(answers=answers)), content_type="application/json")

    async def feed(request):
        return web.Response(body=FEED.dump_json(FeedPage(seq=1, reset=False, entries=())), content_type="application/json")

    app = web.Application()
    app.router.add_post("/internal/v1/operations", operations)
    app.router.add_get("/internal/v1/feed", feed)
    return app
