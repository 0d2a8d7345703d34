"""The agent's pure session against a receiver written from the protocol: drops, doubles, reorders, restarts of both sides, a clock of its own.

Within one connection frames stay in order, as TCP keeps them; a connection may break at any frame, in either direction, and what was on its
way is lost. Doubles and reorders come from the platform's side of things: offers and cancels are repeated and come late, attempts are
superseded, a gateway forgets what it had.
"""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from cluster.attempt_log import AttemptLog, decode, encode
from cluster.edge import protocol as wire
from cluster.edge.edge_node import EdgeNode
from cluster.edge.facts import NodeFacts
from cluster.edge.mirror import Mirror, Phase
from cluster.edge.sessions import Session
from cluster.errors import NodeBusy
from cluster.jobs import Admitted, Beat, End, EndReason, Fail, JobKind, Text, Usage
from provider_join.agent.asking import attempt_of
from provider_join.agent.inventory import facts_of
from provider_join.agent.outbox import StoredLog
from provider_join.agent.session import Admit, AgentSession, Facts, Forget, Held, Stop

MODEL = wire.AgentModel(name="m", digest="d", weights_sha256="d", ctx=4096)
INVENTORY = wire.Inventory(runtime="ollama", slots=8, models=[MODEL])
USAGE = Usage(prompt_tokens=3, completion_tokens=5, counted_by="provider")
DEADLINE = wire.OfferDeadlines(first_token=30, idle=30, total=300)
DELIVERED = (Admitted(seq=0, node="node_a"), Text(seq=1, content="be", tokens=1), Text(seq=2, content="fore ", tokens=1))


def no_receipt(held, end, content, thinking):
    return None


def session_of(boot="boot1"):
    return AgentSession(boot_id=boot, agent_version="0.1.0", sign=no_receipt, facts=Facts(inventory=INVENTORY, slots_free=4))


@dataclass
class Attempt:
    """What the platform knows of an attempt that it offered."""

    offer: wire.Offer
    chunks: list = field(default_factory=list)
    end: object = None
    is_over: bool = False  # superseded or canceled: nothing of it counts any more
    doubled: int = 0


class Machine:
    """The agent's machine: produces text into logs, keeps ends on disk, dies and comes back."""

    def __init__(self, rng):
        self.rng = rng
        self.session = session_of()
        self.running: dict[tuple[str, int], AttemptLog] = {}
        self.truth: dict[tuple[str, int], list] = {}  # all that was ever put into a log
        self.disk: dict[tuple[str, int], Held] = {}
        self.boots = 1

    def do(self, effect, now):
        match effect:
            case Admit(offer):
                key = (offer.job, offer.lease)
                log = AttemptLog(wire.delivered_events(offer.delivered), now)
                log.append(Admitted(seq=log.next_seq, node="node_b"), now)
                self.running[key] = log
                self.truth.setdefault(key, [])
                self.session.accept(Held(job=offer.job, lease=offer.lease, delivered=len(offer.delivered or ()), model_digest="d", log=log))
            case Stop(job, lease):
                self.running.pop((job, lease), None)
            case Forget(job, lease):
                self.disk.pop((job, lease), None)

    def produce(self, now):
        live = [(key, log) for key, log in self.running.items() if not log.has_ended]
        if not live:
            return
        key, log = self.rng.choice(live)
        seq = log.next_seq
        chance = self.rng.random()
        if chance < 0.06:
            log.append(End(seq=seq, reason=EndReason.STOP, usage=USAGE), now)
        elif chance < 0.08:
            log.append(Fail(seq=seq, status=502, detail="broke"), now)
        elif chance < 0.2:
            log.append(Beat(seq=seq), now)
        else:
            log.append(Text(seq=seq, content=f"{seq}-{self.rng.randrange(99)} " * self.rng.choice((1, 1, 1, 400)), tokens=1), now)
        self.truth[key].append(decode(log.lines[-1]))
        if log.has_ended and (held := self.session.find(*key)):
            self.disk[key] = Held(
                job=held.job, lease=held.lease, delivered=held.delivered, model_digest="d", log=StoredLog(list(log.lines))
            )

    def restart(self):
        self.boots += 1
        self.session = session_of(f"boot{self.boots}")
        self.running.clear()
        for held in self.disk.values():
            self.session.keep(held)


class Gateway:
    """A receiver: takes chunks in order, acknowledges, resumes, supersedes, forgets."""

    def __init__(self, rng):
        self.rng = rng
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.out: deque = deque()
        self.jobs = 0
        self.epoch = 0
        self.breaches = []

    def offer(self):
        self.jobs += 1
        delivered = wire.delivered_lines(DELIVERED) if self.rng.random() < 0.3 else None
        return self._offer(f"job_{self.jobs}", 1, delivered)

    def _offer(self, job, lease, delivered):
        offer = wire.Offer(
            job=job,
            lease=lease,
            kind=JobKind.CHAT,
            model="m",
            model_digest="d",
            request={},
            max_tokens=9,
            deadline=DEADLINE,
            delivered=delivered,
        )
        self.attempts[job, lease] = Attempt(offer)
        self.out.append(offer)

    def supersede(self):
        live = [one for one in self.attempts.values() if not one.end and not one.is_over]
        if live:
            old = self.rng.choice(live)
            old.is_over = True
            self._offer(old.offer.job, old.offer.lease + 1, old.offer.delivered)

    def repeat(self):
        """Say something again that was said before: a late offer, a second cancel."""
        if self.attempts:
            one = self.rng.choice(list(self.attempts.values()))
            self.out.append(one.offer if not one.is_over and not one.end and self.rng.random() < 0.5 else self._cancel(one))

    def _cancel(self, one):
        one.is_over = True
        return wire.Cancel(job=one.offer.job, lease=one.offer.lease, why="consumer")

    def forget(self):
        """A new process that knows its attempts by their drivers, and none of their chunks."""
        for one in self.attempts.values():
            if one.end is None:
                one.chunks.clear()

    def connect(self, now):
        self.out.clear()

    def lose(self, now):
        pass

    def look(self, now):
        pass

    def hear(self, text, now):
        self.take(wire.from_agent(text))

    def next_text(self):
        return self.out.popleft().text() if self.out else None

    @property
    def is_busy(self):
        return bool(self.out)

    def events(self, key, delivered):
        """What arrived, as the log's events."""
        return [wire.event_of(chunk, delivered) for chunk in self.attempts[key].chunks]

    def take(self, frame):
        key = (getattr(frame, "job", None), getattr(frame, "lease", None))
        one = self.attempts.get(key)
        match frame:
            case wire.Hello():
                self._welcome(frame)
            case wire.Chunk():
                if one is None or one.is_over:
                    self.out.append(wire.Cancel(job=frame.job, lease=frame.lease, why="superseded"))
                elif frame.seq > len(one.chunks):
                    self.breaches.append(("gap", frame.seq, len(one.chunks)))
                elif frame.seq < len(one.chunks):
                    one.doubled += 1
                else:
                    one.chunks.append(frame)
                    if len(one.chunks) % wire.ACK_EVERY_CHUNKS == 0 or self.rng.random() < 0.1:
                        self.out.append(wire.Ack(job=frame.job, lease=frame.lease, seq=len(one.chunks)))
            case wire.End() | wire.Fail():
                if one is None or one.is_over:
                    self.out.append(wire.Cancel(job=frame.job, lease=frame.lease, why="superseded"))
                    return
                total = frame.total if isinstance(frame, wire.End) else frame.seq
                if total != len(one.chunks) and one.end is None:
                    self.breaches.append(("end", total, len(one.chunks)))
                    return
                one.end = frame
                self.out.append(wire.Ack(job=frame.job, lease=frame.lease, seq=total, end=True))
            case _:
                pass

    def _welcome(self, hello):
        self.epoch += 1
        resume, drop = [], []
        for held in hello.resume:
            one = self.attempts.get((held.job, held.lease))
            if one is None or one.is_over:
                drop.append(wire.Dropped(job=held.job, lease=held.lease, reason="superseded"))
            else:
                resume.append(wire.ResumeFrom(job=held.job, lease=held.lease, next_seq=len(one.chunks)))
        named = {(held.job, held.lease) for held in hello.resume}
        for key, one in self.attempts.items():
            if key not in named and not one.end and not one.is_over:
                one.is_over = True  # a new attempt elsewhere
        self.out.appendleft(wire.Welcome(version=1, node="node_b", epoch=self.epoch, resume=resume, drop=drop))


class World:
    def __init__(self, seed, platform=None):
        self.rng = random.Random(seed)
        self.now = 100.0
        self.machine, self.gateway = Machine(self.rng), (platform or Gateway)(self.rng)
        self.to_platform: deque = deque()
        self.to_agent: deque = deque()
        self.connect()

    def connect(self):
        self.gateway.connect(self.now)
        self.machine.session.connect(self.now, 600)

    def cut(self):
        """What is on its way is lost, in both directions; some of it may have arrived."""
        self.machine.session.disconnect()
        for _ in range(self.rng.randrange(len(self.to_platform) + 1)):
            self.gateway.hear(self.to_platform.popleft(), self.now)
        self.lose()
        self.connect()

    def lose(self):
        """Nothing more arrives of a connection that is gone."""
        self.to_platform.clear()
        self.to_agent.clear()
        self.gateway.lose(self.now)

    def agent_sends(self):
        if (text := self.machine.session.next_text(self.now)) is not None:
            assert len(text.encode()) <= wire.MAX_FRAME_BYTES
            self.to_platform.append(text)
        self.check_windows()

    def agent_takes(self):
        if self.to_agent:
            for effect in list(self.machine.session.take(wire.from_platform(self.to_agent.popleft()), self.now)):
                self.machine.do(effect, self.now)

    def platform_takes(self):
        if self.to_platform:
            self.gateway.hear(self.to_platform.popleft(), self.now)
        self.gateway.look(self.now)
        while (text := self.gateway.next_text()) is not None:
            self.to_agent.append(text)

    def check_windows(self):
        for held in self.machine.session.held:
            assert len(held.unacked) <= wire.UNACKED_CHUNKS
            assert held.unacked_bytes <= wire.UNACKED_BYTES + wire.MAX_FRAME_BYTES
            assert held.unacked_bytes == sum(held.unacked)

    def step(self):
        self.now += self.rng.choice((0.0, 0.01, 0.05))
        is_welcome = self.machine.session.welcome is not None
        chance = self.rng.random()
        if chance < 0.32:
            self.agent_sends()
        elif chance < 0.55:
            self.platform_takes()
        elif chance < 0.75:
            self.agent_takes()
        elif chance < 0.945:
            self.machine.produce(self.now)
        elif chance < 0.974:
            if is_welcome and len(self.machine.running) < 8:
                self.gateway.offer()
        elif chance < 0.976:
            self.gateway.supersede()
        elif chance < 0.98:
            self.gateway.repeat()
        elif chance < 0.993:
            self.cut()
        elif chance < 0.997:
            self.machine.session.disconnect()
            self.lose()
            self.machine.restart()
            self.connect()
        else:
            self.to_platform.clear()  # went to the process that died
            self.gateway.forget()
            self.cut()

    def settle(self):
        """Heal everything: nothing is cut any more, everything that runs ends."""
        for _ in range(40_000):
            self.now += 0.02
            self.agent_sends()
            self.platform_takes()
            self.agent_takes()
            for key, log in self.machine.running.items():
                if not log.has_ended:
                    log.append(End(seq=log.next_seq, reason=EndReason.STOP, usage=USAGE), self.now)
                    self.machine.truth[key].append(decode(log.lines[-1]))
            if not self.machine.session.held and not self.to_agent and not self.to_platform and not self.gateway.is_busy:
                return
        raise AssertionError(f"still held: {[(one.key, one.sent, one.produced) for one in self.machine.session.held]}")

    def check_delivered(self):
        """What arrived is what was said: a prefix while it runs, all of it at the end; numbered as the log is."""
        for key, one in self.gateway.attempts.items():
            delivered = len(one.offer.delivered or ())
            events = self.gateway.events(key, delivered)
            truth = self.machine.truth.get(key, [])
            assert events == truth[: len(events)], key
            if one.end is not None and not one.is_over:
                assert len(events) == len(truth) - 1, key
                assert isinstance(one.end, wire.End) == isinstance(truth[-1], End)


class RealGateway:
    """The platform's own session over a simulated socket, with drivers that attach again after its restarts."""

    def __init__(self, rng):
        self.rng = rng
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.mirrors: dict[tuple[str, int], Mirror] = {}
        self.breaches = []
        self.jobs = self.epochs = 0
        self.now = 0.0
        self.session = None
        self.node = self._new_node()

    def _new_node(self):
        return EdgeNode("node_b", NodeFacts(name="b", state="active", tier="verified", key="k"), lambda: None, self.note_ending)

    # --- what a session needs of its edge gateway (`Floor`)

    def new_epoch(self, known):
        self.epochs += 1
        return self.epochs

    def is_others(self, node, job, lease):
        return False

    def note_ending(self, mirror):
        """Count at once what the real one counts in a while; an attempt whose driver has not come waits for it."""
        if mirror.phase is Phase.ENDING and mirror.attempt is not None:
            mirror.finish(End(seq=0, reason=mirror.ending.reason, usage=USAGE), self.now)

    def note_stale(self): ...
    def note_foreign(self, node): ...
    def note_replay(self): ...
    def note_frame(self, type_): ...

    # --- the socket

    def connect(self, now):
        self.session = Session(self.node, self, now + 600, now)

    def lose(self, now):
        if self.session is not None:
            self.node.lose(self.session, now)
        self.session = None

    def hear(self, text, now):
        self.now = now
        before = self.session.closing
        self.session.take(text, now)
        if self.session.closing and not before:
            self.breaches.append((self.session.closing, text[:200]))
        self._attach(now)

    def next_text(self):
        return self.session.next_out() if self.session else None

    def look(self, now):
        self.now = now
        self._attach(now)
        self.node.look(now)
        for key, mirror in self.mirrors.items():
            if mirror.log.has_ended:
                mirror.is_told = True
                one = self.attempts[key]
                end = decode(mirror.log.lines[-1])
                if one.end is None and mirror.ended_by_agent:
                    one.end = (
                        wire.End(job=key[0], lease=key[1], total=0, usage=wire.RuntimeUsage(), reason="stop")
                        if isinstance(end, End)
                        else end
                    )
                one.is_over = one.is_over or not mirror.ended_by_agent

    def _attach(self, now):
        """Drivers come for what they began, and stay; nobody comes for what has ended."""
        for key, mirror in list(self.node.mirrors.items()):
            if self.attempts[key].end or self.attempts[key].is_over:
                continue
            if mirror.attempt is None:
                mirror.learn(attempt_of(self.attempts[key].offer, "node_b"))
                self.note_ending(mirror)
            if self.mirrors.get(key) is not mirror:
                mirror.log.opened()
                self.mirrors[key] = mirror

    @property
    def is_busy(self):
        return any(mirror.phase is not Phase.ENDED for mirror in self.mirrors.values())

    def events(self, key, delivered):
        mirror = self.mirrors.get(key)
        lines = mirror.log.lines[wire.first_seq(delivered) :] if mirror else []
        return [event for line in lines if not isinstance(event := decode(line), End | Fail)]

    # --- drivers

    def offer(self):
        self.jobs += 1
        self._offer(f"job_{self.jobs}", 1, wire.delivered_lines(DELIVERED) if self.rng.random() < 0.3 else None)

    def _offer(self, job, lease, delivered):
        offer = wire.Offer(
            job=job,
            lease=lease,
            kind=JobKind.CHAT,
            model="m",
            model_digest="d",
            request={},
            max_tokens=10**6,
            deadline=DEADLINE,
            delivered=delivered,
        )
        try:
            self.node.offer(attempt_of(offer, "node_b"), self.now)
        except NodeBusy:
            return
        self.attempts[job, lease] = Attempt(offer)
        self._attach(self.now)

    def supersede(self):
        live = [key for key, mirror in self.mirrors.items() if mirror.phase is Phase.RUNNING and not self.attempts[key].is_over]
        if live and self.session and self.session.is_open:
            key = self.rng.choice(live)
            self.attempts[key].is_over = True
            self._offer(key[0], key[1] + 1, self.attempts[key].offer.delivered)

    def repeat(self):
        live = [key for key, mirror in self.mirrors.items() if mirror.phase is Phase.RUNNING]
        if live:
            key = self.rng.choice(live)
            self.attempts[key].is_over = True
            self.node.cancel(self.mirrors[key], "consumer", self.now)

    def forget(self):
        self.lose(self.now)
        self.mirrors = {key: mirror for key, mirror in self.mirrors.items() if mirror.log.has_ended}
        self.node = self._new_node()


@pytest.mark.parametrize("platform", [Gateway, RealGateway])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_breaks_every_answer_arrives_whole_in_order_and_once(seed, platform):
    world = World(seed, platform)
    for n in range(1500):
        world.step()
        if n % 10 == 0:
            world.check_delivered()
        assert world.gateway.breaches == []
    world.settle()
    world.check_delivered()
    assert world.gateway.breaches == []
    assert world.machine.disk == {}
    ended = [one for one in world.gateway.attempts.values() if one.end and not one.is_over]
    assert len(ended) >= 2


def connected(session, now=0.0, token_s=600.0, **welcome):
    session.connect(now, token_s)
    hello = wire.from_agent(session.next_text(now))
    list(session.take(wire.Welcome(version=1, node="n", epoch=1, **welcome), now))
    assert isinstance(wire.from_agent(session.next_text(now)), wire.Inventory)
    assert isinstance(wire.from_agent(session.next_text(now)), wire.AgentHeartbeat)
    return hello


def log_of(*contents, ended=False):
    log = AttemptLog((), 0)
    log.append(Admitted(seq=0, node="n"), 0)
    for content in contents:
        log.append(Text(seq=log.next_seq, content=content, tokens=1), 0)
    if ended:
        log.append(End(seq=log.next_seq, reason=EndReason.STOP, usage=USAGE), 0)
    return log


def held_of(log, job="job_1", lease=1):
    return Held(job=job, lease=lease, delivered=0, model_digest="d", log=log)


def said(session, now=0.0):
    frames = []
    while (text := session.next_text(now)) is not None:
        frames.append(wire.from_agent(text))
    return frames


def test_nothing_is_said_before_the_welcome_but_hello():
    session = session_of()
    session.connect(0, 600)
    session.reject(
        wire.Offer(job="j", lease=1, kind=JobKind.CHAT, model="m", model_digest="", request={}, max_tokens=1, deadline=DEADLINE), "busy"
    )
    assert [frame.type for frame in said(session)] == ["hello"]


def test_the_window_is_thirty_two_chunks_and_a_quarter_of_a_mebibyte():
    session = session_of()
    connected(session)
    session.accept(held_of(log_of(*"abc" * 40)))
    session.accept(held_of(log_of(*["x" * 16_000] * 40), job="job_2"))
    chunks = [frame for frame in said(session, 5.0) if isinstance(frame, wire.Chunk)]
    assert sum(frame.job == "job_1" for frame in chunks) == wire.UNACKED_CHUNKS
    assert 16 <= sum(frame.job == "job_2" for frame in chunks) <= 17
    list(session.take(wire.Ack(job="job_1", lease=1, seq=8), 5.0))
    assert [frame.seq for frame in said(session, 5.0)] == list(range(32, 40))


def test_an_end_is_told_until_it_is_acknowledged_and_then_forgotten():
    session = session_of()
    connected(session)
    session.accept(held_of(log_of("a", ended=True)))
    assert [frame.type for frame in said(session)] == ["accept", "chunk", "end"]
    session.disconnect()
    hello = connected(session, resume=[wire.ResumeFrom(job="job_1", lease=1, next_seq=1)])
    assert hello.resume == [wire.Held(job="job_1", lease=1, next_seq=1, ended=True)]
    assert [frame.type for frame in said(session)] == ["end"]
    assert list(session.take(wire.Ack(job="job_1", lease=1, seq=1, end=True), 0)) == [Forget("job_1", 1)]
    assert session.held == ()


def test_an_acknowledgement_of_an_end_that_was_not_sent_forgets_nothing():
    session = session_of()
    connected(session)
    session.accept(held_of(log_of("a")))
    said(session)
    assert list(session.take(wire.Ack(job="job_1", lease=1, seq=1, end=True), 0)) == []
    assert len(session.held) == 1


def test_a_higher_lease_ends_the_attempt_that_runs_and_a_lower_one_is_refused():
    session = session_of()
    connected(session)
    session.accept(held_of(log_of("a"), lease=2))
    said(session)
    newer = wire.Offer(job="job_1", lease=3, kind=JobKind.CHAT, model="m", model_digest="", request={}, max_tokens=1, deadline=DEADLINE)
    assert list(session.take(newer, 0)) == [Stop("job_1", 2), Forget("job_1", 2), Admit(newer)]
    session.accept(held_of(log_of("b"), lease=3))
    said(session)
    assert list(session.take(newer.model_copy(update={"lease": 2}), 0)) == []
    assert [frame.type for frame in said(session)] == ["reject"]


def test_an_offer_twice_is_one_attempt_and_two_answers():
    session = session_of()
    connected(session)
    offer = wire.Offer(job="job_1", lease=1, kind=JobKind.CHAT, model="m", model_digest="", request={}, max_tokens=1, deadline=DEADLINE)
    session.accept(held_of(log_of("a")))
    assert list(session.take(offer, 0)) == []
    assert [frame.type for frame in said(session)] == ["accept", "accept", "chunk"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_cancel_is_answered_at_once_also_of_an_attempt_that_is_not_known(is_known):
    session = session_of()
    connected(session)
    if is_known:
        session.accept(held_of(log_of("a", "b")))
        said(session)
    effects = list(session.take(wire.Cancel(job="job_1", lease=1, why="consumer"), 0))
    assert effects == ([Stop("job_1", 1), Forget("job_1", 1)] if is_known else [])
    assert said(session) == [wire.Canceled(job="job_1", lease=1, seq=2 if is_known else 0)]


def test_what_ended_for_want_of_a_connection_is_told_as_a_failure_that_another_node_may_mend():
    session = session_of()
    log = log_of("a")
    log.append(End(seq=log.next_seq, reason=EndReason.CANCELED, usage=USAGE), 0)
    session.keep(held_of(log))
    connected(session, resume=[wire.ResumeFrom(job="job_1", lease=1, next_seq=0)])
    end = said(session)[-1]
    assert (end.type, end.code, end.retryable) == ("fail", "timed_out", True)


def test_a_token_is_renewed_two_minutes_before_its_end_and_asked_for_again_when_that_fails():
    session = session_of()
    connected(session)
    assert not session.wants_token(479)
    assert session.wants_token(480)
    assert not session.wants_token(489)
    assert session.wants_token(490)
    list(session.take(wire.AuthOk(expires_in_s=600), 491))
    assert not session.wants_token(970)
    assert session.wants_token(971)


def test_a_platform_that_is_silent_for_twenty_five_seconds_is_dead():
    session = session_of()
    connected(session, 0)
    assert not session.is_dead(25)
    assert session.is_dead(25.1)
    list(session.take(wire.PlatformHeartbeat(n=1), 24))
    assert not session.is_dead(49)


def test_while_something_runs_a_platform_is_dead_when_it_gives_that_to_another_node():
    session = session_of()
    connected(session, 0)
    log = log_of("a")
    session.accept(held_of(log))
    session.accept(held_of(log_of("b", ended=True), job="job_2"))
    assert not session.is_dead(15)
    assert session.is_dead(15.1)
    session.forget("job_1", 1)
    assert not session.is_dead(25)


def test_a_heartbeat_comes_every_ten_seconds_and_names_what_runs():
    session = session_of()
    connected(session)
    session.accept(held_of(log_of("a")))
    session.accept(held_of(log_of("b", ended=True), job="job_2"))
    beats = [frame for now in range(31) for frame in said(session, now) if isinstance(frame, wire.AgentHeartbeat)]
    assert [beat.n for beat in beats] == [2, 3, 4]
    assert beats[0].jobs == [wire.Running(job="job_1", lease=1)]


def test_an_inventory_is_told_again_when_it_changed_and_not_for_free_memory_alone():
    from dataclasses import replace

    from cluster.nodes import Gpu, Node, NodeKind

    node = Node(
        id="n",
        name="n",
        kind=NodeKind.TRUSTED,
        url="",
        slots=2,
        running=0,
        models=(),
        gpus=(Gpu(uuid="g", name="g", total_bytes=9, free_bytes=5),),
    )
    session = session_of()
    session.note(facts_of(node, ""))
    connected(session)
    session.note(facts_of(replace(node, gpus=(replace(node.gpus[0], free_bytes=4),)), ""))
    assert said(session, 1) == []
    session.note(facts_of(node, "paused by its owner"))
    assert [frame.paused for frame in said(session, 1)] == ["paused by its owner"]


def test_a_log_that_was_kept_on_disk_is_the_same_log():
    log = log_of("a", "b", ended=True)
    lines = [encode(decode(line)) for line in log.lines]
    one, other = session_of(), session_of()
    one.keep(held_of(log))
    other.keep(held_of(StoredLog(lines)))
    told = []
    for session in (one, other):
        connected(session, resume=[wire.ResumeFrom(job="job_1", lease=1, next_seq=0)])
        told.append(said(session))
    assert told[0] == told[1]


def test_nothing_is_said_after_goodbye():
    session = session_of()
    connected(session)
    session.say(wire.Bye(reason="stopped"))
    session.note(Facts(inventory=INVENTORY.model_copy(update={"paused": "stopped"}), slots_free=0))
    assert [frame.type for frame in said(session, 60)] == ["bye"]
