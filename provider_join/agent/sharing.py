"""When the owner wants this machine for himself: schedule, own use of the GPU, battery, heat. Pure: observations and the clock are arguments.

What runs is finished in every case; only new jobs are not taken.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NAMED_DAYS = {"weekend": (5, 6), "weekday": (0, 1, 2, 3, 4), "weekdays": (0, 1, 2, 3, 4)}
EVERY_DAY = tuple(range(7))
DAY_MINUTES = 24 * 60
HOTTEST_C = 87
COOLED_BY_C = 7  # below the limit, before jobs are taken again
BUSY_PERCENT = 15  # of the GPU, by programs that are not ours
BUSY_FOR_S = 6.0  # a blink is no use
FREE_FOR_S = 60.0  # a loading screen is no end of it
_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_SHARE = re.compile(r"(\d{1,4})(%?)")


class BadWish(Exception):
    """A schedule or a share that cannot be read; says how to write it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of a day, on the days that it begins on; with `until <= since` it ends on the next day."""

    days: tuple[int, ...]
    since: int = 0
    until: int = DAY_MINUTES

    def holds(self, at: datetime) -> bool:
        """Tell whether a moment is within."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.since < self.until:
            return day in self.days and self.since <= minute < self.until
        return (day in self.days and minute >= self.since) or ((day - 1) % 7 in self.days and minute < self.until)


def read_schedule(text: str) -> tuple[Window, ...]:
    """Read when jobs are taken: windows joined by commas, e.g. `22:00-08:00,weekend` or `mon-fri 20:00-07:00`; empty: always.

    Raises:
        BadWish: It cannot be read.
    """
    return tuple(_window(part.strip().lower()) for part in text.split(",") if part.strip())


def _window(text: str) -> Window:
    found = _WINDOW.search(text)
    named = (text[: found.start()] + text[found.end() :]).strip() if found else text
    days = _days(named) if named else EVERY_DAY
    if found is None:
        return Window(days)
    since, until = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
    if since >= DAY_MINUTES or until > DAY_MINUTES or int(found[2]) > 59 or int(found[4]) > 59 or since == until:
        raise BadWish(f"`{text}` is no time of a day: write 22:00-08:00")
    return Window(days, since, until)


def _days(text: str) -> tuple[int, ...]:
    if text in NAMED_DAYS:
        return NAMED_DAYS[text]
    first, dash, last = (part.strip() for part in text.partition("-"))
    if first in DAYS and (not dash or last in DAYS):
        start, end = DAYS.index(first), DAYS.index(last or first)
        return tuple((start + n) % 7 for n in range((end - start) % 7 + 1))
    raise BadWish(f"`{text}` is no time and no day: write windows like 22:00-08:00, weekend, mon-fri 20:00-07:00, joined by commas")


def read_share(text: str, runtime_slots: int | None) -> int | None:
    """Read how many jobs run at once: a number, or a percentage of what the runtime does at once; empty: all of it.

    Raises:
        BadWish: It is neither.
    """
    if not text:
        return None
    found = _SHARE.fullmatch(text.strip())
    if found is None or not int(found[1]) or (found[2] and int(found[1]) > 100):
        raise BadWish(f"`{text}` is no share: write 50% for half of the slots, or 2 for two jobs at once")
    return max(1, int(found[1]) * (runtime_slots or 1) // 100) if found[2] else min(1024, int(found[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the owner set. `models`: the only ones that are offered; empty: all."""

    schedule: tuple[Window, ...] = ()
    hottest_c: int = HOTTEST_C
    minds_battery: bool = True
    minds_others: bool = True
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the machine shows. None: it cannot say.

    `others`: the busiest program on the GPU that is not ours, and its percentage of it; where the driver tells that of no program,
    `others` is the whole GPU's while no job of ours runs.
    """

    at: datetime
    others: tuple[str, int] | None = None
    on_battery: bool | None = None
    temperature_c: int | None = None
    is_paused: bool = False  # by `gfe agent pause`


class Sharing:
    """Decides, look by look; remembers since when others use the GPU, so that neither a blink nor a pause in a game turns it around."""

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self._busy_since: float | None = None
        self._free_since: float | None = None
        self._yields_to = ""
        self._is_hot = False

    def look(self, seen: Seen, now: float) -> str:
        """Tell why no jobs are taken now, in one sentence; empty: they are."""
        reasons = (self._by_hand(seen), self._by_time(seen), self._by_battery(seen), self._by_heat(seen), self._by_others(seen, now))
        return next(filter(None, reasons), "")

    def _by_hand(self, seen: Seen) -> str:
        return "paused by its owner" if seen.is_paused else ""

    def _by_time(self, seen: Seen) -> str:
        windows = self.wishes.schedule
        if not windows or any(window.holds(seen.at) for window in windows):
            return ""
        begins = next_begin(windows, seen.at)
        return f"outside its owner's hours; next at {begins:%a %H:%M}" if begins else "outside its owner's hours"

    def _by_battery(self, seen: Seen) -> str:
        return "it runs on battery" if self.wishes.minds_battery and seen.on_battery else ""

    def _by_heat(self, seen: Seen) -> str:
        limit = self.wishes.hottest_c
        if seen.temperature_c is None:
            return ""
        self._is_hot = seen.temperature_c >= (limit - COOLED_BY_C if self._is_hot else limit)
        return f"its GPU is too hot ({seen.temperature_c} °C; limit {limit} °C)" if self._is_hot else ""

    def _by_others(self, seen: Seen, now: float) -> str:
        if not self.wishes.minds_others:
            return ""
        name, percent = seen.others or ("", 0)
        if percent >= BUSY_PERCENT:
            self._free_since = None
            self._busy_since = now if self._busy_since is None else self._busy_since
            if now - self._busy_since >= BUSY_FOR_S:
                self._yields_to = name
        else:
            self._busy_since = None
            self._free_since = now if self._free_since is None else self._free_since
            if now - self._free_since >= FREE_FOR_S:
                self._yields_to = ""
        return f"its owner uses the GPU ({self._yields_to})" if self._yields_to else ""


def next_begin(windows: Sequence[Window], at: datetime) -> datetime | None:
    """Find when jobs are taken next, to the minute, within a week."""
    minute = at.replace(second=0, microsecond=0)
    begins = []
    for window in windows:
        for ahead in range(8):
            day = (minute + timedelta(days=ahead)).replace(hour=0, minute=0)
            begin = day + timedelta(minutes=window.since)
            if day.weekday() in window.days and begin > at:
                begins.append(begin)
    return min(begins, default=None)
