"""One edge node as the platform knows it, over all its connections: what it offers, what runs on it, what it may get. Pure.

Slots are counted here, by what was offered and has not ended. An attempt's number is its lease: of a job only the newest one counts.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.edge import protocol
from cluster.edge.facts import ACTIVE, NodeFacts
from cluster.edge.mirror import Ending, Mirror, Phase
from cluster.errors import AttemptSuperseded, NodeBusy
from cluster.jobs import Attempt, EndReason, Fail
from cluster.nodes import Gpu, Node, NodeKind, OfferedModel

if TYPE_CHECKING:
    from cluster.edge.sessions import Session

LOST_BEFORE_TEXT_S = 5.0
LOST_IN_TEXT_S = 15.0  # the agent stops by itself then
SILENT_BEFORE_TEXT_S = 7.0  # with a connection: what runs says every 2 s that it lives, and a frozen machine says nothing
END_UNREAD_S = 15.0  # then nobody wants it any more
CLAIM_KEPT_S = 15.0  # of an attempt that its agent alone has told of, while it runs
CLAIMED_END_KEPT_S = 30.0  # of one that has ended: its driver may be starting again too
LOAD_EVERY_S = 1.0  # how warm its devices are is news so often at most
MAX_NODE_LOG_BYTES = 64 * 1024 * 1024  # of all its attempts' logs
FENCE_S = 1800.0  # how long a job's newest lease is known: twice the longest job
MODEL_NAME = re.compile(r"[A-Za-z0-9._:/@+=-]{1,200}")
WORDS = re.compile(r"[^ -~]")  # what is not shown of a claim
CAPABILITIES = frozenset({"completion", "tools", "vision", "thinking", "embedding", "insert"})
IsOthers = Callable[[str, int], bool]


class EdgeNode:
    """What lasts of a node. `session` is the connection that counts: the newest that said `hello`."""

    def __init__(self, id_: str, facts: NodeFacts, note_changed: Callable[[], None], note_ending: Callable[[Mirror], None]) -> None:
        self.id = id_
        self.facts = facts
        self.session: Session | None = None
        self.epoch = 0
        self.lost_at: float | None = None  # since when it has no connection
        self.is_drained = False  # by an operator
        self.mirrors: dict[tuple[str, int], Mirror] = {}
        self._newest: dict[str, tuple[int, float]] = {}  # job -> its newest lease here, and when it came; oldest first
        self._inventory: protocol.Inventory | None = None
        self._models: tuple[OfferedModel, ...] = ()
        self._gpus: tuple[Gpu, ...] = ()
        self._loaded_at = float("-inf")
        self._admitted = 0
        self._note_changed, self._note_ending = note_changed, note_ending
        self._record: Node | None = None

    # --- as others see it --------------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something that others see changed."""
        self._record = None
        self._note_changed()

    @property
    def running(self) -> int:
        """Count the slots in use."""
        return sum(mirror.has_slot for mirror in self.mirrors.values())

    @property
    def slots(self) -> int:
        """How many attempts at once it may get."""
        declared = self._inventory.slots if self._inventory else 0
        return declared if self.facts.slot_cap is None else min(declared, self.facts.slot_cap)

    @property
    def record(self) -> Node:
        """The node as placement knows it; the same object until something changes."""
        if self._record is None:
            trouble = self._trouble()
            closed = self._closed()
            inventory = self._inventory
            self._record = Node(
                id=self.id, name=self.facts.name or self.id, kind=NodeKind.EDGE, url="", slots=self.slots, running=self.running, models=self._models,
                gpus=self._gpus, runtime=shown(f"{inventory.runtime} {inventory.ollama_version}".strip()) if inventory else "", admitted=self._admitted,
                is_healthy=not trouble, is_draining=bool(closed), reason=trouble or closed, epoch=self.epoch,
            )  # fmt: skip
        return self._record

    def _trouble(self) -> str:
        """Tell in a sentence why it is not healthy."""
        if self.session is None:
            return "its agent is not connected"
        if self.session.is_suspect:
            return "its agent is silent"
        if self._inventory is None:
            return "its agent has not said yet what it offers"
        return "" if self._models else "it offers no model"

    def _closed(self) -> str:
        """Tell in a sentence why it gets nothing though it is well."""
        if self.facts.state != ACTIVE:
            return f"it is {self.facts.state}"
        if self.is_drained or (self.session and self.session.is_draining):
            return "draining"
        return shown(self._inventory.paused) if self._inventory else ""

    @property
    def card(self) -> str:
        """Name its GPUs, by which its speed can be held against others'; empty: it has none."""
        return " + ".join(sorted(gpu.name for gpu in self._gpus))

    def digest_of(self, model: str) -> str:
        """Name the weights that it offers under a model's name; empty: it does not."""
        return next((one.digest for one in self._models if one.name == model), "")

    def take_inventory(self, inventory: protocol.Inventory) -> None:
        """Take what the agent says that the machine offers; what cannot be a model's name is left out."""
        self._inventory = inventory
        found = {
            one.name: _offered(one) for one in inventory.models if MODEL_NAME.fullmatch(one.name) and MODEL_NAME.fullmatch(_digest(one))
        }
        self._models = self._judged(found.values())
        self._gpus = tuple(
            Gpu(
                uuid=shown(gpu.uuid), name=shown(gpu.name), total_bytes=gpu.vram_bytes,
                free_bytes=gpu.vram_bytes if gpu.free_bytes is None else gpu.free_bytes, driver=shown(gpu.driver) if gpu.driver else None,
            )
            for gpu in inventory.gpus
        )  # fmt: skip
        self.changed()

    def _judged(self, models: Iterable[OfferedModel]) -> tuple[OfferedModel, ...]:
        """Mark which models consumers' jobs may go to."""
        return tuple(replace(model, is_admitted=self.facts.admits(model.name, model.digest)) for model in models)

    def take_load(self, beat: protocol.AgentHeartbeat, now: float) -> None:
        """Take how warm and busy the devices are; not more often than anybody wants to know."""
        if now - self._loaded_at < LOAD_EVERY_S:
            return
        self._loaded_at = now
        load = {shown(one.uuid): one for one in beat.gpu}
        gpus = tuple(
            replace(gpu, temperature_c=load[gpu.uuid].temp_c, utilization_percent=load[gpu.uuid].util_percent) if gpu.uuid in load else gpu
            for gpu in self._gpus
        )
        if gpus != self._gpus:
            self._gpus = gpus
            self.changed()

    def take_facts(self, facts: NodeFacts | None, now: float) -> None:
        """Take what the ledger says now; an agent that may not be connected any more is cut, and what runs on it is over."""
        if facts is None or not facts.may_connect or facts.key != self.facts.key:
            self._cut(now)
        if facts is not None and facts != self.facts:
            self.facts = facts
            self._models = self._judged(self._models)
            self.changed()

    # --- connections -------------------------------------------------------------------------------------------------------------------

    def take_over(
        self, session: "Session", held: list[protocol.Held], is_others: IsOthers, now: float
    ) -> tuple[list[protocol.ResumeFrom], list[protocol.Dropped]]:
        """Let a connection that said `hello` be the one that counts; tell from where each attempt goes on."""
        if self.session is not None:
            self.session.close(protocol.CLOSE_REPLACED, "a newer connection of this node")
        self.session, self.epoch, self.lost_at = session, session.epoch, None
        self._inventory, self._models, self._gpus = None, (), ()
        resume, drop = [], []
        named = set()
        for one in sorted(held, key=lambda one: one.lease, reverse=True):  # of a job the newest first: it is the one that counts
            named.add((one.job, one.lease))
            if (reason := self._unwanted(one, is_others, now)) is not None:
                drop.append(protocol.Dropped(job=one.job, lease=one.lease, reason=reason))
            else:
                mirror = self.mirrors[one.job, one.lease]
                mirror.resume(one)
                resume.append(protocol.ResumeFrom(job=one.job, lease=one.lease, next_seq=mirror.next_chunk))
        for attempt, mirror in list(self.mirrors.items()):
            if attempt in named:
                continue
            if mirror.is_claim:
                self._forget_claim(mirror, now)
            elif mirror.phase is Phase.RUNNING:
                mirror.finish(Fail(seq=0, status=504, detail="its agent lost it"), now)
            elif mirror.phase is Phase.OFFERED:
                self._void(mirror, "lost", now)
        self.changed()
        return resume, drop

    def _unwanted(self, held: protocol.Held, is_others: IsOthers, now: float) -> str | None:
        """Tell why a held attempt is not wanted; None: it is, and there is a mirror of it."""
        mirror = self.mirrors.get((held.job, held.lease))
        if mirror is not None and mirror.is_claim and not mirror.log.readers:
            self._forget_claim(mirror, now)  # it begins again: what nobody reads does not grow from connection to connection
            mirror = None
        newest = self.newest(held.job)
        if newest > held.lease:
            return "superseded"
        if mirror is None:
            if newest == held.lease or is_others(held.job, held.lease):
                return "unknown"
            self._supersede(held.job, now)
            mirror = Mirror(held.job, held.lease, self.id, now, delivered=held.delivered)
            self._add(mirror, now)
            mirror.accept(now)
        if mirror.phase is Phase.OFFERED:
            mirror.accept(now)  # it was taken, and the word of it was lost
        if mirror.phase is Phase.ENDED and not mirror.ended_by_agent:
            return "superseded"
        if mirror.cancel_at is not None:
            return "canceled"
        if held.first_seq > mirror.next_chunk:
            mirror.finish(Fail(seq=0, status=504, detail="its agent lost a part of it"), now)
            return "gap"
        return None

    def say_goodbye(self, now: float) -> None:
        """The agent leaves for good: what runs on it is lost now."""
        for mirror in self.mirrors.values():
            if mirror.phase is Phase.RUNNING:
                mirror.finish(Fail(seq=0, status=504, detail="its agent left"), now)
        self.changed()

    def lose(self, session: "Session", now: float) -> None:
        """A connection ended; one that was replaced before changes nothing."""
        if self.session is not session:
            return
        self.session, self.lost_at = None, now
        for mirror in list(self.mirrors.values()):
            if mirror.phase is Phase.OFFERED:
                self._void(mirror, "lost", now)
            elif mirror.is_claim and not mirror.log.readers:
                self._forget_claim(mirror, now)
        self.changed()

    def _cut(self, now: float) -> None:
        for mirror in self.mirrors.values():
            if mirror.phase is Phase.RUNNING:
                self.fail(mirror, Fail(seq=0, status=504, detail="its agent was cut"), "revoked", now)
        if self.session is not None:
            self.session.close(protocol.CLOSE_UNAUTHORIZED, "the node may not connect any more")

    def newest(self, job: str) -> int:
        """Tell a job's newest lease on this node; 0: it never had the job."""
        return self._newest.get(job, (0, 0.0))[0]

    # --- attempts ----------------------------------------------------------------------------------------------------------------------

    def offer(self, attempt: Attempt, now: float) -> Mirror:
        """Offer an attempt to the agent, or answer the one that is there already.

        Raises:
            NodeBusy: It gets none now; nothing was offered.
            AttemptSuperseded: A newer attempt of the job is known, or this one ended long ago.
            ValueError: It continues nothing that a job could have said.
        """
        key = attempt.job, attempt.number
        newest = self.newest(attempt.job)
        if newest > attempt.number:
            raise AttemptSuperseded(*key)
        if known := self.mirrors.get(key):
            self.vouch(known, attempt)
            return known
        if newest == attempt.number:
            raise AttemptSuperseded(*key)  # it ran, and its log is gone: it must not run twice
        self._supersede(attempt.job, now)
        if reason := self._refusal(attempt):
            raise NodeBusy(self.id, reason, max(0, self.slots - self.running))
        text = offer_text(self.id, attempt)
        mirror = Mirror(attempt.job, attempt.number, self.id, now, attempt=attempt)
        assert self.session is not None
        self.mirrors[key] = mirror
        self._admitted += 1
        self.session.send(text)
        self.changed()
        return mirror

    def _refusal(self, attempt: Attempt) -> str | None:
        node = self.record
        if not node.is_healthy or node.is_draining:
            return node.reason
        model = next((model for model in self._models if model.name == attempt.model), None)
        if model is None:
            return f"no_model {attempt.model}"
        if attempt.model_digest and attempt.model_digest != model.digest:
            return f"another {attempt.model}"
        return "busy" if node.running >= node.slots else None

    def _supersede(self, job: str, now: float) -> None:
        """End the older attempt of the same job: its lease is over, its slot is free at once."""
        newest = self._newest.get(job)
        older = self.mirrors.get((job, newest[0])) if newest else None
        if older and older.phase in {Phase.OFFERED, Phase.RUNNING, Phase.ENDING}:
            self.fail(older, Fail(seq=0, status=504, detail="superseded"), "superseded", now)

    def _add(self, mirror: Mirror, now: float) -> None:
        self.mirrors[mirror.job, mirror.lease] = mirror
        self._newest.pop(mirror.job, None)
        self._newest[mirror.job] = (mirror.lease, now)

    def vouch(self, mirror: Mirror, attempt: Attempt) -> None:
        """A driver says what an attempt is that its agent told of: from now on it has deadlines, and its end is counted."""
        if mirror.is_claim:
            mirror.learn(attempt)
            self._note_ending(mirror)

    def _forget_claim(self, mirror: Mirror, now: float) -> None:
        """Forget an attempt that its agent alone told of: also that it was ever here."""
        mirror.finish(Fail(seq=0, status=504, detail="nobody asked for it"), now)  # to whoever reads it none the less
        del self.mirrors[mirror.job, mirror.lease]
        if self.newest(mirror.job) == mirror.lease:
            del self._newest[mirror.job]

    def accepted(self, mirror: Mirror, now: float) -> None:
        """The agent took the offer: it cannot be offered again under the same number."""
        self._add(mirror, now)
        mirror.accept(now)

    def refused(self, mirror: Mirror, reason: str) -> None:
        """The agent did not take the offer."""
        if mirror.phase is Phase.OFFERED:
            mirror.refuse(shown(reason) or "busy")
            self.mirrors.pop((mirror.job, mirror.lease), None)
            self.changed()

    def give_up(self, mirror: Mirror, now: float) -> None:
        """The agent did not answer an offer in time: whether it runs is unknown, so this number is spent."""
        if mirror.phase is not Phase.OFFERED:
            return
        self._void(mirror, "silent", now)
        self._say_cancel(mirror, "deadline")
        self.changed()

    def _void(self, mirror: Mirror, reason: str, now: float) -> None:
        """End an offer of which nobody knows whether the agent took it: its number is spent."""
        self._add(mirror, now)
        del self.mirrors[mirror.job, mirror.lease]
        mirror.refuse(reason)

    def cancel(self, mirror: Mirror, why: str, now: float) -> None:
        """Stop an attempt; it ends when the agent says so, or soon by itself."""
        if mirror.phase is Phase.RUNNING and mirror.cancel_at is None:
            mirror.cancel_at = now
            self._say_cancel(mirror, why)

    def fail(self, mirror: Mirror, end: Fail, why: str, now: float) -> None:
        """End an attempt by our word, and tell the agent."""
        mirror.finish(end, now)
        self._say_cancel(mirror, why)
        self.changed()

    def _say_cancel(self, mirror: Mirror, why: str) -> None:
        if self.session is not None:
            self.session.say(protocol.Cancel(job=mirror.job, lease=mirror.lease, why=why))

    # --- time --------------------------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See to what time does to the attempts: lost agents, deadlines, nobody reads, acks, logs that are kept long enough."""
        self._keep_in_bounds(now)
        for key, mirror in list(self.mirrors.items()):
            if mirror.is_claim and self._is_unwanted_claim(mirror, now):
                self._refute(mirror, now)
                continue
            match mirror.phase:
                case Phase.RUNNING:
                    self._look_at_running(mirror, now)
                case Phase.ENDED if mirror.log.has_ended:
                    self._look_at_ended(key, mirror, now)
                case Phase.ENDED:  # it never began
                    del self.mirrors[key]
                case Phase.ENDING if mirror.log.readers == 0 and now - mirror.log.unread_since > END_UNREAD_S:
                    mirror.finish(Fail(seq=0, status=504, detail="nobody asked for its end"), now)
                case _:
                    pass
        while self._newest:
            job, (lease, came_at) = next(iter(self._newest.items()))
            if now - came_at <= FENCE_S or (job, lease) in self.mirrors:
                break
            del self._newest[job]

    def _keep_in_bounds(self, now: float) -> None:
        """Forget ended attempts before their time, then give up those that said most, where a node says more than may be kept."""
        kept = sum(mirror.log.size_bytes for mirror in self.mirrors.values())
        if kept <= MAX_NODE_LOG_BYTES:
            return
        for key, mirror in list(self.mirrors.items()):
            if kept > MAX_NODE_LOG_BYTES and mirror.log.has_ended and not mirror.log.readers:
                kept -= mirror.log.size_bytes
                del self.mirrors[key]
        running = [mirror for mirror in self.mirrors.values() if mirror.phase is Phase.RUNNING]
        for mirror in sorted(running, key=lambda mirror: mirror.log.size_bytes, reverse=True):
            if kept <= MAX_NODE_LOG_BYTES:
                return
            kept -= mirror.log.size_bytes
            self.fail(mirror, Fail(seq=0, status=502, detail="its node says more than may be kept"), "deadline", now)

    def _is_unwanted_claim(self, mirror: Mirror, now: float) -> bool:
        kept_s = CLAIM_KEPT_S if mirror.phase is Phase.RUNNING else CLAIMED_END_KEPT_S
        return not mirror.log.readers and now - mirror.log.unread_since > kept_s

    def _refute(self, mirror: Mirror, now: float) -> None:
        """Nobody came for an attempt that its agent told of: an end is acknowledged, the rest is to be stopped."""
        if self.session is not None:
            is_end = mirror.phase is not Phase.RUNNING
            ack = protocol.Ack(job=mirror.job, lease=mirror.lease, seq=mirror.next_chunk, end=True)
            self.session.say(ack if is_end else protocol.Cancel(job=mirror.job, lease=mirror.lease, why="consumer"))
        self._forget_claim(mirror, now)

    def _look_at_running(self, mirror: Mirror, now: float) -> None:
        if mirror.cancel_at is not None:
            if self.session is None or now - mirror.cancel_at > protocol.CANCELED_LIMIT_S:
                mirror.end(Ending(EndReason.CANCELED))
                mirror.ended_by_agent = False  # what it may still say is not wanted
                self.changed()
                self._note_ending(mirror)
            return
        if reason := self._loss(mirror, now):
            self.fail(mirror, Fail(seq=0, status=504, detail=reason), "deadline", now)
        elif mirror.log.is_abandoned(now):
            self.cancel(mirror, "consumer", now)
        elif reason := mirror.overdue(now):
            self.fail(mirror, Fail(seq=0, status=504, detail=reason), "deadline", now)
        if self.session is not None and (seq := mirror.ack(now)) is not None:
            self.session.say(protocol.Ack(job=mirror.job, lease=mirror.lease, seq=seq))

    def _loss(self, mirror: Mirror, now: float) -> str | None:
        """Tell how the agent of a running attempt was lost; None: it was not, or it may still come back."""
        if self.session is None:
            limit_s = LOST_IN_TEXT_S if mirror.has_text else LOST_BEFORE_TEXT_S
            return "its agent was lost" if self.lost_at is not None and now - self.lost_at > limit_s else None
        limit_s = LOST_IN_TEXT_S if mirror.has_text else SILENT_BEFORE_TEXT_S
        return "its agent says nothing" if now - max(self.session.heard_at, mirror.offered_at) > limit_s else None

    def _look_at_ended(self, key: tuple[str, int], mirror: Mirror, now: float) -> None:
        assert mirror.log.ended_at is not None
        is_unread = not mirror.log.readers and now - max(mirror.log.ended_at, mirror.log.unread_since) > END_UNREAD_S
        if mirror.ended_by_agent and not mirror.is_end_acked and self.session is not None and (mirror.is_told or is_unread):
            mirror.is_end_acked = True
            self.session.say(protocol.Ack(job=mirror.job, lease=mirror.lease, seq=mirror.next_chunk, end=True))
        if mirror.log.is_forgettable(now) and not mirror.log.readers:
            del self.mirrors[key]

    def is_idle(self) -> bool:
        """Whether nothing of it is worth keeping but that it was here."""
        return self.session is None and not self.mirrors


def offer_text(node: str, attempt: Attempt) -> str:
    """Write an offer.

    Raises:
        NodeBusy: It does not fit into a frame.
    """
    limits = attempt.deadlines
    deadline = protocol.OfferDeadlines(first_token=limits.first_token_s, idle=limits.idle_s, total=limits.total_s)
    try:
        text = protocol.Offer(
            job=attempt.job, lease=attempt.number, kind=attempt.kind, model=attempt.model, model_digest=attempt.model_digest,
            request=dict(attempt.request), max_tokens=attempt.max_tokens, deadline=deadline, delivered=protocol.delivered_lines(attempt.delivered),
        ).text()  # fmt: skip
    except ValueError as unsendable:  # half a surrogate pair, for one
        raise NodeBusy(node, "too_large", 0) from unsendable
    if len(text.encode()) >= protocol.MAX_FRAME_BYTES:
        raise NodeBusy(node, "too_large", 0)
    return text


def shown(claim: str) -> str:
    """Write what an agent claims so that it can be shown anywhere: one line of plain characters."""
    return WORDS.sub("?", claim)


def _digest(model: protocol.AgentModel) -> str:
    return model.weights_sha256 or model.digest


def _offered(model: protocol.AgentModel) -> OfferedModel:
    return OfferedModel(
        name=model.name, digest=_digest(model), size_bytes=model.size_bytes, context_tokens=model.ctx, is_loaded=model.is_loaded,
        capabilities=tuple(sorted(CAPABILITIES.intersection(model.capabilities))), tokens_per_s=model.tokens_per_s,
        first_token_s=model.first_token_s, job_s=model.job_s,
    )  # fmt: skip
