"""Agents with a good token that use the protocol against us: whatever they repeat, claim or hold back costs them more than it costs others."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from prometheus_client import generate_latest
from pydantic import ValidationError

from cluster.edge import protocol
from cluster.edge.counting import ReferenceCounter
from cluster.edge.edge_node import EdgeNode
from cluster.edge.facts import NodeFacts
from cluster.edge.gateway import EdgeGateway
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.mirror import Phase
from cluster.edge.sessions import Session
from cluster.jobs import Attempt, Deadlines, Fail, JobKind
from tests.edge_agents import DIGEST, inventory
from tests.waiting import until

FACTS = NodeFacts(name="n", state="active", tier="verified", key="k")
GONE = (ConnectionError, AssertionError, aiohttp.ClientError, TimeoutError)


class Told:
    """A session without a socket, under a clock of its own."""

    def __init__(self, resume=(), slots=4):
        self.changes, self.now = 0, 1000.0
        self.gateway = EdgeGateway(lambda _: FACTS, None, ReferenceCounter(None), EdgeMetrics())
        self.node = EdgeNode("node_1", FACTS, self.note_changed, self.gateway.note_ending)
        self.gateway._nodes["node_1"] = self.node
        self.connect(resume, slots)

    def note_changed(self):
        self.changes += 1

    def connect(self, resume=(), slots=4):
        self.session = Session(self.node, self.gateway, self.now + 10_000, self.now)
        self.hear(type="hello", versions=[1], agent_version="1", boot_id="b", resume=list(resume))
        self.welcome = self.said()[-1]
        self.hear(inventory(slots))

    def hear(self, frame=None, **fields):
        self.session.take(json.dumps((frame or {}) | fields), self.now)

    def said(self):
        """All that was said since."""
        said = []
        while (text := self.session.next_out()) is not None:
            said.append(json.loads(text))
        return said

    def pass_(self, seconds):
        for _ in range(int(seconds * 10)):
            self.now += 0.1
            self.node.look(self.now)
        self.session.look(self.now)

    def running(self, job="job_1", **more):
        """An attempt that the agent took."""
        fields = {"kind": JobKind.CHAT, "model": "m", "model_digest": DIGEST, "request": {}, "max_tokens": 10**6}
        mirror = self.node.offer(Attempt(job=job, number=1, node="node_1", **(fields | more)), self.now)
        self.hear(type="accept", job=job, lease=1)
        return mirror

    def chunk(self, seq, job="job_1", **delta):
        self.hear(type="chunk", job=job, lease=1, seq=seq, delta=delta, tokens=1)


def held(job, **more):
    return {"job": job, "lease": 1, "first_seq": 0, "next_seq": 0} | more


# --- repeating ------------------------------------------------------------------------------------------------------------------------


def test_old_chunks_again_and_again_close_the_connection():
    told = Told()
    told.running()
    told.chunk(0, content="x")
    said = 0
    while told.session.closing is None and said < 5000:
        told.chunk(0, content="x")
        said += 1
    assert told.session.closing == (protocol.CLOSE_BREACH, "too_many_frames")


def test_a_window_of_every_attempt_may_come_again_after_a_break():
    told = Told(slots=64)
    for n in range(60):
        told.running(f"job_{n}")
        for seq in range(32):
            told.chunk(seq, f"job_{n}", content="x")
        told.now += 0.2
        told.node.look(told.now)
    for n in range(60):
        for seq in range(32):
            told.chunk(seq, f"job_{n}", content="x")
    assert told.session.closing is None


def test_inventories_are_news_for_everybody_and_so_come_now_and_then():
    told = Told()
    for n in range(100):
        told.now += 0.03
        told.hear(inventory(2 + n % 2))
    assert told.session.closing == (protocol.CLOSE_BREACH, "too_many_frames")
    assert told.changes < 30
    told = Told()
    for n in range(60):
        told.now += 2
        told.hear(inventory(2 + n % 2))
    assert told.session.closing is None
    assert told.node.slots == 3


def test_how_warm_it_is_is_news_once_a_second():
    told = Told()
    told.hear(inventory(gpus=[{"uuid": "g", "name": "GPU", "vram_bytes": 1}]))
    before = told.changes
    for n in range(400):
        told.now += 0.025
        told.hear(type="heartbeat", n=n, gpu=[{"uuid": "g", "temp_c": n}])
    assert told.session.closing is None
    assert told.changes - before <= 11
    told.pass_(2)
    told.hear(type="heartbeat", n=1, gpu=[{"uuid": "g", "temp_c": 7}])
    assert told.node.record.gpus[0].temperature_c == 7


def test_a_heartbeat_with_a_thousand_unknown_jobs_is_not_answered_a_thousand_times():
    told = Told()
    jobs = [{"job": f"job_{n}", "lease": 1} for n in range(1000)]
    for n in range(50):
        told.now += 0.1
        told.hear(type="heartbeat", n=n, jobs=jobs)
    cancels = [frame for frame in told.said() if frame["type"] == "cancel"]
    assert told.session.closing is None
    assert 64 <= len(cancels) < 250


def test_a_drain_that_is_said_again_is_no_news():
    told = Told()
    told.hear(type="drain")
    before = told.changes
    for _ in range(20):
        told.hear(type="drain")
    assert told.changes == before


async def test_pings_without_end_close_the_connection_and_a_few_are_answered(edge):
    socket = await edge.ready(edge.enroll())
    for _ in range(5):
        await socket.ws.ping(b"hello")
    await socket.send(type="heartbeat", n=1)
    await until(lambda: edge.node().is_healthy)
    with contextlib.suppress(*GONE):
        for _ in range(5000):
            await socket.ws.ping()
            await socket.ws.pong()
    assert await socket.closed() == 1008


async def test_the_agent_s_ping_is_answered(edge):
    socket = await edge.socket(edge.enroll(), autoping=False)
    await socket.ws.ping(b"are you there")
    async with asyncio.timeout(60):
        while (message := await socket.ws.receive()).type is not aiohttp.WSMsgType.PONG:
            pass
    assert message.data == b"are you there"


# --- claiming -------------------------------------------------------------------------------------------------------------------------


def test_what_nobody_asked_for_takes_little_memory():
    """Sixty-four attempts that no driver knows, each as long as an answer may be: the agent is not asked for more than a little of each."""
    told = Told(resume=[held(f"job_{n}", next_seq=10**6, delivered=5000) for n in range(64)])
    assert len(told.welcome["resume"]) == 64
    sent = dict.fromkeys(range(64), 0)
    acked = dict.fromkeys(range(64), 0)
    for _ in range(200):
        told.now += 0.3
        for n in range(64):
            while sent[n] - acked[n] < 30 and (sent[n] - acked[n]) * 8192 < 200_000:
                told.chunk(sent[n], f"job_{n}", content="x" * 8192)
                sent[n] += 1
        told.node.look(told.now)
        for frame in told.said():
            if frame["type"] == "ack":
                acked[int(frame["job"][4:])] = frame["seq"]
        told.session.look(told.now)
        told.hear(type="heartbeat", n=1)
    assert told.session.closing is None, "who keeps to the window is not cut"
    assert sum(mirror.log.size_bytes for mirror in told.node.mirrors.values()) < 64 * 400_000
    mirror = next(iter(told.node.mirrors.values()), None)
    assert mirror is None or mirror.log.next_seq < 5000 + 100


def test_the_driver_s_word_opens_the_window_again():
    told = Told(resume=[held("job_1", next_seq=1000)])
    mirror = told.node.mirrors["job_1", 1]
    sent = 0
    while sent - mirror.acked < 30:
        told.chunk(sent, content="x" * 4096)
        sent += 1
        told.now += 0.3
        told.node.look(told.now)
        assert sent < 200
    mirror.learn(Attempt(job="job_1", number=1, node="node_1", kind=JobKind.CHAT, model="m", model_digest=DIGEST, request={}, max_tokens=1))
    with mirror.reader():
        told.now += 0.3
        told.node.look(told.now)
        assert mirror.acked == sent


def test_an_attempt_that_the_agent_claimed_before_it_was_offered_has_its_deadlines():
    told = Told(resume=[held("job_1", next_seq=0)])
    mirror = told.running(deadlines=Deadlines(first_token_s=1, idle_s=1, total_s=2))
    assert not mirror.is_claim
    with mirror.reader():
        told.pass_(6)
    assert mirror.phase is Phase.ENDED


def test_claims_are_forgotten_with_the_connection_that_made_them():
    told = Told()
    for turn in range(50):
        told.now += 1
        told.node.lose(told.session, told.now)
        told.connect(resume=[held(f"job_{turn}_{n}", next_seq=1) for n in range(64)])
    assert len(told.node.mirrors) == 64
    assert len(told.node._newest) == 64
    told.pass_(40)
    assert not told.node.mirrors
    assert not told.node._newest


def test_more_events_before_it_than_an_offer_can_carry_are_refused():
    with pytest.raises(protocol.BadFrame):
        protocol.from_agent(
            json.dumps(
                {
                    "type": "hello",
                    "versions": [1],
                    "agent_version": "1",
                    "boot_id": "b",
                    "resume": [held("j", next_seq=0, delivered=100_000)],
                }
            )
        )


def test_names_that_mean_something_elsewhere_are_left_out():
    told = Told()
    bad = ["a\nb", "a\x1b[31m", "<script>", 'a"b', "a\u202eb", "a b", "a{b}", "\x00", "é"]
    models = [{"name": name, "digest": "d", "ctx": 1} for name in bad] + [{"name": "good", "digest": "d\n", "ctx": 1}]
    gpus = [{"uuid": "u\n", "name": "\x1b[2J<b>", "vram_bytes": 1, "driver": "\r\n"}]
    told.hear(
        type="inventory", runtime="ollama\n\x1b", ollama_version="<v>\x00", slots=1, models=models, gpus=gpus, paused="no\nyes\x1b[0m"
    )
    record = told.node.record
    assert record.models == ()
    shown = [record.runtime, record.reason, record.gpus[0].name, record.gpus[0].uuid, record.gpus[0].driver]
    assert all(text.isprintable() and text.isascii() for text in shown)


async def test_ten_thousand_models_are_a_breach(edge):
    socket = await edge.ready(edge.enroll())
    await socket.send(type="inventory", runtime="x", slots=1, models=[{"name": f"m{n}", "digest": "", "ctx": 1} for n in range(5500)])
    assert await socket.closed() == 1008
    socket = await edge.ready(edge.enroll())
    await socket.send(type="inventory", runtime="x", slots=1, models=[{"name": f"m{n}", "digest": "", "ctx": 1} for n in range(10_000)])
    assert await socket.closed() == 1009


@pytest.mark.parametrize(
    "field", [{"logprobs": [{"x": 1}] * 25_000}, {"delta": {"tool_calls": [{"x": 1}] * 20_000}}], ids=["logprobs", "tool calls"]
)
def test_of_a_frame_with_thousands_of_faults_the_first_is_found(field):
    """To list them all took a tenth of a second, in which nobody else was served."""
    with pytest.raises(ValidationError) as wrong:
        protocol._FROM_AGENT.validate_json(json.dumps({"type": "chunk", "job": "j", "lease": 1, "seq": 0, "delta": {}} | field))
    assert wrong.value.error_count() <= 2


def test_why_it_failed_is_one_line_of_plain_words():
    told = Told()
    mirror = told.running()
    told.hear(type="fail", job="job_1", lease=1, seq=0, code="internal", detail="see\n\x1b[31mhttp://elsewhere\u202e")
    assert mirror.phase is Phase.ENDED
    assert b"see??[31mhttp://elsewhere?" in mirror.log.lines[-1]


def test_complaints_are_logged_now_and_then_in_one_line(capsys):
    told = Told()
    for _ in range(90):
        told.hear(type="error", code="a\nb", detail="forged\n{}\x1b[2J", job="job_1")
    said = capsys.readouterr().out
    assert 0 < said.count("agent_complains") <= 10
    assert "\x1b[2J" not in said.replace("\x1b[0m", "")
    assert told.session.closing is None


async def test_a_close_code_of_the_agent_s_choice_makes_no_metric(edge):
    for n, code in enumerate((1000, 3000, 3999, 4000, 4999)):
        socket = await edge.ready(edge.enroll(f"node_{n}"))
        await socket.ws.close(code=code)
    await until(lambda: edge.gateway.connections == 0)
    labels = {
        line.split('code="')[1].split('"')[0]
        for line in generate_latest(edge.gateway.metrics.registry).decode().splitlines()
        if line.startswith("gfe_edge_closes_total{")
    }
    assert labels <= {"1000", "other"}


# --- holding back ---------------------------------------------------------------------------------------------------------------------


def test_signs_of_life_are_not_endless():
    told = Told()
    mirror = told.running(deadlines=Deadlines(first_token_s=80_000, idle_s=80_000, total_s=80_000))
    with mirror.reader():
        for seq in range(300_000):
            if mirror.phase is Phase.ENDED:
                break
            told.chunk(seq)
            told.now += 0.01
            if seq % 8 == 0:
                told.node.look(told.now)
                told.said()
    assert mirror.phase is Phase.ENDED
    assert seq < 60_000


def test_what_all_attempts_of_a_node_said_is_bounded(monkeypatch):
    monkeypatch.setattr("cluster.edge.edge_node.MAX_NODE_LOG_BYTES", 1_000_000)
    told = Told(slots=32)
    mirrors = [told.running(f"job_{n}", kind=JobKind.EMBED) for n in range(20)]
    for seq in range(4):
        for n, mirror in enumerate(mirrors):
            if mirror.phase is Phase.RUNNING:
                told.chunk(seq, f"job_{n}", embeddings=[[0.125] * 5000])
        told.now += 0.3
        told.node.look(told.now)
        told.said()
    told.node.look(told.now)
    running = [mirror for mirror in mirrors if mirror.phase is Phase.RUNNING]
    assert 0 < len(running) < 20
    assert sum(mirror.log.size_bytes for mirror in mirrors if mirror.phase is Phase.RUNNING) <= 1_100_000
    assert sum(mirror.log.size_bytes for mirror in told.node.mirrors.values()) <= 1_100_000, "what was given up is not kept"


async def test_sixty_streams_that_stall_end_by_their_deadlines_and_a_good_node_is_served(edge, monkeypatch):
    monkeypatch.setattr("cluster.edge.mirror.GRACE_S", 0)
    good = await edge.honest(edge.enroll("node_good"), words=5)
    socket = await edge.ready(edge.enroll("node_stalls"), slots=60)
    limits = Deadlines(first_token_s=3, idle_s=3, total_s=60)
    asked = [asyncio.create_task(edge.run(edge.attempt("node_stalls", deadlines=limits))) for _ in range(60)]
    for _ in range(60):
        offer = await socket.until("offer")
        await socket.send(type="accept", job=offer["job"], lease=1)
    await edge.run(edge.attempt("node_good"))
    ended = await asyncio.wait_for(asyncio.gather(*asked), 60)
    assert all(isinstance(events[-1], Fail) and events[-1].status == 504 and "no first token" in events[-1].detail for events in ended)
    assert edge.node("node_stalls").running == 0
    assert good.connects == 1


async def test_an_agent_that_never_reads_is_let_go_with_what_waited_for_it(edge, monkeypatch):
    monkeypatch.setattr("cluster.edge.sockets.SEND_LIMIT_S", 0.5)
    socket = await edge.ready(edge.enroll(), slots=1024)
    socket.ws._response.connection.transport.pause_reading()
    [session] = edge.gateway._sessions
    asked = [asyncio.create_task(edge.run(edge.attempt(request={"prompt": "x" * 200_000}))) for _ in range(100)]
    await asyncio.gather(*asked, return_exceptions=True)
    await until(lambda: edge.gateway.connections == 0, 10)
    assert (session.out_bytes, len(session.out)) == (0, 0)
    assert not edge.gateway._nodes["node_edge"].mirrors


def test_whose_an_attempt_is_is_looked_up_and_forgotten():
    """By a look into one table, however many nodes there are."""
    told = Told()
    told.gateway._vouched["job_1", 1] = "node_1"
    mirror = told.running()
    assert told.gateway.is_others("node_2", "job_1", 1)
    assert not told.gateway.is_others("node_1", "job_1", 1)
    mirror.finish(Fail(seq=0, status=500, detail=""), told.now)
    told.pass_(80)
    assert not told.gateway.is_others("node_2", "job_1", 1)
    told.gateway._look(told.now)
    assert not told.gateway._vouched
