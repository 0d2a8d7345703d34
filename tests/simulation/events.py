"""What happens to a world: plain values, drawn by a seed, that mean something in any world, so that a list of them can be cut anywhere."""

import random
from dataclasses import dataclass
from functools import partial

from tests.simulation import client
from tests.simulation.runtime import FAULTS

KEYS = 4  # different Idempotency-Keys of a consumer
MOST_OPEN = 12


@dataclass(frozen=True)
class Event:
    """One step: something happens, then time goes on for `then_s`. `a` and `b` choose, `x` (0 to 1) measures."""

    kind: str
    a: int
    b: int
    x: float
    then_s: float

    def __str__(self):
        return f"{self.kind} {self.a} {self.b} {self.x} {self.then_s}"

    @classmethod
    def read(cls, line):
        kind, a, b, x, then_s = line.split()
        return cls(kind, int(a), int(b), float(x), float(then_s))


def submit(world, event):
    """A new request, with a key or without."""
    if sum(asked.is_open for asked in world.asked) >= MOST_OPEN:
        return "too many are open"
    key = world.keys[event.a % len(world.keys)]
    has_key = event.b % 4 == 0
    asked = client.ask_of(
        len(world.asked), key, 1 + int(event.x * 30), world.loop.time(), is_stream=event.b % 3 > 0, max_tokens=20 if event.b % 5 == 0 else 100,
        idempotency_key=f"key-{len(world.asked)}" if has_key else None,
    )  # fmt: skip
    world.submit(asked)
    return f"#{asked.number} {'stream' if asked.is_stream else 'whole'} of {asked.words} words, key {asked.idempotency_key}"


def again(world, event):
    """The same request with the same key."""
    known = [asked for asked in world.asked if asked.idempotency_key]
    if not known:
        return "nothing to repeat"
    first = known[-1 - event.a % min(len(known), 4)]
    asked = client.ask_of(
        first.number, first.key, first.words, world.loop.time(), is_stream=first.is_stream, max_tokens=first.max_tokens,
        idempotency_key=first.idempotency_key,
    )  # fmt: skip
    world.submit(asked)
    return f"#{asked.number} again"


def leave(world, event):
    """A consumer closes the connection."""
    reading = [call for call in (*world.asked, *world.readings) if call.is_open]
    if not reading:
        return "nobody reads"
    call = reading[event.a % len(reading)]
    client.leave(call, world.loop.time())
    return f"#{call.number}" if isinstance(call, client.Asked) else f"reading {call.number}"


def come_back(world, event):
    """A consumer reads a job along, from its beginning or from where an earlier reading was cut."""
    named = [asked for asked in world.asked if asked.job]
    cut = [reading for reading in world.readings if reading.outcome in {"broken", "left"} and reading.from_seq == 0]
    if cut and event.b % 2:
        before = cut[event.a % len(cut)]
        reading = world.come_back(before.of, before.next_seq)
    elif named:
        reading = world.come_back(named[-1 - event.a % min(len(named), 6)], 0)
    else:
        return "nothing to come back to"
    return f"reading {reading.number} of #{reading.of.number} from {reading.from_seq}"


def kill(world, event):
    part = world.parts[event.a % len(world.parts)]
    part.kill(0.2 + 15 * event.x**2)
    return part.name


def vanish(world, event):
    node = world.nodes[event.a % len(world.nodes)]
    node.vanish(2 + 40 * event.x)
    return node.name


def freeze(world, event):
    part = world.parts[event.a % len(world.parts)]
    for_s = 0.2 + 40 * event.x**2
    part.freeze(for_s)
    return f"{part.name} for {for_s:.1f} s"


def cut(world, event):
    """No word comes through between two parts, one way or both, or nothing at all to or from one."""
    one = world.parts[event.a % len(world.parts)].name
    other = (*(part.name for part in world.parts), "*")[event.b % (len(world.parts) + 1)]
    for_s = 0.2 + 30 * event.x**2
    ways = [(one, other), (other, one)][: 1 + event.b % 2]
    for way in ways:
        world.network.cut(*way)
        world.later(for_s, partial(world.network.heal, *way))
    return f"{' and '.join(f'{a} to {b}' for a, b in ways)} for {for_s:.1f} s"


def break_off(world, event):
    """One open connection breaks; every other time one between a replica and a node."""
    nodes, replicas = {node.name for node in world.nodes}, {replica.name for replica in world.replicas}
    ends = list(world.network.channels)
    if event.b % 2:
        ends = [end for end in ends if end.process.name in replicas and end.peer.process.name in nodes]
    if not ends:
        return "no connection"
    end = ends[event.a % len(ends)]
    end.break_off()
    return f"{end.process} with {end.peer.process}"


def lose(world, event):
    """The next thing that one part says to another is lost, and its connection breaks: a request, or an answer after the work."""
    pairs = sorted({(end.process.name, end.peer.process.name) for end in world.network.channels})
    if not pairs:
        return "no connection"
    pair = pairs[event.a % len(pairs)]
    world.network.lose_next(*pair)
    return f"{pair[0]} to {pair[1]}"


def fail(world, event):
    """A runtime's next request goes wrong."""
    node, fault = world.nodes[event.a % len(world.nodes)], FAULTS[event.b % len(FAULTS)]
    node.runtime.faults.append(fault)
    return f"{node.name} {fault}"


def runtime_down(world, event):
    node = world.nodes[event.a % len(world.nodes)]
    node.runtime_down(0.5 + 15 * event.x)
    return node.name


def drain(world, event):
    node = world.nodes[event.a % len(world.nodes)]
    if not (node.is_up and node.worker):
        return f"{node.name} is not up"
    node.process.call_soon(node.worker.drain, node.name)
    world.later(1 + 10 * event.x, lambda: node.worker and node.process.call_soon(node.worker.resume, node.name))
    return node.name


def slow_database(world, event):
    """Statements take long, some longer than anybody waits."""
    world.statement_s = 0.5 + 4 * event.x
    world.later(1 + 6 * event.x, partial(setattr, world, "statement_s", 0.0005))
    return f"{world.statement_s:.1f} s"


def slow_network(world, event):
    world.network.slowness_s = 0.3 * event.x
    world.later(2 + 8 * event.x, partial(setattr, world.network, "slowness_s", 0.0))
    return f"{world.network.slowness_s:.2f} s"


def wait(world, event):
    return ""


RULES = {
    submit: 34, again: 6, leave: 5, come_back: 6, wait: 12, kill: 6, vanish: 2, freeze: 5, cut: 5, break_off: 6, lose: 8, fail: 8, runtime_down: 2, drain: 2,
    slow_database: 3, slow_network: 2,
}  # fmt: skip
BY_NAME = {rule.__name__: rule for rule in RULES}
ALWAYS = {"submit", "again", "leave", "come_back", "wait"}


def drawn(seed, count):
    """Draw events. Each seed leaves some kinds of faults out: what hides behind one fault shows without it."""
    rng = random.Random(seed)
    weights = {name: RULES[rule] * (name in ALWAYS or rng.random() < 0.6) for name, rule in BY_NAME.items()}
    kinds = rng.choices(list(weights), list(weights.values()), k=count)
    return [Event(kind, rng.randrange(10_000), rng.randrange(10_000), round(rng.random(), 3), _time(rng)) for kind in kinds]


def _time(rng):
    scale = rng.choices((0.05, 0.4, 3.0), (5, 4, 1))[0]
    return round(rng.expovariate(1 / scale), 3)


def apply(world, event):
    """Let it happen; tell what exactly did."""
    return BY_NAME[event.kind](world, event)
