"""The agent over real sockets: a real worker on a scripted runtime, a platform written from the protocol."""

import asyncio
import contextlib
import random

import aiohttp
import pytest
import structlog

from cluster import logs
from cluster.edge import protocol as wire
from cluster.gpus import NoGpus
from cluster.jobs import JobKind
from cluster.limits import Limits
from provider_join.agent import agent as agents
from provider_join.agent import reconnect
from provider_join.agent.agent import Agent
from provider_join.agent.enroll import Platform
from provider_join.agent.home import AgentHome
from provider_join.agent.keys import AgentKey
from provider_join.agent.log_file import LogFile
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.watching import Watcher
from provider_join.errors import AgentRefused, AgentTooOld
from tests.provider_join.scripted_platform import scripted_platform
from tests.scripted_models import fake, words_of
from tests.scripted_runtime import Script, serve
from tests.waiting import until

SLOW = (
    "fake:long=600@0.008",
    "fake:long=600@0.055",
    "fake:long=500@0.02",
    "fake:long=40@0.02",
    "fake:long=30@0.02",
)  # beside the usual ones
FAST = Limits(inventory_s=0.05, beat_s=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits that people would not notice."""
    monkeypatch.setattr(reconnect, "FIRST_S", 0.02)
    monkeypatch.setattr(reconnect, "AT_WORK_S", 0.1)
    monkeypatch.setattr(agents, "LOOK_S", 0.02)
    monkeypatch.setattr(agents, "OWNER_LOOK_S", 0.02)


@pytest.fixture
async def platform():
    async with scripted_platform() as running:
        yield running


@pytest.fixture
async def runtime():
    script = Script()
    script.models |= {name: fake(name) for name in SLOW}
    runner, script.url = await serve(script)
    yield script
    await runner.cleanup()


@pytest.fixture
async def home(platform, tmp_path):
    home = AgentHome(tmp_path / "agent")
    home.make()
    async with aiohttp.ClientSession() as http:
        await Platform(platform.url, http).enroll(home, "gfe_enroll_" + "a" * 43, "attic")
    return home


class RunningAgent:
    def __init__(self, agent):
        self.agent = agent
        self.task = asyncio.create_task(agent.run())

    async def ended(self, limit_s=60):
        async with asyncio.timeout(limit_s):
            await self.task


@contextlib.asynccontextmanager
async def running(home, runtime, *, share="2", models=(), wishes=None, limits=FAST):
    agent = Agent(
        home, home.enrollment(), AgentKey.read(home.key), SharedRuntime(runtime.url, models, share), NoGpus(), wishes=wishes,
        watcher=Watcher(minds_others=False), limits=limits, rng=random.Random(1),
    )  # fmt: skip
    run = RunningAgent(agent)
    try:
        yield run
    finally:
        agent.stop()
        agent.stop()
        with contextlib.suppress(AgentRefused, AgentTooOld, asyncio.CancelledError):
            await run.ended()


async def online(platform):
    async with asyncio.timeout(60):
        while not (platform.inventories and platform.inventories[-1].models and not platform.inventories[-1].paused):
            platform.arrived.clear()
            await platform.arrived.wait()


async def test_an_agent_enrolls_connects_says_what_it_has_and_runs_a_job(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        assert platform.enrolled["label"] == "attic"
        offered = {model.name for model in platform.inventories[-1].models}
        assert "fake:words=16" in offered
        assert platform.inventories[-1].slots == 2
        digest = next(model.weights_sha256 for model in platform.inventories[-1].models if model.name == "fake:words=16")
        job, taken = await platform.offer("fake:words=16", "tell me", digest=digest)
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert isinstance(taken.answer, wire.Accept)
        assert taken.text == "".join(words_of("tell me", 16))
        assert taken.end.reason == "stop"
        assert taken.end.total == len(taken.chunks)
        assert platform.receipt_is_good(job, taken, digest)
        await until(lambda: not list(home.outbox.iterdir()), says="the outbox to be empty")


async def test_a_model_that_is_pulled_later_is_offered_and_runs(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        runtime.models["fake:words=7"] = fake("fake:words=7")
        await until(lambda: any(one.name == "fake:words=7" for one in platform.inventories[-1].models), says="the new model")
        _, taken = await platform.offer("fake:words=7", "hi")
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert taken.text == "".join(words_of("hi", 7))


async def test_a_socket_that_is_cut_54_times_in_a_stream_costs_no_token_and_doubles_none(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer("fake:long=600@0.008", "a long one")
        rng = random.Random(54)
        cuts = 0
        while cuts < 54:
            await asyncio.sleep(rng.uniform(0.02, 0.15))
            if not taken.ended.is_set() and platform.hellos and not platform.sockets[-1].closed:
                platform.cut()
                cuts += 1
            elif taken.ended.is_set():
                break
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert cuts >= 30  # the answer took that long
        assert taken.text == "".join(words_of("a long one", 600))
        assert (taken.gaps, taken.end.reason) == (0, "stop")
        assert runtime.requests[-1]["messages"][0]["content"] == "a long one"
        assert sum(len(body.get("messages", [])) > 0 for body in runtime.requests) == 1  # asked of the runtime once
        assert {hello.boot_id for hello in platform.hellos} == {platform.hellos[0].boot_id}


@pytest.mark.slow
async def test_row_17_sixty_streams_of_six_hundred_words_over_a_socket_that_is_cut_54_times(platform, runtime, home, figure):
    """Row 17 of the fault matrix: every word once, in order."""
    async with running(home, runtime, share="60"):
        await online(platform)
        streams = {f"stream {n}": (await platform.offer("fake:long=600@0.055", f"stream {n}"))[1] for n in range(60)}
        rng, cuts, before = random.Random(17), 0, 0
        while cuts < 54 and not all(taken.ended.is_set() for taken in streams.values()):
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            there = sum(len(taken.chunks) for taken in streams.values())
            if not platform.sockets[-1].closed and there > before:  # on a busy machine a socket needs longer to be of any use
                platform.cut()
                cuts, before = cuts + 1, there
        await asyncio.wait_for(asyncio.gather(*(taken.ended.wait() for taken in streams.values())), 250)
        wrong = [
            text for text, taken in streams.items() if taken.text != "".join(words_of(text, 600)) or not isinstance(taken.end, wire.End)
        ]
        chunks, doubled = (sum(counts) for counts in zip(*((len(taken.chunks), taken.doubled) for taken in streams.values()), strict=True))
        assert (wrong, cuts, sum(taken.gaps for taken in streams.values())) == ([], 54, 0)
        assert chunks > 10_000, (chunks, doubled)
        figure(17, "60 answers of 600 words over an agent's socket that is cut every 0.1 to 0.5 s, wrong", f"{len(wrong)}")
        figure(17, "chunks, cuts, chunks that came again and were dropped", f"{chunks}, {cuts}, {doubled}")


async def test_slots_are_declared_and_kept(platform, runtime, home):
    async with running(home, runtime, share="2"):
        await online(platform)
        taken = [(await platform.offer("fake:hang@2", f"n{n}"))[1] for n in range(5)]
        await asyncio.wait_for(asyncio.gather(*(one.answered.wait() for one in taken)), 60)
        assert [type(one.answer) for one in taken].count(wire.Accept) == 2
        assert {one.answer.reason for one in taken if isinstance(one.answer, wire.Reject)} == {"busy"}
        await until(lambda: runtime.running == 2, says="both to run")


async def test_a_restarted_agent_is_the_same_node_with_a_new_boot(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
    platform.inventories.clear()
    async with running(home, runtime):
        await online(platform)
    assert len({hello.boot_id for hello in platform.hellos}) == 2
    assert platform.enrolled["public_key"] == AgentKey.read(home.key).public_text
    assert home.enrollment().node == platform.node


async def test_the_end_of_an_answer_survives_an_agent_that_dies_before_it_was_acknowledged(platform, runtime, home):
    platform.ends_acked = False
    async with running(home, runtime) as run:
        await online(platform)
        _, taken = await platform.offer("fake:words=16", "kept")
        await asyncio.wait_for(taken.ended.wait(), 60)
        run.task.cancel()  # no farewell
        await asyncio.gather(run.task, return_exceptions=True)
    platform.forget()
    taken.ended.clear()
    platform.ends_acked = True
    async with running(home, runtime):
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert taken.text == "".join(words_of("kept", 16))
        assert taken.doubled == 0
        await until(lambda: not list(home.outbox.iterdir()), says="the outbox to be empty")
    assert runtime.requests[-1]["messages"][0]["content"] == "kept"


async def test_a_gateway_that_lost_all_it_had_gets_all_of_it_again(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer("fake:long=200@0.01", "again")
        await until(lambda: len(taken.chunks) > 5, says="some chunks")
        platform.forget()
        platform.cut()
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert taken.text == "".join(words_of("again", 200))
        assert taken.gaps == 0


async def test_a_revoked_agent_stops_with_77_and_one_sentence(platform, runtime, home):
    async with running(home, runtime) as run:
        await online(platform)
        platform.revoked = True
        await platform.sockets[-1].close(code=wire.CLOSE_UNAUTHORIZED)
        with pytest.raises(AgentRefused) as refused:
            await run.ended()
        assert refused.value.exit_code == 77
        assert "revoked" in refused.value.what
        assert "gfe agent --code" in refused.value.hint


async def test_an_expired_token_is_renewed_and_the_agent_comes_back(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        before = platform.tokens
        await platform.sockets[-1].close(code=wire.CLOSE_UNAUTHORIZED)
        await until(lambda: len(platform.hellos) == 2, says="the agent to come back")
        assert platform.tokens == before + 1


async def test_a_token_is_renewed_in_band_before_it_expires(platform, runtime, home):
    platform.token_life_s = 120.5
    async with running(home, runtime):
        await online(platform)
        await until(lambda: platform.auths, says="the renewal")
        assert len(platform.connects) == 1


async def test_a_key_that_is_used_elsewhere_stops_the_agent_at_the_second_time(platform, runtime, home, monkeypatch):
    monkeypatch.setattr(reconnect, "REPLACED_S", 0.2)
    async with running(home, runtime) as run:
        await online(platform)
        began = asyncio.get_running_loop().time()
        await platform.sockets[-1].close(code=wire.CLOSE_REPLACED)
        await until(lambda: len(platform.hellos) == 2, says="the agent to come back")
        assert asyncio.get_running_loop().time() - began >= 0.2
        await platform.sockets[-1].close(code=wire.CLOSE_REPLACED)
        with pytest.raises(AgentRefused, match="another machine") as refused:
            await run.ended()
        assert refused.value.exit_code == 77


async def test_an_agent_that_is_too_old_stops_with_78_and_the_way_to_upgrade(platform, runtime, home):
    platform.refuses = (426, {})
    async with running(home, runtime) as run:
        with pytest.raises(AgentTooOld, match="too old") as old:
            await run.ended()
        assert old.value.exit_code == 78


async def test_a_gateway_that_speaks_something_else_is_asked_again_later(platform, runtime, home):
    platform.version_offered = False
    async with running(home, runtime):
        await until(lambda: len(platform.connects) >= 2, says="a second try")
        platform.version_offered = True
        await online(platform)


async def test_while_the_platform_is_away_connects_become_rare(platform, runtime, home, monkeypatch):
    monkeypatch.setattr(reconnect, "LAST_S", 1.0)
    platform.refuses = (500, {})
    async with running(home, runtime):
        await until(lambda: len(platform.connects) >= 9, says="nine connects")
        gaps = [after - before for before, after in zip(platform.connects, platform.connects[1:], strict=False)]
        assert all(gap >= 1.0 for gap in gaps[6:])
        platform.refuses = None
        await online(platform)


async def test_a_cancel_reaches_the_runtime_at_once(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        job, taken = await platform.offer("fake:long=500@0.02", "stop me")
        await until(lambda: len(taken.chunks) > 2, says="some chunks")
        await platform.send(wire.Cancel(job=job, lease=1, why="consumer"))
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert isinstance(taken.end, wire.Canceled)
        await until(lambda: runtime.running == 0, says="the runtime to stop")
        await platform.send(wire.Cancel(job="job_unknown", lease=7, why="consumer"))
        await until(
            lambda: any(isinstance(frame, wire.Canceled) and frame.job == "job_unknown" for frame in platform.frames), says="the answer"
        )


async def test_without_a_connection_for_long_what_runs_is_given_up(platform, runtime, home, monkeypatch):
    from cluster import attempt_log

    monkeypatch.setattr(attempt_log, "UNREAD_LIMIT_S", 0.3)
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer("fake:drip=0.1", "alone")
        await until(lambda: len(taken.chunks) > 1, says="some chunks")
        platform.refuses = (500, {})
        platform.cut()
        await until(lambda: runtime.running == 0, says="the runtime to stop")
        platform.refuses = None
        await asyncio.wait_for(taken.ended.wait(), 90)
        assert (taken.end.type, taken.end.code, taken.end.retryable) == ("fail", "timed_out", True)


async def test_an_agent_that_was_frozen_gives_up_what_ran_and_comes_back(platform, runtime, home):
    async with running(home, runtime) as run:
        await online(platform)
        _, taken = await platform.offer("fake:drip=0.1", "frozen")
        await until(lambda: len(taken.chunks) > 1, says="some chunks")
        run.agent.session.heard_at -= 60  # as after a minute in which nothing ran
        await until(lambda: runtime.running == 0, says="the runtime to stop")
        await until(lambda: len(platform.hellos) == 2, says="the agent to come back")
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert (taken.end.type, taken.end.code) == ("fail", "timed_out")
        _, again = await platform.offer("fake:words=3", "again")
        await asyncio.wait_for(again.ended.wait(), 60)
        assert isinstance(again.end, wire.End)


async def test_a_platform_that_does_not_acknowledge_stops_the_reading_and_not_the_attempt(platform, runtime, home):
    platform.acks = False
    async with running(home, runtime) as run:
        await online(platform)
        job, taken = await platform.offer("fake:long=600@0.008", "too fast")
        await until(lambda: len(taken.chunks) == wire.UNACKED_CHUNKS, says="a full window")
        attempt = run.agent.worker.find(job, 1)
        await until(lambda: attempt.is_held_back or attempt.log.has_ended, says="the runtime to wait")
        await asyncio.sleep(0.2)
        assert len(taken.chunks) == wire.UNACKED_CHUNKS
        platform.acks = True
        await platform.send(wire.Ack(job=job, lease=1, seq=wire.UNACKED_CHUNKS))
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert taken.gaps == taken.doubled == 0
        assert isinstance(taken.end, wire.End)


async def test_what_its_owner_pauses_is_finished_and_nothing_new_is_taken(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer("fake:long=40@0.02", "first")
        await asyncio.wait_for(taken.answered.wait(), 60)
        home.paused.touch()
        await until(lambda: platform.inventories[-1].paused == "paused by its owner", says="the pause to be told")
        _, late = await platform.offer("fake:words=3", "late")
        await asyncio.wait_for(late.answered.wait(), 60)
        assert (late.answer.type, late.answer.reason) == ("reject", "draining")
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert taken.text == "".join(words_of("first", 40))
        home.paused.unlink()
        await online(platform)
        _, again = await platform.offer("fake:words=3", "again")
        await asyncio.wait_for(again.ended.wait(), 60)


async def test_only_the_models_that_its_owner_allows_are_offered(platform, runtime, home):
    async with running(home, runtime, models=("fake:words=3",)):
        await online(platform)
        assert [model.name for model in platform.inventories[-1].models] == ["fake:words=3"]
        _, taken = await platform.offer("fake:words=16", "no")
        await asyncio.wait_for(taken.answered.wait(), 60)
        assert taken.answer.reason == "no_model"


async def test_the_runtime_gets_known_fields_only_and_no_other_call(platform, runtime, home):
    asked = {
        "messages": [{"role": "user", "content": "hi"}], "keep_alive": 0, "stream": False, "model": "fake:500", "raw": True, "truncate": True,
        "options": {"temperature": 0.5, "num_ctx": 9, "num_gpu": 3, "num_thread": 99, "num_predict": 10**9},
    }  # fmt: skip
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer("fake:words=3", request=asked)
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert runtime.requests[-1] == {
            "messages": [{"role": "user", "content": "hi"}], "options": {"temperature": 0.5, "num_predict": 1000}, "model": "fake:words=3",
            "truncate": False, "stream": True,
        }  # fmt: skip
        _, embedded = await platform.offer("fake:embeds", kind=JobKind.EMBED, request={"input": ["a", "b"]})
        await asyncio.wait_for(embedded.ended.wait(), 60)
        assert len(embedded.chunks[0].delta.embeddings) == 2
        _, written = await platform.offer("fake:words=3", kind=JobKind.GENERATE, request={"prompt": "hi", "context": [1], "insecure": True})
        await asyncio.wait_for(written.ended.wait(), 60)
        assert runtime.loads == []
        assert runtime.calls == {
            ("GET", "/api/version"), ("GET", "/api/tags"), ("GET", "/api/ps"), ("POST", "/api/show"), ("POST", "/api/chat"), ("POST", "/api/embed"),
            ("POST", "/api/generate"),
        }  # fmt: skip


async def test_a_stopped_agent_drains_says_goodbye_and_leaves(platform, runtime, home):
    async with running(home, runtime) as run:
        await online(platform)
        _, taken = await platform.offer("fake:long=30@0.02", "finish me")
        await until(lambda: taken.chunks, says="the first chunk")
        run.agent.stop()
        await run.ended()
        assert taken.text == "".join(words_of("finish me", 30))
        assert isinstance(taken.end, wire.End)
        kinds = [frame.type for frame in platform.frames]
        assert kinds.index("drain") < kinds.index("end") < kinds.index("bye")
        assert platform.sockets[-1].close_code == 1000


@pytest.mark.parametrize(
    ("model", "code", "retryable"),
    [("fake:500", "runtime_status", True), ("fake:404", "model_missing", True), ("fake:503", "runtime_status", True), ("fake:cut@2", "runtime_unreachable", True),
     ("fake:garbage", "bad_output", True), ("fake:nodone", "bad_output", True)],
)  # fmt: skip
async def test_however_the_runtime_fails_the_platform_is_told_how(platform, runtime, home, model, code, retryable):
    async with running(home, runtime):
        await online(platform)
        _, taken = await platform.offer(model, "x")
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert (taken.end.type, taken.end.code, taken.end.retryable) == ("fail", code, retryable)
        assert taken.end.seq == len(taken.chunks)
        _, again = await platform.offer("fake:words=3", "after that")
        await asyncio.wait_for(again.ended.wait(), 60)
        assert isinstance(again.end, wire.End)


async def test_frames_that_are_none_change_nothing(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        for text in (
            "{",
            "[]",
            '{"type":"later","x":1}',
            '{"type":"offer"}',
            '{"type":"ack","job":"j","lease":0,"seq":1}',
            "\ud83d".encode("utf-8", "replace").decode(),
        ):
            await platform.sockets[-1].send_str(text)
        _, taken = await platform.offer("fake:words=3", "still here")
        await asyncio.wait_for(taken.ended.wait(), 60)
        assert [frame.code for frame in platform.frames if isinstance(frame, wire.Error)].count("unknown_type") == 1
        assert len(platform.connects) == 1


@pytest.fixture
def noted(home):
    """The agent's log, as its process sets it up; other tests log as before."""
    kept = structlog.get_config()
    logs.configure("agent", into=LogFile(home.log))
    structlog.configure(cache_logger_on_first_use=False)  # what is cached would outlive this test
    yield home.log
    structlog.configure(**kept)


async def test_no_prompt_answer_or_code_is_in_the_agents_log(platform, runtime, home, noted):
    async with running(home, runtime):
        await online(platform)
        for model in ("fake:words=16", "fake:500", "fake:garbage"):
            _, taken = await platform.offer(model, "canary-word")
            await asyncio.wait_for(taken.ended.wait(), 60)
        platform.cut()
        await until(lambda: len(platform.hellos) == 2, says="the agent to come back")
    said = noted.read_text()
    assert "canary-word" not in said
    assert words_of("canary-word", 16)[0].strip() not in said
    assert "gfe_enroll_" not in said
    assert "token-1" not in said
    assert home.log.stat().st_mode & 0o077 == 0
