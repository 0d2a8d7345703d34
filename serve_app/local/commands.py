"""`gfe up`, `gfe down`, `gfe status`, `gfe logs`."""

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster import processes
from serve_app.local import client, postgres
from serve_app.local.errors import Refused
from serve_app.local.home import Home
from serve_app.local.sentinel import LOCK_IS_HELD

GOOD = {"running": "green", "done": "green"}
SHOWN_LINES = 40
FOLLOW_POLL_S = 0.3
_people = Console(stderr=True, highlight=False, soft_wrap=True)
_out = Console(highlight=False, soft_wrap=True)


class NotStarted(Refused):
    """Nothing was started; what a first start made so far is of no use."""


def up(
    *,
    detach: bool = typer.Option(False, "--detach", "-d", help="Return when everything is ready, and leave it running."),
    port_base: int | None = typer.Option(None, min=1024, max=64000, help="Take free ports from this one on."),
    as_json: bool = typer.Option(False, "--json", help="Print one line of JSON when everything is ready."),
) -> None:
    """Start the whole platform on this machine, with real parts and a real model."""
    home = _home()
    is_new = not home.root.exists()
    try:
        home.make()
    except Refused as refused:
        _refuse(refused.what, refused.hint)
    if _is_already_up(home):
        _show_already_up(home, as_json=as_json)
        return
    began = time.monotonic()
    with client.starting(home, port_base, is_detached=detach) as start:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            is_ready = _relay(home, start.lines, began, as_json=as_json, until_ready=detach)
        except NotStarted as refused:
            start.sentinel.wait()
            if is_new:
                _purge(home)
            _refuse(refused.what, refused.hint)
        except KeyboardInterrupt:
            _people.print("stopping …")
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            status = start.stop()
            raise typer.Exit(status if status >= 0 else 1) from None
        if detach and is_ready:
            return
        status = start.sentinel.wait()
    if status == LOCK_IS_HELD:
        _show_already_up(home, as_json=as_json)
        return
    if not is_ready and status == 0:
        _people.print("stopped before it was ready")
    raise typer.Exit(1 if status else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _is_already_up(home: Home) -> bool:
    """Tell whether it is up; when it is just going down, wait for that."""
    if not client.is_up(home):
        return False
    if client.state_of(home) is None and not client.wait_until_free(home, 1):
        # Either it has just been started and has no state yet, or its supervisor died and the sentinel cleans up.
        client.wait_until_free(home, 20)
    return client.is_up(home)


def _show_already_up(home: Home, *, as_json: bool) -> None:
    state = client.wait_until_ready(home)
    if state is None:
        _refuse("another start of this installation failed", f"see {home.logs}/supervisor.log")
    _people.print(f"already up (supervisor {state['supervisor_pid']})")
    _show(home, client.report(home, state), as_json=as_json)


def _relay(home: Home, lines: Iterator[dict[str, Any]], began: float, *, as_json: bool, until_ready: bool) -> bool:
    """Show progress as it is told; tell whether it became ready.

    Raises:
        NotStarted: The supervisor refused before it started anything.
    """
    is_ready = False
    for line in lines:
        if line.get("is_untouched"):
            raise NotStarted(line["refused"], line["hint"])
        if "refused" in line:
            _refuse(line["refused"], line["hint"])
        if "note" in line:
            _people.print(f"  ! {line['note']}", markup=False)
        elif "ready" in line:
            is_ready = True
            _people.print(f"ready in {time.monotonic() - began:.1f} s")
            _show(home, client.report(home, client.state_of(home)), as_json=as_json)
            if until_ready:
                return True
        elif shown := progress_line(line):
            _people.print(shown)
    return is_ready


def progress_line(told: Mapping[str, Any]) -> Text | None:
    """Write a line of progress; None when it is of no interest to people."""
    part, state = str(told["part"]), str(told["state"])
    if state in {"running", "done"}:
        took = "" if told["took_s"] is None else f" in {told['took_s']:.1f} s"
        return Text.assemble(("  ✓ ", "green"), f"{part:<10} {told['detail'] or ('ready' if state == 'running' else 'done')}{took}")
    if state == "starting" and told["detail"]:
        return Text.assemble(("  … ", "cyan"), f"{part:<10} {told['detail']}")
    if state in {"restarting", "unhealthy", "failed"}:
        return Text.assemble(("  ! ", "yellow" if state != "failed" else "red"), f"{part:<10} {state}: {told['detail']}")
    return None


def _show(home: Home, report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the panel, or the same as one line of JSON."""
    if as_json:
        _out.print(json.dumps(report), soft_wrap=True, markup=False)
        return
    lines = panel_text(home, report).splitlines()
    rule = "─" * max(map(len, lines))  # as wide as it must be: a key is copied whole or not at all
    _out.print(Text(f"GPU-For-Everyone is up\n{rule}", "bold"))
    _out.print("\n".join([*lines, rule, curl_line(report), 'gfe chat "Say hello"']), markup=False)


def panel_text(home: Home, report: Mapping[str, Any]) -> str:
    """Write what people need to know first."""
    return "\n".join(
        (
            f"API        {report['api_url']}",
            f"key        {report['api_key']}",
            f"console    {report['console_url']}",
            f"agents     {report['agent_url']}",
            f"operators  {report['guard_url']}  (dashboards; the way in is in the console, below Operate)",
            f"logs       {home.logs}",
        )
    )


def curl_line(report: Mapping[str, Any], model: str = "smollm2:135m") -> str:
    """Write the line that proves it: a real model's answer, paid for."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello"}]})
    return (
        f"curl {report['api_url']}/v1/chat/completions -H 'Authorization: Bearer {report['api_key']}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def down(
    *, purge: bool = typer.Option(False, "--purge", help="Delete everything of the installation: books, secrets, models, logs.")
) -> None:
    """Stop everything; keep the data unless told otherwise."""
    home = _home()
    state = client.state_of(home)
    if not client.is_up(home):
        _people.print("not up")
    else:
        supervisor = client.supervisor_of(state)
        if supervisor is not None:
            processes.send(supervisor, signal.SIGTERM)
        if not client.wait_until_free(home, client.STOP_LIMIT_S):
            _refuse("it does not stop", "see `gfe logs supervisor`, then end the processes that `gfe status` names")
        _people.print("stopped")
    if purge:
        _purge(home)
        _people.print(f"deleted {home.root}")


def _purge(home: Home) -> None:
    """Delete what we made, and the home itself when nothing else is in it."""
    postgres.purge(home.postgres, tag=home.tag)
    for folder in (
        home.secrets,
        home.ray_secrets,
        home.edge_secrets,
        home.guard_secrets,
        home.mail,
        home.models,
        home.logs,
        home.run,
        home.root / "ray",
        home.runtime,
    ):
        shutil.rmtree(folder, ignore_errors=True)
    if home.root.is_dir() and not any(home.root.iterdir()):
        home.root.rmdir()


def status(*, as_json: bool = typer.Option(False, "--json", help="Print one line of JSON.")) -> None:
    """Tell what runs; exit 1 unless all is well."""
    home = _home()
    state = client.state_of(home)
    report = client.report(home, state)
    answers, report["readyz"] = client.ready_says(str(report["api_url"])) if state else (False, None)
    report["ready"] = report["ready"] and answers
    if as_json:
        _out.print(json.dumps(report), soft_wrap=True, markup=False)
    elif state is None:
        _people.print(f"not up ({home.root})\n\nhint: `gfe up` starts it")
    else:
        _out.print(_status_table(report))
        _out.print(panel_text(home, report), markup=False)
        _out.print(f"readyz     {json.dumps(report['readyz'])}", markup=False)
    raise typer.Exit(0 if report["ready"] else 1)


def _status_table(report: Mapping[str, Any]) -> Table:
    """Write the parts as a table."""
    table = Table("part", "state", "pid", "restarts", "since", "below it", box=None, pad_edge=False)
    for part in report["parts"]:
        state = str(part["state"])
        since = time.strftime("%H:%M:%S", time.localtime(part["since"]))
        below = ", ".join(f"{child['name']} {child['pid']}" for child in part["children"])
        table.add_row(
            part["name"], Text(state, GOOD.get(state, "red")), str(part["pid"] or ""), str(part["restarts"]), since, part["detail"] or below
        )
    return table


def logs(
    part: str | None = typer.Argument(None, help="One part; all of them when left out."),
    *,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as lines are written."),
) -> None:
    """Show the last lines of the logs."""
    home = _home()
    known = sorted(path.stem for path in home.logs.glob("*.log"))
    if part is not None and part not in known:
        _refuse(f"there is no log of `{part}`", f"known: {', '.join(known) or 'none yet'}")
    files = {name: home.logs / f"{name}.log" for name in ([part] if part else known)}
    places = {name: _print_tail(name, path, is_named=part is None) for name, path in files.items()}
    try:
        while follow:
            time.sleep(FOLLOW_POLL_S)
            places = {name: _print_new(name, path, places[name], is_named=part is None) for name, path in files.items()}
    except KeyboardInterrupt:
        return


def _print_tail(name: str, path: Path, *, is_named: bool) -> int:
    """Print the last lines; answer where the file ended."""
    raw = path.read_bytes()
    for line in raw.decode(errors="replace").splitlines()[-SHOWN_LINES:]:
        _print_line(name, line, is_named=is_named)
    return len(raw)


def _print_new(name: str, path: Path, place: int, *, is_named: bool) -> int:
    """Print what was written since; answer where the file ends now (a shorter file was begun anew)."""
    try:
        with path.open("rb") as file:
            file.seek(place if path.stat().st_size >= place else 0)
            raw = file.read()
            place = file.tell()
    except OSError:
        return place
    for line in raw.decode(errors="replace").splitlines():
        _print_line(name, line, is_named=is_named)
    return place


def _print_line(name: str, line: str, *, is_named: bool) -> None:
    sys.stdout.write(f"{name + ' | ' if is_named else ''}{line}\n")
    sys.stdout.flush()


def _home() -> Home:
    return Home.of_environment()


def _refuse(what: str, hint: str) -> NoReturn:
    """Say what is wrong and what to do, and end with 1."""
    _people.print(f"error: {what}\n\nhint: {hint}", markup=False)
    raise typer.Exit(1)
