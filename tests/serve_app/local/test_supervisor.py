import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import processes
from serve_app.local import parts
from serve_app.local.parts import Part, PartStatus, Patience, Progress, State, UnknownPart, backoff_s, http_gate, in_order
from serve_app.local.supervisor import PartFailed, Supervisor
from tests.serve_app.local.programs import FAMILY, SERVER, SUCCESSOR, python
from tests.waiting import until


class World:
    """A supervisor over fake parts, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Progress] = []
        self.recorded: list[tuple[PartStatus, ...]] = []

    @property
    def ends(self) -> list[str]:
        return (self.folder / "ends").read_text().split()

    def server(self, name: str, **more: object) -> Part:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = python(SERVER, port, self.folder / f"{name}.sick", self.folder / "ends", name)
        return Part(
            name=name, command=command, environment={"PATH": os.environ["PATH"]}, gate=http_gate(f"http://127.0.0.1:{port}/"), **more
        )

    def step(self, name: str, program: str, **more: object) -> Part:
        return Part(name=name, command=python(program), environment={}, **more)

    @contextlib.asynccontextmanager
    async def run(self, *parts: Part):
        supervisor = Supervisor(parts, logs=self.folder, tell=self.told.append, record=lambda all_: self.recorded.append(tuple(all_)))
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()

    def states(self, name: str) -> list[State]:
        return [told.state for told in self.told if told.part == name]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def status_of(supervisor: Supervisor, name: str) -> PartStatus:
    return next(status for status in supervisor.status() if status.name == name)


async def test_parts_start_after_those_they_need_and_stop_in_reverse(world):
    parts = (world.server("serve", after=("ledger",)), world.server("ledger", after=("upgrade",)), world.step("upgrade", "print('done')"))
    async with world.run(*parts) as supervisor:
        assert [status.name for status in supervisor.status()] == ["upgrade", "ledger", "serve"]
        assert [status.state for status in supervisor.status()] == [State.DONE, State.RUNNING, State.RUNNING]
        assert [told.part for told in world.told] == ["upgrade", "ledger", "serve"]
        assert all(told.took_s is not None for told in world.told)
        pids = [status.pid for status in supervisor.status() if status.pid]
    assert world.ends == ["serve", "ledger"]
    assert not any(processes.process_of(pid) for pid in pids)


async def test_a_part_that_dies_is_started_again_and_says_so(world):
    async with world.run(world.server("ledger")) as supervisor:
        first = status_of(supervisor, "ledger")
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: (now := status_of(supervisor, "ledger")).state is State.RUNNING and now.restarts == 1)
        assert status_of(supervisor, "ledger").pid != first.pid
    assert world.states("ledger") == [State.RUNNING, State.RESTARTING, State.RUNNING]
    assert "killed by signal 9; next start in 0.5 s" in world.told[1].detail


async def test_what_a_dead_part_leaves_behind_is_ended_before_it_starts_again(world):
    note = world.folder / "grandchildren"
    gate = gate_on_lines(note)
    part = Part(name="ray", command=python(FAMILY, note), environment={}, gate=gate, stop_s=0.2)
    async with world.run(part) as supervisor:
        orphan = processes.process_of(int(note.read_text()))
        os.kill(status_of(supervisor, "ray").pid, signal.SIGKILL)
        await until(lambda: status_of(supervisor, "ray").restarts == 1 and status_of(supervisor, "ray").state is State.RUNNING)
        assert not processes.is_alive(orphan)
        second = processes.process_of(int(note.read_text().split()[-1]))
        assert processes.is_alive(second)
    assert not processes.is_alive(second)


def gate_on_lines(note: Path):
    """Ready when the newest line names a living process."""

    def why_not() -> str | None:
        lines = note.read_text().split() if note.exists() else []
        return None if lines and processes.process_of(int(lines[-1])) else "no grandchild yet"

    async def gate() -> str | None:
        return why_not()

    return gate


async def test_a_part_that_restarts_takes_those_that_depend_on_it_along(world):
    async with world.run(world.server("ray"), world.server("serve", after=("ray",), restarts_with=("ray",))) as supervisor:
        before = {status.name: status.pid for status in supervisor.status()}
        os.kill(before["ray"], signal.SIGKILL)
        await until(lambda: all(status.restarts == 1 and status.state is State.RUNNING for status in supervisor.status()))
        assert {status.name for status in supervisor.status() if status.pid != before[status.name]} == {"ray", "serve"}
    assert "`ray` was started again" in " ".join(told.detail for told in world.told)


async def test_a_part_whose_gate_says_no_is_shown_as_unhealthy_and_restarted_after_its_limit(world):
    sick = world.folder / "ledger.sick"
    async with world.run(world.server("ledger", unhealthy_limit_s=0.5)) as supervisor:
        first = status_of(supervisor, "ledger").pid
        sick.write_text("")
        await until(lambda: State.RESTARTING in world.states("ledger"))
        sick.unlink()
        await until(lambda: status_of(supervisor, "ledger").state is State.RUNNING)
        assert status_of(supervisor, "ledger").pid != first
    assert world.states("ledger")[:3] == [State.RUNNING, State.UNHEALTHY, State.RESTARTING]


async def test_a_part_that_serves_on_is_not_restarted_for_what_is_missing_elsewhere(world):
    """Nor is it given up when it was started anew meanwhile: the job APIs without a node that is well."""
    sick = world.folder / "serve.sick"
    part = world.server("serve", unhealthy_limit_s=0.2, limit_s=2)
    said = {"alive": None}

    async def alive():
        return said["alive"]

    async with world.run(replace(part, alive=alive)) as supervisor:
        first = status_of(supervisor, "serve").pid
        sick.write_text("")
        await until(lambda: status_of(supervisor, "serve").state is State.UNHEALTHY)
        await asyncio.sleep(1)
        assert (status_of(supervisor, "serve").pid, status_of(supervisor, "serve").state) == (first, State.UNHEALTHY)
        os.kill(first, signal.SIGKILL)
        await until(lambda: status_of(supervisor, "serve").restarts == 1 and status_of(supervisor, "serve").state is State.UNHEALTHY)
        second = status_of(supervisor, "serve").pid
        said["alive"] = "nobody answers"
        await until(lambda: status_of(supervisor, "serve").restarts == 2)
        sick.unlink()
        await until(lambda: status_of(supervisor, "serve").state is State.RUNNING)
        assert len({first, second, status_of(supervisor, "serve").pid}) == 3


async def test_a_patient_part_has_time_as_long_as_it_tells_something_new_and_people_hear_it(world, monkeypatch):
    monkeypatch.setattr(parts, "TELL_EVERY_S", 0.3)
    part, asked = world.server("runtime", limit_s=1, is_patient=True), itertools.count()

    async def gate():
        await asyncio.sleep(0.25)
        return f"{done} of 9 MB" if (done := next(asked)) < 9 else None

    async with world.run(replace(part, gate=gate)) as supervisor:
        assert (status_of(supervisor, "runtime").restarts, status_of(supervisor, "runtime").state) == (0, State.RUNNING)
    heard = [told.detail for told in world.told if told.state is State.STARTING]
    assert len(heard) >= 2
    assert set(heard) <= {f"{done} of 9 MB" for done in range(9)}


async def test_a_patient_part_that_tells_nothing_new_is_given_up_with_its_own_words(world):
    part = world.server("runtime", limit_s=0.5, is_patient=True, tries=1)

    async def gate():
        return "the model cannot be fetched"

    with pytest.raises(PartFailed, match=r"not ready within 0\.5 s \(the model cannot be fetched\)"):
        async with world.run(replace(part, gate=gate)):
            pass


def test_patience_ends(monkeypatch):
    now = 0.0
    patience = Patience(Part(name="runtime", command=(), environment={}, limit_s=60, is_patient=True), lambda: now)
    while not patience.is_over():
        now += 30
        patience.hear(f"{now} s")
    assert now == parts.PATIENCE_S


async def test_a_part_that_recovers_by_itself_is_left_alone(world):
    sick = world.folder / "ledger.sick"
    async with world.run(world.server("ledger")) as supervisor:
        first = status_of(supervisor, "ledger").pid
        sick.write_text("")
        await until(lambda: status_of(supervisor, "ledger").state is State.UNHEALTHY)
        sick.unlink()
        await until(lambda: status_of(supervisor, "ledger").state is State.RUNNING)
        assert status_of(supervisor, "ledger").pid == first


async def test_a_step_that_fails_ends_the_start_and_leaves_nothing(world):
    parts = (world.server("postgres"), world.step("upgrade", "raise SystemExit('the schema is newer')", after=("postgres",), tries=1))
    with pytest.raises(PartFailed, match="`upgrade` did not start: ended with status 1: the schema is newer"):
        async with world.run(*parts):
            pass
    assert all(status.state in {State.STOPPED, State.FAILED} for status in world.recorded[-1])
    assert world.ends == ["postgres"]


async def test_a_first_start_is_tried_again_as_often_as_the_part_allows(world):
    with pytest.raises(PartFailed):
        async with world.run(world.step("flaky", "raise SystemExit(3)", tries=3)):
            pass
    assert world.states("flaky") == [State.RESTARTING, State.RESTARTING, State.FAILED]


async def test_a_part_that_is_never_ready_fails_with_what_its_gate_said(world):
    sick = world.folder / "ledger.sick"
    sick.write_text("")
    with pytest.raises(PartFailed, match=r"not ready within 1 s .*answers 503: no"):
        async with world.run(world.server("ledger", limit_s=1, tries=1)):
            pass


async def test_a_part_that_ignores_the_polite_request_is_killed_in_time(world):
    note = world.folder / "grandchildren"
    part = Part(name="ray", command=python(FAMILY, note), environment={}, gate=gate_on_lines(note), stop_signal=signal.SIGCONT, stop_s=0.3)
    async with world.run(part) as supervisor:
        pids = [status_of(supervisor, "ray").pid, int(note.read_text())]
        began = time.monotonic()
        await supervisor.stop()
        assert time.monotonic() - began < 8
        assert not any(processes.process_of(pid) for pid in pids)


async def test_a_part_is_started_anew_when_somebody_asks_and_that_is_no_failure_of_its(world):
    async with world.run(world.server("guard")) as supervisor:
        first = status_of(supervisor, "guard")
        began = time.monotonic()
        await supervisor.restart("guard")
        now = status_of(supervisor, "guard")
        assert (now.state, now.restarts) == (State.RUNNING, 0)
        assert now.pid != first.pid
        assert time.monotonic() - began < 10
        assert world.ends == ["guard"]
    assert world.states("guard") == [State.RUNNING, State.RESTARTING, State.RUNNING]


async def test_a_part_that_is_not_there_now_is_not_started_anew(world):
    async with world.run(world.server("guard"), world.step("upgrade", "print('done')")) as supervisor:
        with pytest.raises(PartFailed, match="it is done now"):
            await supervisor.restart("upgrade")
        with pytest.raises(KeyError):
            await supervisor.restart("nobody")


def successor(world: World) -> Part:
    """A part of which two may run, and how one asks who has the name."""
    name, sick = world.folder / "name", world.folder / "sick"

    async def gate() -> str | None:
        return None if name.exists() else "nobody has the name"

    return Part(name="ledger", command=python(SUCCESSOR, name, sick), environment={}, gate=gate, name_taken=name, limit_s=10)


def who_answers(name: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(name))
        return int(asking.recv(100))


async def test_where_two_may_run_the_new_one_comes_first_and_nobody_is_refused(world):
    answers: list[int] = []
    async with world.run(successor(world)) as supervisor:
        first = status_of(supervisor, "ledger").pid

        async def ask_for_ever() -> None:
            while True:
                answers.append(await asyncio.to_thread(who_answers, world.folder / "name"))

        asking = [asyncio.create_task(ask_for_ever()) for _ in range(8)]
        await until(lambda: len(answers) > 20)
        await supervisor.restart("ledger")
        second = status_of(supervisor, "ledger").pid
        await until(lambda: answers.count(second) > 20)
        assert not any(task.done() for task in asking)  # none was refused, none cut off
        assert first not in answers[-10:]
        assert processes.process_of(first) is None
        os.kill(second, signal.SIGKILL)  # the new one is watched as the old one was
        await until(lambda: status_of(supervisor, "ledger").restarts == 1)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_where_the_new_one_does_not_come_the_old_one_goes_on(world):
    async with world.run(successor(world)) as supervisor:
        first = status_of(supervisor, "ledger").pid
        (world.folder / "sick").touch()
        with pytest.raises(PartFailed, match="the new one is broken; the old process goes on"):
            await supervisor.restart("ledger")
        assert (status_of(supervisor, "ledger").pid, status_of(supervisor, "ledger").state) == (first, State.RUNNING)
        assert who_answers(world.folder / "name") == first


def test_parts_that_wait_for_each_other_are_refused():
    with pytest.raises(UnknownPart, match="a, b"):
        in_order([Part(name="a", command=(), environment={}, after=("b",)), Part(name="b", command=(), environment={}, after=("a",))])


def test_the_back_off_doubles_from_half_a_second_to_ten():
    assert [backoff_s(failures) for failures in (0, 1, 2, 3, 4, 5, 50)] == [0.5, 1, 2, 4, 8, 10, 10]


async def test_a_large_log_is_rotated_at_the_start_and_a_small_one_goes_on(world, monkeypatch):
    monkeypatch.setattr("serve_app.local.supervisor.LOG_LIMIT_BYTES", 10)
    (world.folder / "big.log").write_text("x" * 11)
    (world.folder / "small.log").write_text("x" * 9)
    async with world.run(world.step("big", "print('new')"), world.step("small", "print('new')")):
        pass
    assert (world.folder / "big.log.1").read_text() == "x" * 11
    assert (world.folder / "big.log").read_text() == "new\n"
    assert (world.folder / "small.log").read_text() == "x" * 9 + "new\n"


@pytest.mark.anyio
async def test_without_a_folder_of_logs_a_part_writes_where_the_supervisor_does(capfd, world):
    supervisor = Supervisor([world.step("said", "print('said by a part')")], logs=None, tell=world.told.append, record=lambda _: None)
    await supervisor.start()
    await supervisor.stop()
    assert "said by a part" in capfd.readouterr().out
    with pytest.raises(PartFailed, match="ended with status 3"):
        await Supervisor(
            [world.step("broken", "raise SystemExit(3)", tries=1)], logs=None, tell=world.told.append, record=lambda _: None
        ).start()
