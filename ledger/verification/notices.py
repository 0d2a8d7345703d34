"""What the owner of a node is told by mail of each step about it: what happened, why, and what to do."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from ledger.amounts import credits_text
from ledger.db import Connection
from ledger.identity.owed_mail import owe
from ledger.ids import text_of
from ledger.verification.records import Locked

What = Literal["reaudit", "quarantine", "pause", "ban", "lift", "pardon", "upheld", "refused"]
APPEAL = "If you think that this is wrong, appeal with a note, in the console or by POST /api/core/nodes/{node}/appeal/. An operator reads it and answers."


@dataclass(frozen=True, slots=True)
class _Words:
    """How a step is told. `amount` says what a sum of money means."""

    subject: str
    happened: str
    do: str
    amount: str = ""


WORDS: dict[What, _Words] = {
    "reaudit": _Words(
        "An audit found something about your node",
        "An audit flagged an answer of your node {name} ({node}). It goes on getting jobs, and they are audited.",
        "See that it serves the models that it offers, under their own names. `gfe nodes why {node}` tells how the node stands.\n\n" + APPEAL,
    ),
    "quarantine": _Words(
        "Your node was put into quarantine",
        "Your node {name} ({node}) is in quarantine: it gets no jobs, and nothing of its earnings is paid out, until an operator has looked.",
        "`gfe nodes why {node}` tells how the node stands.\n\n" + APPEAL,
    ),
    "pause": _Words(
        "Your node was paused",
        "Your node {name} ({node}) is paused: it gets no jobs until you resume it.",
        "See that it serves the models that it offers, and tells its own GPU, then resume it in the console. `gfe nodes why {node}` tells how the node stands.",
    ),
    "ban": _Words(
        "Your node was banned",
        "Your node {name} ({node}) is banned: it gets no jobs any more.",
        "`gfe nodes why {node}` tells how the node stands.\n\n" + APPEAL,
        "Forfeited: {amount} credits. That is what was left of earnings that were not released, after the consumers of flagged jobs got theirs back.",
    ),
    "lift": _Words(
        "The quarantine of your node is over",
        "An operator lifted the quarantine of your node {name} ({node}). It may get jobs again. Its strikes stay.",
        "There is nothing to do. `gfe nodes why {node}` tells how the node stands.",
    ),
    "pardon": _Words(
        "Your node was pardoned",
        "An operator pardoned your node {name} ({node}). Nothing that was found before counts any more.",
        "There is nothing to do. `gfe nodes why {node}` tells how the node stands.",
        "{amount} credits came back to its earnings.",
    ),
    "upheld": _Words(
        "Your appeal was upheld",
        "An operator upheld your appeal about the node {name} ({node}). The node is pardoned: nothing that was found before counts any more.",
        "There is nothing to do. `gfe nodes why {node}` tells how the node stands.",
        "{amount} credits came back to its earnings.",
    ),
    "refused": _Words(
        "Your appeal was refused",
        "An operator refused your appeal about the node {name} ({node}). What was found stays.",
        "With something new to say you may appeal again: POST /api/core/nodes/{node}/appeal/. `gfe nodes why {node}` tells how the node stands.",
    ),
}  # fmt: skip


async def tell_owner(
    connection: Connection, node: Locked, what: What, reason: str, *, job: UUID | None = None, amount: int | None = None
) -> None:
    """Owe a node's owner the mail about a step, in the step's transaction; `amount` in micro-credits, forfeited or given back."""
    await owe(connection, node.person, WORDS[what].subject, body_of(what, node, reason, job=job, amount=amount))


def body_of(what: What, node: Locked, reason: str, *, job: UUID | None = None, amount: int | None = None) -> str:
    """Write what such a mail says. Pure."""
    words = WORDS[what]
    happened, do = (text.format(name=node.name, node=node.id) for text in (words.happened, words.do))
    parts = [
        happened, f"Why: {reason}", f"The job: {text_of('job', job)}" if job else "",
        words.amount.format(amount=credits_text(amount)) if amount is not None else "", do,
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)
