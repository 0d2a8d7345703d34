"""When the owner wants the machine for himself. No clock, no GPU: observations are values."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_join.agent.sharing import (
    BUSY_FOR_S,
    FREE_FOR_S,
    BadWish,
    Seen,
    Sharing,
    Wishes,
    next_begin,
    read_schedule,
    read_share,
)
from provider_join.agent.watching import Use, busiest, is_runtime, on_battery

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def at(text):
    """A moment in the week of `MONDAY`, e.g. `sat 23:30`."""
    day, _, clock = text.partition(" ")
    hour, _, minute = clock.partition(":")
    return MONDAY + timedelta(days=("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day), hours=int(hour), minutes=int(minute))


@pytest.mark.parametrize(
    ("schedule", "within", "outside"),
    [
        ("22:00-08:00", ["mon 22:00", "tue 07:59", "mon 03:00"], ["mon 08:00", "mon 21:59"]),
        ("22:00-08:00,weekend", ["sat 12:00", "sun 23:59", "mon 02:00"], ["mon 12:00", "fri 21:00"]),
        ("mon-fri 20:00-07:00", ["mon 20:00", "sat 06:59"], ["sat 20:00", "mon 06:00", "sun 23:00"]),
        ("fri-mon", ["fri 0:00", "sun 12:00", "mon 23:59"], ["tue 0:00", "thu 23:59"]),
        ("wed 9:00-17:00", ["wed 9:00"], ["wed 17:00", "tue 10:00"]),
        ("weekdays, sat 0:00-24:00", ["sat 23:59", "mon 1:00"], ["sun 1:00"]),
        ("", ["mon 1:00"], []),
    ],
)
def test_a_schedule_says_when_jobs_are_taken(schedule, within, outside):
    sharing = Sharing(Wishes(schedule=read_schedule(schedule)))
    assert [text for text in within if sharing.look(Seen(at=at(text)), 0)] == []
    assert [text for text in outside if not sharing.look(Seen(at=at(text)), 0)] == []


@pytest.mark.parametrize("schedule", ["25:00-08:00", "8-9", "funday", "10:00-10:00", "10:61-11:00", "mon tue", "22:00-25:00"])
def test_a_schedule_that_cannot_be_read_says_how_to_write_one(schedule):
    with pytest.raises(BadWish, match=r"22:00-08:00"):
        read_schedule(schedule)


def test_outside_its_hours_the_next_ones_are_named():
    sharing = Sharing(Wishes(schedule=read_schedule("mon-fri 20:00-07:00")))
    assert sharing.look(Seen(at=at("mon 12:00")), 0) == "outside its owner's hours; next at Mon 20:00"
    assert sharing.look(Seen(at=at("sat 12:00")), 0) == "outside its owner's hours; next at Mon 20:00"


@given(st.integers(0, 7 * 24 * 60 - 1), st.sampled_from(["22:00-08:00", "weekend", "mon-fri 20:00-07:00", "wed 9:00-17:00", "fri-mon"]))
def test_the_next_hours_begin_when_they_are_said_to(minute, text):
    windows, moment = read_schedule(text), MONDAY + timedelta(minutes=minute)
    begin = next_begin(windows, moment)
    assert begin > moment
    assert any(window.holds(begin) for window in windows)


@pytest.mark.parametrize(
    ("text", "runtime", "slots"),
    [("", 4, None), ("2", None, 2), ("50%", 4, 2), ("50%", None, 1), ("1%", 4, 1), ("100%", 3, 3), ("75%", 4, 3), ("9999", 1, 1024)],
)
def test_a_share_is_a_number_or_a_part_of_what_the_runtime_does(text, runtime, slots):
    assert read_share(text, runtime) == slots


@pytest.mark.parametrize("text", ["0", "0%", "101%", "half", "-1", "1.5", "2 %"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(BadWish, match="50%"):
        read_share(text, 4)


def test_battery_and_hand_pause_at_once():
    sharing = Sharing(Wishes())
    assert sharing.look(Seen(at=MONDAY, on_battery=True), 0) == "it runs on battery"
    assert sharing.look(Seen(at=MONDAY, on_battery=False), 0) == ""
    assert sharing.look(Seen(at=MONDAY, is_paused=True, on_battery=True), 0) == "paused by its owner"
    assert Sharing(Wishes(minds_battery=False)).look(Seen(at=MONDAY, on_battery=True), 0) == ""


def test_a_hot_gpu_pauses_until_it_is_cooler_by_some():
    sharing = Sharing(Wishes(hottest_c=80))
    assert [bool(sharing.look(Seen(at=MONDAY, temperature_c=one), 0)) for one in (79, 80, 79, 73, 72, 79, None)] == [
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_game_pauses_after_a_moment_and_a_loading_screen_does_not_end_it():
    sharing = Sharing(Wishes())
    playing, idle = Seen(at=MONDAY, others=("game", 70)), Seen(at=MONDAY, others=("game", 3))
    assert sharing.look(playing, 0) == ""
    assert sharing.look(idle, 1) == ""  # a blink
    assert sharing.look(playing, 2) == ""
    assert sharing.look(playing, 2 + BUSY_FOR_S) == "its owner uses the GPU (game)"
    assert sharing.look(idle, 20) == "its owner uses the GPU (game)"
    assert sharing.look(playing, 30) == "its owner uses the GPU (game)"
    assert sharing.look(idle, 40) != ""
    assert sharing.look(Seen(at=MONDAY), 40 + FREE_FOR_S) == ""
    assert Sharing(Wishes(minds_others=False)).look(playing, 99) == ""


def test_the_busiest_program_that_is_not_ours_is_named():
    uses = [Use(1, 90), Use(2, 20), Use(3, 30)]
    assert busiest(uses, lambda pid: pid == 1, lambda pid: f"p{pid}") == ("p3", 30)
    assert busiest(uses, lambda pid: pid == 1, lambda pid: "") == ("process 3", 30)
    assert busiest([Use(1, 90)], lambda pid: True, str) is None


def test_a_runtime_is_known_by_its_name_or_by_who_started_it(tmp_path):
    def program(pid, name, parent):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name} x) S {parent} 1 1")

    program(10, "systemd", 1)
    program(20, "ollama", 10)
    program(21, "runner", 20)
    program(30, "game", 10)
    program(40, "python3", 10)
    program(41, "python3", 40)
    assert [is_runtime(pid, 40, tmp_path) for pid in (20, 21, 30, 40, 41, 99)] == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, None),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, False),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, None),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, False),
    ],
)
def test_a_laptop_on_its_battery_is_told_from_one_that_is_plugged_in(tmp_path, supplies, expected):
    for name, files in supplies.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text + "\n")
    assert on_battery(tmp_path) is expected


def test_a_machine_without_power_supplies_says_nothing(tmp_path):
    assert on_battery(tmp_path / "none") is None
