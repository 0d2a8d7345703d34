"""Writes the measured parts of docs/reliability.md: each promise with its figures and the command that measures them again, and the figures of the last runs.

    ./gfe test tests/faults … --figures bench/figures/faults.json     # what the rows of the fault matrix were measured to take
    .venv/bin/python -m bench.rolling --figures bench/figures/rolling.json
    .venv/bin/python -m bench.soak --figures bench/figures/soak.json
    .venv/bin/python -m bench.reliability

A figure that a file lacks is shown as missing. What earlier runs showed, of rows that are in no file, stands in `PROMISES` itself.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
FOLDER = ROOT / "bench" / "figures"
MISSING = "**not measured**"
FAULTS, ROLLING, SOAK = "./gfe test tests/faults", "python -m bench.rolling", "python -m bench.soak"
NOT_ROLLED = {"warm-up", "nothing", "haproxy", "postgres"}  # left alone; killed; cannot run twice


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised, what was measured of it, and how to measure it again. `figures`: row and what of the fault tests."""

    name: str
    text: str
    run: str
    figures: tuple[tuple[str, str], ...] = ()
    of_soak: tuple[str, ...] = ()
    of_rolling: bool = False
    told: str = ""  # where a test says yes or no


PROMISES = (
    Promise(
        "P1", "a job never costs more than its hold", SOAK, of_soak=("audit",),
        told="a rule of `gfe ledger audit`, after every test that has a database; rows 24 to 26, 31",
    ),
    Promise(
        "P2", "nobody pays for tokens that were not delivered", FAULTS,
        (("13", "of 10 answers without an end marked succeeded"), ("16", "a job whose agent ignores its cancel has ended after"),
         ("14", "jobs whose counts were ten times too high, each billed by our own count and an alarm")),
        told="10 of 10 broken answers charged exactly 6 words of 6; 8 of 8 consumers who left paid the words delivered; rows 12 to 14, 16, 36, 38",
    ),
    Promise(
        "P3", "a job is charged at most once, whatever is retried or killed", SOAK, of_soak=("doubled", "lost", "wrong"),
        told="what each client writes down, compared with the books; rows 1, 18, 19, 24, 25, 31",
    ),
    Promise(
        "P4", "a provider is paid for every acknowledged token of the winning lease", FAULTS,
        (("4", "words of the stream, paid to the frozen agent's attempt and to the other one's"),
         ("18", "words of it, paid to the older one's attempt and to the newer one's")),
        told="each `ok` of a client is paid once; rows 4, 17, 21, 25, the soak",
    ),
    Promise(
        "P5", "the books sum to zero after every test", SOAK, of_soak=("audit",),
        told="no hold open, nothing owed, no slot taken, no job outside an end state",
    ),
    Promise(
        "P6", "a provider's death before the first token shows only as delay, at most 12 s", FAULTS,
        (("3", "failover before the first token, machine killed"), ("4", "failover before the first token, machine frozen"),
         ("4", "failover before the first token, agent frozen")),
        told="0.0 s killed, 7.0 s frozen, machine or agent; 4.1 s in the world; rows 3 to 5, 200 jobs in the world",
    ),
    Promise(
        "P7", "after the first token: a continuation or `incomplete` within 25 s, never a silent hang", FAULTS,
        (("4", "longest time without text in a stream, agent frozen"), ("1", "jobs that nobody came back to ended after"),
         ("26", "longest gap in a running stream")),
        told="longest time without a byte 10.9 s in the world; an agent that freezes or is cut off is given up after 15 s; rows 1, 4, 13, 19, 21, 38",
    ),
    Promise("P8", "a deploy under load: 0 failed requests", ROLLING, of_rolling=True),
    Promise("P9", "other people's data: 404", "./gfe test tests/ledger/test_permissions.py", told="tested with the APIs, not here"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """What the last runs measured; empty where there was none."""

    faults: dict[str, Any]
    rolling: dict[str, Any]
    soak: dict[str, Any]

    @classmethod
    def of_folder(cls, folder: Path) -> "Figures":
        """Read the result files."""
        found = {name: folder / f"{name}.json" for name in ("faults", "rolling", "soak")}
        return cls(**{name: json.loads(path.read_text()) if path.exists() else {} for name, path in found.items()})

    def value(self, row: str, what: str) -> str:
        """Tell what a fault test measured."""
        values = (one["value"] for one in self.faults.get("figures", ()) if (one["row"], one["what"]) == (row, what))
        return f"{what}: {next(values, MISSING)} (row {row})"


def blocks(found: Figures) -> dict[str, str]:
    """Write each measured part of the page, by its name."""
    return {"promises": promises(found), "rolling": rolling(found.rolling), "soak": soak(found.soak), "rows": rows(found.faults)}


def promises(found: Figures) -> str:
    """Write the promises with their figures and runs."""
    lines = ["| | Promise | Figure | Run |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {one.name} | {one.text} | {'; '.join(_shown(one, found))} | `{one.run}` |" for one in PROMISES)])


def _shown(promise: Promise, found: Figures) -> Iterator[str]:
    if promise.of_soak and found.soak:
        yield ", ".join(f"{name}: {found.soak[name]}" for name in promise.of_soak) + f" in a soak of {found.soak['jobs']:,} jobs"
    elif promise.of_soak:
        yield MISSING
    if promise.of_rolling:
        parts = [row for row in found.rolling.get("rows", ()) if row["part"] not in NOT_ROLLED]
        failed, requests = sum(row["failed"] for row in parts), sum(row["requests"] for row in parts)
        yield f"{failed} of {requests:,} requests failed; {', '.join(row['part'] for row in parts)} started anew" if parts else MISSING
    for row, what in promise.figures if found.faults else ():
        yield found.value(row, what)
    if promise.told:
        yield promise.told


def rolling(found: dict[str, Any]) -> str:
    """Write what a rolling restart was noticed by."""
    if not found:
        return MISSING
    end = f"{found['failed']} of {found['requests']:,} failed; audit {found['audit']}, {found['contradictions']} contradictions between clients and books"
    head = "| Part | How | Back after | Requests | Failed | Longest delay |"
    lines = [f"{found['per_s']:g} requests a second, {_machine(found)}. All in all {end}.", "", head, "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        why = "; ".join(f"{count} × {text}" for text, count in row["why"].items())  # noqa: RUF001 - times
        failed = f"{row['failed']} ({why})" if why else str(row["failed"])
        lines.append(f"| {row['part']} | {row['how']} | {row['restart_s']} s | {row['requests']} | {failed} | {row['longest_s']} s |")
    return "\n".join(lines)


def soak(found: dict[str, Any]) -> str:
    """Write what a soak ended with."""
    if not found:
        return MISSING
    names = ("ok", "left", "canceled", "incomplete", "refused", "lost", "wrong", "doubled", "given away")
    run = f"`python -m bench.soak --jobs {found['jobs']} --seed {found['seed']}`, {_machine(found)}, {found['seconds']} s"
    faults = f"{sum(found['faults'].values())} faults: {_listed(found['faults'])}"
    return "\n".join([
        f"{run}. Asked for as: {_listed(found['ways'])}. {faults}. Audit {found['audit']}, nothing left open.",
        "",
        "| jobs | " + " | ".join(names) + " |",
        "|" + "---|" * (len(names) + 1),
        f"| {found['jobs']:,} | " + " | ".join(str(found[name]) for name in names) + " |",
        *(["", f"Why not whole: {_listed(found['reasons'])}."] if found["reasons"] else []),
    ])  # fmt: skip


def rows(found: dict[str, Any]) -> str:
    """Write every figure that the fault tests noted, by row."""
    if not found:
        return "No file of theirs is kept yet."
    lines = [f"{_machine(found).capitalize()}.", "", "| Row | What | Figure | Test |", "|---|---|---|---|"]
    ordered = sorted(found["figures"], key=lambda one: (int(one["row"]) if one["row"].isdigit() else 999, one["row"]))
    return "\n".join(
        [*lines, *(f"| {one['row']} | {one['what']} | {one['value']} | `{one['test'].partition('::')[0]}` |" for one in ordered)]
    )


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']['cores']} cores, load {found['machine']['load']} at its beginning"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in counts.items())  # noqa: RUF001 - times


def page(text: str, found: Figures) -> str:
    """Put the measured parts into the page: what stands between a part's two marks is replaced."""
    for name, written in blocks(found).items():
        between = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert between.search(text), name
        text = between.sub(lambda match, written=written: f"{match[1]}\n{written}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), Figures.of_folder(FOLDER)))
