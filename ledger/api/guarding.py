"""The internal routes of the dashboard guard: whose pass this is, and whether a visitor's sign-in is still an operator's."""

from ledger import wire
from ledger.api.services import route_of
from ledger.context import LedgerContext
from ledger.identity.passes import Visitor

GUARDS = frozenset({"guard"})


async def _enter(context: LedgerContext, asked: wire.EnterGuard) -> wire.GuardVisitor:
    return _told(await context.passes.read(asked.word))


async def _look(context: LedgerContext, asked: wire.LookAtVisit) -> wire.GuardVisitor:
    return _told(await context.passes.look(asked.session))


def _told(visitor: Visitor) -> wire.GuardVisitor:
    return wire.GuardVisitor(
        session=visitor.session, user=visitor.user, username=visitor.username, pass_id=visitor.pass_id, made_at=visitor.made_at
    )


enter = route_of(GUARDS, "guard", wire.EnterGuard, _enter)
look = route_of(GUARDS, "guard", wire.LookAtVisit, _look)
