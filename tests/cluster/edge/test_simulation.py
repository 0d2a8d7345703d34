"""The platform's side of the protocol under a clock of its own: connections drop with what is on its way, frames come twice, both sides restart.

Whatever happens, a driver hears each event once and in order, an answer that ended well is whole, and once everything is well again all ends.
A failing run is told again from its seed.
"""

import json
import random
from collections import deque

import pytest

from cluster.attempt_log import decode
from cluster.edge.edge_node import EdgeNode
from cluster.edge.facts import NodeFacts
from cluster.edge.mirror import Phase
from cluster.edge.sessions import Session
from cluster.errors import AttemptSuperseded, NodeBusy
from cluster.jobs import Attempt, End, EndReason, Fail, JobKind, Text, Usage
from tests.edge_agents import DIGEST, inventory

STEPS = 1200
FACTS = NodeFacts(name="n", state="active", tier="verified", key="k")
USAGE = Usage(prompt_tokens=1, completion_tokens=1, counted_by="platform")


class Platform:
    """An edge gateway without sockets; `restart` loses all that it knows."""

    def __init__(self):
        self.epochs = 0
        self.restart()

    def restart(self):
        self.node = EdgeNode("node_1", FACTS, lambda: None, self.note_ending)

    def new_epoch(self, known):
        self.epochs += 1
        return max(self.epochs, known + 1)

    def is_others(self, node, job, lease):
        return False

    def note_ending(self, mirror):
        if mirror.phase is Phase.ENDING and mirror.attempt is not None:
            mirror.finish(End(seq=0, reason=mirror.ending.reason, usage=USAGE), self.now)

    def note_stale(self):
        pass

    note_replay = note_stale

    def note_foreign(self, node):
        pass

    note_frame = note_foreign


class Agent:
    """An honest agent with everything in memory: a restart loses its logs."""

    def __init__(self, rng):
        self.rng = rng
        self.restart()

    def restart(self):
        self.logs = {}  # attempt -> [delivered, own chunks, whether ended, sent, acked]

    def hello(self):
        held = [
            {"job": job, "lease": lease, "first_seq": 0, "next_seq": len(log["own"]), "ended": log["ended"], "delivered": log["delivered"]}
            for (job, lease), log in self.logs.items()
        ]
        return {"type": "hello", "versions": [1], "agent_version": "1", "boot_id": "b", "resume": held}

    def hear(self, frame):
        key = frame.get("job"), frame.get("lease")
        match frame["type"]:
            case "welcome":
                for one in frame["drop"]:
                    self.logs.pop((one["job"], one["lease"]), None)
                for one in frame["resume"]:
                    self.logs[one["job"], one["lease"]] |= {"sent": one["next_seq"], "acked": one["next_seq"], "end_sent": False}
                yield inventory(slots=4)
            case "offer":
                self.logs[key] = {
                    "delivered": len(frame.get("delivered") or ()),
                    "own": [],
                    "ended": False,
                    "sent": 0,
                    "acked": 0,
                    "end_sent": False,
                }
                yield {"type": "accept", "job": key[0], "lease": key[1]}
            case "ack" if key in self.logs:
                self.logs[key]["acked"] = max(self.logs[key]["acked"], frame["seq"])
                if frame["end"]:
                    del self.logs[key]
            case "cancel":
                self.logs.pop(key, None)
                yield {"type": "canceled", "job": key[0], "lease": key[1]}
            case "error":
                raise AssertionError(f"an honest agent was told {frame}")

    def work(self):
        """Produce a little, and say what fits into the window; now and then say a chunk twice."""
        for (job, lease), log in list(self.logs.items()):
            if not log["ended"]:
                log["own"].append(f"{job}.{lease}.{len(log['own'])} ")
                log["ended"] = self.rng.random() < 0.05
            while log["sent"] < len(log["own"]) and log["sent"] - log["acked"] < 32:
                n = log["sent"]
                log["sent"] += 1
                chunk = {"type": "chunk", "job": job, "lease": lease, "seq": n, "delta": {"content": log["own"][n]}, "tokens": 1}
                yield chunk
                if self.rng.random() < 0.05:
                    yield chunk
            if log["ended"] and log["sent"] == len(log["own"]) and not log["end_sent"]:
                log["end_sent"] = True
                yield {"type": "end", "job": job, "lease": lease, "total": len(log["own"]), "reason": "stop", "usage": {}}


class Driver:
    """Drives one job as Serve does: attempt after attempt, each going on after what was delivered."""

    def __init__(self, job):
        self.job, self.lease, self.events = job, 0, []
        self.attempt = self.mirror = self.end = None

    def step(self, platform, now):
        if self.end is not None:
            return
        if self.attempt is None:
            self.lease += 1
            delivered = tuple(self.events)
            self.attempt = Attempt(
                job=self.job, number=self.lease, node="node_1", kind=JobKind.CHAT, model="m", model_digest=DIGEST, request={}, max_tokens=10**6,
                delivered=delivered,
            )  # fmt: skip
            try:
                self.mirror = platform.node.offer(self.attempt, now)
                self.mirror.log.opened()
            except (NodeBusy, AttemptSuperseded):
                self.lose(back=True)
            return
        if self.mirror is None:  # its edge gateway was lost
            self.mirror = platform.node.mirrors.get((self.job, self.lease))
            if self.mirror is not None:
                self.mirror.log.opened()
                self.mirror.learn(self.attempt)
                platform.note_ending(self.mirror)
            elif platform.node.session is not None:
                self.lose()
            return
        self.read()

    def read(self):
        mirror = self.mirror
        if mirror.phase is Phase.ENDED and mirror.refusal is not None:
            self.lose()
            return
        for line in mirror.log.lines[len(self.events) :]:
            event = decode(line)
            assert event.seq == len(self.events), "a number came twice, or is missing"
            if isinstance(event, Fail):
                self.lose()
                return
            if isinstance(event, End):
                self.end = event
                mirror.is_told = True
                mirror.log.closed(0)
                return
            self.events.append(event)

    def lose(self, *, back=False):
        if self.mirror is not None:
            self.mirror.log.closed(0)
        self.attempt = self.mirror = None
        self.lease -= back

    def forget_mirror(self):
        if self.mirror is not None and self.mirror.phase is Phase.OFFERED:
            self.lose()  # it said nothing: what became of it is unknown
        self.mirror = None

    @property
    def text(self):
        return "".join(event.content for event in self.events if isinstance(event, Text))


class World:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.platform, self.agent = Platform(), Agent(self.rng)
        self.drivers = [Driver(f"job_{n}") for n in range(3)]
        self.session = None
        self.to_platform, self.to_agent = deque(), deque()
        self.done = []

    def connect(self):
        self.drop()
        self.platform.now = self.now
        self.session = Session(self.platform.node, self.platform, self.now + 10_000, self.now)
        self.to_platform.append(self.agent.hello())

    def drop(self):
        if self.session is not None:
            self.platform.node.lose(self.session, self.now)
        self.session = None
        self.to_platform.clear()
        self.to_agent.clear()

    def carry(self, most):
        """Carry some frames both ways, in order."""
        for _ in range(self.rng.randint(0, most)):
            if self.session is None:
                return
            if self.to_platform:
                self.session.take(json.dumps(self.to_platform.popleft()), self.now)
            while (text := self.session.next_out()) is not None:
                self.to_agent.append(json.loads(text))
            if self.to_agent:
                self.to_platform.extend(self.agent.hear(self.to_agent.popleft()))
            if self.session.closing:
                self.drop()

    def break_something(self, luck):
        if luck < 0.02:
            self.drop()
        elif luck < 0.025:
            self.platform.restart()
            self.session = None
            self.drop()
            for driver in self.drivers:
                driver.forget_mirror()
        elif luck < 0.03:
            self.drop()
            self.agent.restart()
        elif luck < 0.033:
            self.now += 20

    def step(self, *, is_wild=True):
        self.now += self.rng.uniform(0, 0.4)
        self.platform.now = self.now
        if is_wild:
            self.break_something(self.rng.random())
        if self.session is None and self.rng.random() < 0.3:
            self.connect()
        if self.session is not None and self.session.is_open:
            self.to_platform.extend(self.agent.work())
            if self.rng.random() < 0.1:
                self.to_platform.append({"type": "heartbeat", "n": 1})
        self.carry(40)
        self.platform.node.look(self.now)
        if self.session is not None:
            self.session.look(self.now)
            if self.session.closing:
                self.drop()
        for n, driver in enumerate(self.drivers):
            driver.step(self.platform, self.now)
            if driver.end is not None:
                self.done.append(driver)
                self.drivers[n] = Driver(f"job_{len(self.done)}_{n}")

    def check(self):
        node = self.platform.node
        assert 0 <= node.running <= 4
        for mirror in node.mirrors.values():
            assert mirror.acked <= mirror.next_chunk
            assert mirror.next_chunk - mirror.acked <= 33


@pytest.mark.parametrize("seed", range(10))
def test_whatever_breaks_each_event_is_heard_once_and_all_ends(seed, monkeypatch):
    monkeypatch.setattr("cluster.edge.mirror.Mirror.overdue", lambda *_: None)  # deadlines have tests of their own
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        world.check()
    goal = len(world.done) + 3
    for _ in range(3000):
        world.step(is_wild=False)
        if len(world.done) >= goal:
            break
    assert len(world.done) >= goal, "once all is well, jobs end"
    for driver in world.done:
        assert driver.end.reason in {EndReason.STOP, EndReason.CANCELED}
        own = [word for word in driver.text.split() if word.split(".")[1] == str(driver.lease)]
        assert [int(word.split(".")[2]) for word in own] == list(range(len(own))), "the last attempt's words are whole and in order"
    if seed == 0:
        assert any(driver.lease > 1 for driver in world.done), "nothing was ever lost: this proves little"
