"""The edge gateway: serves the node protocol for all edge nodes whose agents are connected to it (design section 4).

Holds nothing that cannot be rebuilt: after a restart the agents come back and say again what they have, and drivers attach where they were.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from cluster.audit.timing import Timing
from cluster.edge.counting import Counter, Mismatch, is_off
from cluster.edge.edge_node import EdgeNode
from cluster.edge.facts import PROBATION, AgentClaims, NodeFacts
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.mirror import Ending, Mirror, Phase
from cluster.edge.protocol import ACCEPT_LIMIT_S
from cluster.edge.receipt_check import checked
from cluster.edge.sessions import Session
from cluster.edge.tokens import AgentVerifier
from cluster.errors import AttemptSuperseded, ClusterUnreachable, NodeBusy, NodeLost, OperationRefused
from cluster.jobs import AgentReceipt, Attempt, End, EndReason, Fail, Usage
from cluster.model_operations import Action, Operation
from cluster.nodes import Node

log = structlog.get_logger()
TICK_S = 0.1
LOOK_S = 0.5
SETTLING_S = 15.0  # after the start: agents are coming back, and nobody knows yet which attempts they have
ATTACH_WAIT_S = 2.5  # below the limit of drivers, who ask again
IDLE_KEPT_S = 600.0  # how long a node without a connection is told of
LOST_REFUSALS = frozenset({"lost", "silent", "void"})
Facts = Callable[[str], NodeFacts | None]


class EdgeGateway:
    """All edge nodes here. `facts` tells what the ledger says of a node, None: it knows no such node."""

    def __init__(
        self, facts: Facts, verifier: AgentVerifier, counter: Counter, metrics: EdgeMetrics, alarm: Callable[[Mismatch], None] | None = None
    ) -> None:
        self._facts = facts
        self._verifier = verifier
        self._counter = counter
        self._alarm = alarm  # who is told of agents that count otherwise than we do, or are faster than they can be
        self._timing = Timing()
        self.metrics = metrics
        self._nodes: dict[str, EdgeNode] = {}
        self._sessions: set[Session] = set()
        self._idle_since: dict[str, float] = {}
        self._vouched: dict[tuple[str, int], str] = {}  # attempts that a driver asked for -> the node that has them
        self._changed = asyncio.Event()
        self._started_at = time.monotonic()
        self._looked_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to watch the time (inside the running loop)."""
        self._spawn(self._look_for_ever())

    async def aclose(self) -> None:
        """Stop."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- connections (see `Floor`) -------------------------------------------------------------------------------------------------------

    def open(self, claims: AgentClaims, facts: NodeFacts) -> Session:
        """Begin a session of an agent whose token was verified."""
        node, now = self._nodes.get(claims.node), time.monotonic()
        if node is None:
            node = self._nodes[claims.node] = EdgeNode(claims.node, facts, self._tell, self.note_ending)
        node.take_facts(facts, now)  # it may have a new key since: whoever is connected with the old one goes
        session = Session(node, self, now + claims.left_s, now)
        self._sessions.add(session)
        return session

    def closed(self, session: Session) -> None:
        """A session's socket is gone."""
        self._sessions.discard(session)
        session.node.lose(session, time.monotonic())
        self._tell()

    @property
    def connections(self) -> int:
        """Count the open sockets."""
        return len(self._sessions)

    def is_connected(self, node: str) -> bool:
        """Tell whether a node's agent is connected now: a newer connection of it takes no more room."""
        known = self._nodes.get(node)
        return known is not None and known.session is not None

    async def leave(self, code: int, limit_s: float) -> None:
        """Close all connections with a code, and wait a little for that; what runs goes on through resume, at whoever comes next."""
        for session in tuple(self._sessions):
            session.close(code, "restart")
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._sessions:
                    await self._changed.wait()

    def new_epoch(self, known: int) -> int:
        """See `Floor.new_epoch`: by the clock, so that another edge gateway's later number is higher."""
        return max(known + 1, time.time_ns() // 1_000_000)

    def verify(self, token: str) -> AgentClaims:
        """See `Floor.verify`."""
        return self._verifier.verify(token)

    def is_others(self, node: str, job: str, lease: int) -> bool:
        """See `Floor.is_others`: of another node whose attempt a driver vouched for."""
        owner = self._vouched.get((job, lease), node)
        return owner != node and owner in self._nodes and (job, lease) in self._nodes[owner].mirrors

    def note_stale(self) -> None:
        """See `Floor.note_stale`."""
        self.metrics.stale_frames.inc()

    def note_foreign(self, node: str) -> None:
        """See `Floor.note_foreign`."""
        self.metrics.foreign_frames.inc()
        log.warning("foreign_frame", node=node)

    def note_replay(self) -> None:
        """See `Floor.note_replay`."""
        self.metrics.replays.inc()

    def note_frame(self, type_: str) -> None:
        """See `Floor.note_frame`."""
        self.metrics.frames.labels(type_).inc()

    # --- ends --------------------------------------------------------------------------------------------------------------------------

    def note_ending(self, mirror: Mirror) -> None:
        """See `Floor.note_ending`. What nobody asked for yet cannot be counted: that waits for its driver."""
        if mirror.phase is Phase.ENDING and mirror.attempt is not None and mirror.ending is not None:
            self._spawn(self._finish(mirror, mirror.ending))

    async def _finish(self, mirror: Mirror, ending: Ending) -> None:
        try:
            usage = await self._usage(mirror, ending)
            end: End | Fail = End(seq=0, reason=ending.reason, usage=usage, receipt=self._receipt(mirror, ending))
        except Exception as broken:
            log.exception("end_not_counted", job=mirror.job)
            end = Fail(seq=0, status=500, detail=type(broken).__name__)
        mirror.finish(end, time.monotonic())
        if isinstance(end, End):
            self._judge_speed(mirror, end.usage)

    async def _usage(self, mirror: Mirror, ending: Ending) -> Usage:
        if ending.reason is EndReason.CANCELED and not mirror.has_text:
            return Usage(prompt_tokens=0, completion_tokens=0, counted_by="platform")
        usage = await self._counter.usage(mirror, ending.claimed)
        self.metrics.counted.labels(usage.counted_by).inc()
        claimed = ending.claimed
        if claimed is not None and usage.counted_by == "platform" and not mirror.delivered:
            pairs = (claimed.prompt_eval_count, usage.prompt_tokens), (claimed.eval_count, usage.completion_tokens)
            if off := [pair for pair in pairs if is_off(*pair)]:
                self.metrics.count_mismatches.inc()
                found = Mismatch(node=mirror.node, job=mirror.job, claimed=off[-1][0], counted=off[-1][1])
                log.warning("counts_differ", node=found.node, job=found.job, claimed=found.claimed, counted=found.counted)
                if self._alarm:
                    self._alarm(found)
        return usage

    def _judge_speed(self, mirror: Mirror, usage: Usage) -> None:
        node, timed = self._nodes.get(mirror.node), mirror.timed(usage.completion_tokens)
        if node is None or timed is None or mirror.attempt is None:
            return
        digest = node.digest_of(mirror.attempt.model)
        limit = self._timing.judge(node.id, node.card, digest, timed, is_proven=node.facts.tier != PROBATION)
        if limit is None:
            return
        self.metrics.too_fast.inc()
        found = Mismatch(node=node.id, job=mirror.job, claimed=round(timed.tokens / timed.whole_s), counted=round(limit), kind="timing")
        log.warning("too_fast", node=found.node, job=found.job, tokens_per_s=found.claimed, most_per_s=found.counted)
        if self._alarm:
            self._alarm(found)

    def _receipt(self, mirror: Mirror, ending: Ending) -> AgentReceipt | None:
        key = self._nodes[mirror.node].facts.public_key if mirror.node in self._nodes else None
        if ending.receipt is None or ending.claimed is None or key is None:
            self.metrics.receipts.labels("none").inc()
            return None
        receipt = checked(mirror, ending.receipt, ending.claimed, ending.reason, key)
        self.metrics.receipts.labels("good" if receipt else "bad").inc()
        if receipt is None:
            log.warning("receipt_does_not_fit", node=mirror.node, job=mirror.job)
        return receipt

    # --- the node protocol (see `Host`) ----------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; ask for it before looking at `nodes`."""
        return self._changed

    def nodes(self) -> Sequence[Node]:
        """List the nodes whose agents said `hello` here, of late."""
        return [node.record for node in self._nodes.values() if node.epoch]

    def note_watched(self) -> None:
        """Somebody watches; nothing depends on it."""

    async def begin(self, attempt: Attempt) -> Mirror:
        """Offer an attempt to its node's agent.

        Raises:
            NodeBusy: It does not take it; nothing was started.
            NodeLost: The agent did not answer in time; whether it runs is unknown.
            AttemptSuperseded: A newer attempt of the job is known.
        """
        node = self._nodes.get(attempt.node)
        if node is None:
            raise NodeBusy(attempt.node, "its agent is not connected", 0)
        mirror = node.offer(attempt, time.monotonic())
        self._vouched[attempt.job, attempt.number] = node.id
        try:
            async with asyncio.timeout(ACCEPT_LIMIT_S):
                await mirror.answered.wait()
        except TimeoutError:
            node.give_up(mirror, time.monotonic())
        except asyncio.CancelledError:
            node.give_up(mirror, time.monotonic())
            raise
        self.metrics.offers.labels(
            "accepted" if mirror.refusal is None else mirror.refusal if mirror.refusal in KNOWN_REFUSALS else "other"
        ).inc()
        if mirror.refusal in LOST_REFUSALS:
            raise NodeLost(node.id, f"its agent did not answer an offer ({mirror.refusal})")
        if mirror.refusal is not None:
            raise NodeBusy(node.id, mirror.refusal, max(0, node.slots - node.running))
        return mirror

    async def attach(self, job: str, number: int, node: str, asked: Attempt | None = None) -> Mirror | None:
        """Look an attempt up; after a restart wait for its agent, a little.

        Raises:
            AttemptSuperseded: A newer attempt of the job is known.
            ClusterUnreachable: Its agent may still come back and have it.
        """
        until = time.monotonic() + ATTACH_WAIT_S
        while True:
            changed = self._changed
            if (mirror := self._find(job, number, node)) is not None:
                if asked is not None:
                    self._nodes[node].vouch(mirror, asked)
                    self._vouched[job, number] = node
                return mirror
            if not self._may_come(node):
                return None
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                raise ClusterUnreachable from None

    def _find(self, job: str, number: int, id_: str) -> Mirror | None:
        node = self._nodes.get(id_)
        if node is None:
            return None
        if node.newest(job) > number:
            raise AttemptSuperseded(job, number)
        return node.mirrors.get((job, number))

    def _may_come(self, id_: str) -> bool:
        """Whether a node's agent may still come and name an attempt that is not known."""
        node = self._nodes.get(id_)
        if node is not None and node.epoch:
            return False
        return time.monotonic() - self._started_at < SETTLING_S

    def cancel(self, job: str, number: int) -> None:
        """Cancel an attempt; an unknown or ended one is fine."""
        now = time.monotonic()
        for node in self._nodes.values():
            if mirror := node.mirrors.get((job, number)):
                node.cancel(mirror, "consumer", now)

    def operate(self, node: str, action: Action, model: str, *, is_forced: bool) -> Operation | None:
        """Refuse: a model on an agent's machine is its owner's.

        Raises:
            OperationRefused: Always, of a node that is here.
        """
        if node in self._nodes:
            raise OperationRefused("the models of an edge node are its owner's", "its owner can use `ollama` on the machine itself")
        return None

    async def describe(self, node: str, model: str) -> Mapping[str, Any] | None:
        """Tell nothing: agents are asked for one thing only."""
        return None

    async def count(self, node: str, model: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count the tokens of a chat where a reference runtime has the node's model; None: nobody here can."""
        found = self._nodes.get(node)
        offered = next((one for one in found.record.models if one.name == model), None) if found else None
        return await self._counter.count(offered.digest, messages) if offered else None

    def drain(self, node: str) -> bool:
        """Offer a node nothing any more; False: it is not here."""
        return self._set_drained(node, is_drained=True)

    def resume(self, node: str) -> bool:
        """Offer a node jobs again; False: it is not here."""
        return self._set_drained(node, is_drained=False)

    def _set_drained(self, id_: str, *, is_drained: bool) -> bool:
        node = self._nodes.get(id_)
        if node is None:
            return False
        node.is_drained = is_drained
        node.changed()
        return True

    # --- time --------------------------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._look(time.monotonic())
            except Exception:
                log.exception("look_failed")

    def _look(self, now: float) -> None:
        for node in tuple(self._nodes.values()):
            if node.mirrors:
                node.look(now)
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        for session in tuple(self._sessions):
            session.look(now)
            session.node.take_facts(self._facts(session.node.id), now)
        self._forget(now)
        self.metrics.agents.set(sum(node.session is not None for node in self._nodes.values()))
        self.metrics.running.set(sum(node.running for node in self._nodes.values() if node.mirrors))

    def _forget(self, now: float) -> None:
        """Forget nodes that have been away for long."""
        connected = {session.node.id for session in self._sessions}
        for id_, node in list(self._nodes.items()):
            if not node.is_idle() or id_ in connected:
                self._idle_since.pop(id_, None)
            elif now - self._idle_since.setdefault(id_, now) > IDLE_KEPT_S:
                del self._nodes[id_], self._idle_since[id_]
        here = self._nodes
        self._vouched = {key: id_ for key, id_ in self._vouched.items() if id_ in here and key in here[id_].mirrors}


KNOWN_REFUSALS = LOST_REFUSALS | {"busy", "no_model", "draining", "too_large", "internal", "canceled"}
