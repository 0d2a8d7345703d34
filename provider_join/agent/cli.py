"""`gfe agent`: what is typed on a machine that shares its GPU."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import typer

from provider_join.agent.sharing import HOTTEST_C

JSON = typer.Option(False, "--json", help="Print JSON.")
app = typer.Typer(add_completion=False, invoke_without_command=True, no_args_is_help=False)


@app.callback(invoke_without_command=True)
def agent(
    context: typer.Context,
    code: str | None = typer.Option(None, help="A one-time code from the console; needed once."),
    url: str | None = typer.Option(
        None, envvar="GFE_CONSOLE_URL", help="The platform's address, as the console shows it; needed with --code."
    ),
    name: str | None = typer.Option(None, help="What to call this machine; left out: as the code was labeled."),
    share: str = typer.Option("", help="Jobs at once: a number, or a share of what the runtime does at once, e.g. 50%."),
    schedule: str = typer.Option("", help="When jobs are taken, e.g. `22:00-08:00,weekend`; left out: always."),
    models: str = typer.Option("", help="The only models that are offered, joined by commas; left out: all that are here."),
    hottest: int = typer.Option(HOTTEST_C, min=40, max=110, help="GPU temperature in °C from which no new jobs are taken."),
    *,
    on_battery: bool = typer.Option(False, "--on-battery", help="Take jobs on battery too."),
    while_used: bool = typer.Option(False, "--while-used", help="Take jobs while other programs use the GPU too."),
) -> None:
    """Share this machine's GPU: take jobs from the platform over one outgoing connection, and earn. Runs until stopped (Ctrl-C)."""
    if context.invoked_subcommand is not None:
        return
    from provider_join.agent.home import AgentHome
    from provider_join.agent.lean import become
    from provider_join.agent.main import Start

    _check(share, schedule)
    become(
        Start(
            code=code and code.strip(), url=url, label=name, share=share, schedule=schedule, models=_names(models), hottest_c=hottest,
            minds_battery=not on_battery, minds_others=not while_used,
        ),
        AgentHome.of_environment(),
    )  # fmt: skip


def _check(share: str, schedule: str) -> None:
    """Refuse what cannot be read."""
    from provider_join.agent.sharing import BadWish, read_schedule, read_share

    try:
        read_share(share, None)
        read_schedule(schedule)
    except BadWish as bad:
        _refuse(str(bad), "see gfe agent --help")


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


@app.command()
def status(*, as_json: bool = JSON) -> None:
    """Tell how the agent is that runs here; exit 1 when none does."""
    from provider_join.agent.telling import in_words

    said = _ask("status")
    platform = said.pop("says")
    _print({**said, "platform_says": platform} if as_json else in_words(said, platform))


@app.command()
def why(*, as_json: bool = JSON) -> None:
    """Tell why no jobs come, one sentence per reason."""
    reasons = _ask("why")["reasons"]
    if as_json:
        _print({"reasons": reasons})
        return
    _print("\n".join(reasons) or "Nothing stands in the way: jobs come when somebody asks for a model that this machine has.")


@app.command()
def pause(*, as_json: bool = JSON) -> None:
    """Take no new jobs until `gfe agent resume`, over restarts too; what runs is finished."""
    _wish(is_paused=True, as_json=as_json)


@app.command()
def resume(*, as_json: bool = JSON) -> None:
    """Take jobs again."""
    _wish(is_paused=False, as_json=as_json)


@app.command()
def logs(
    lines: int = typer.Option(50, "--lines", "-n", min=1, max=100_000, help="How many."),
    *,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what comes."),
) -> None:
    """Show what the agent noted: connections, refusals, pauses. No prompt and no answer is in it."""
    from provider_join.agent.home import AgentHome
    from provider_join.agent.log_file import last_lines

    path = AgentHome.of_environment().log
    sys.stdout.write("".join(line + "\n" for line in last_lines(path, lines)))
    if follow:
        _follow(path)


@app.command()
def install(
    share: str = typer.Option("", help="As of `gfe agent`."),
    schedule: str = typer.Option("", help="As of `gfe agent`."),
    models: str = typer.Option("", help="As of `gfe agent`."),
    hottest: int = typer.Option(HOTTEST_C, min=40, max=110, help="As of `gfe agent`."),
    account: str | None = typer.Option(
        None, help="The operating system's user that a system unit runs as, who owns the agent's folder; left out: root."
    ),
    *,
    on_battery: bool = typer.Option(False, "--on-battery", help="As of `gfe agent`."),
    while_used: bool = typer.Option(False, "--while-used", help="As of `gfe agent`."),
    system: bool = typer.Option(False, "--system/--user", help="For the whole machine (as root), or for this user."),
    no_start: bool = typer.Option(False, "--no-start", help="Only write the file, and tell what starts it."),
) -> None:
    """Run the agent at every start of this machine: a systemd unit on Linux, a LaunchAgent on macOS."""
    from provider_join.agent.home import AgentHome
    from provider_join.agent.install import Installer, NotInstalled, run_commands, service_here

    _check(share, schedule)
    home = AgentHome.of_environment()
    if home.enrollment() is None:
        _refuse(
            "this machine is not a node yet", "gfe agent --url https://… --code gfe_enroll_…   first; Ctrl-C ends it when it is connected"
        )
    given = (
        ("share", share),
        ("schedule", schedule),
        ("models", ",".join(_names(models))),
        ("hottest", str(hottest) if hottest != HOTTEST_C else ""),
    )
    options = [word for name, value in given if value for word in (f"--{name}", value)]
    options += ["--on-battery"] * on_battery + ["--while-used"] * while_used
    installer = Installer(is_system=system)
    try:
        path = installer.write(service_here(home, options, account))
    except NotInstalled as failed:
        _refuse(failed.what, failed.hint)
    left = installer.start_commands() if no_start else run_commands(installer.start_commands())
    _print(f"{path} is written" + ("; the agent runs, now and at every start" if not left else ""))
    if left:
        sys.stderr.write("still to be run:\n\n" + "".join(f"  {' '.join(command)}\n" for command in left))
        if not no_start:
            sys.exit(1)


@app.command()
def uninstall(
    *,
    system: bool = typer.Option(False, "--system/--user", help="As it was installed."),
    purge: bool = typer.Option(False, "--purge", help="Delete the agent's folder too: its key, its log, the embedded runtime's models."),
) -> None:
    """Run the agent at no start of this machine any more; what runs is finished first."""
    import shutil

    from provider_join.agent.home import AgentHome
    from provider_join.agent.install import Installer, run_commands

    installer, home = Installer(is_system=system), AgentHome.of_environment()
    left = run_commands(installer.stop_commands()) if installer.path.exists() else []
    was_there = installer.remove()
    _print(f"{installer.path} {'is removed' if was_there else 'was not there'}")
    if left:
        sys.stderr.write("still to be run:\n\n" + "".join(f"  {' '.join(command)}\n" for command in left))
    if purge:
        shutil.rmtree(home.root, ignore_errors=True)
        _print(f"{home.root} is deleted; deregister the node in the console")


def _follow(path: Path) -> None:
    """Print what is appended to a file; a new one in its place is read from its beginning."""
    file, number = None, None
    while True:
        sys.stdout.flush()
        if path.exists() and path.stat().st_ino != number:
            if file:
                file.close()
            file = path.open(errors="replace")
            if number is None:
                file.seek(0, os.SEEK_END)
            number = path.stat().st_ino
        sys.stdout.write(file.read() if file else "")
        time.sleep(0.5)


def _wish(*, is_paused: bool, as_json: bool) -> None:
    from provider_join.agent.control import NotRunning, ask
    from provider_join.agent.home import AgentHome
    from provider_join.agent.main import set_wish

    home = AgentHome.of_environment()
    try:
        said = ask(home.socket, "pause" if is_paused else "resume")
    except NotRunning:
        set_wish(home, is_paused=is_paused)
        said = {"paused": "paused by its owner" if is_paused else ""}
    if as_json:
        _print(said)
    elif said["paused"]:
        _print(f"takes no new jobs: {said['paused']}")
    else:
        _print("takes jobs")


def _ask(what: str) -> dict[str, Any]:
    from provider_join.agent.control import NotRunning, ask
    from provider_join.agent.home import AgentHome

    home = AgentHome.of_environment()
    try:
        return ask(home.socket, what)
    except NotRunning:
        hint = "gfe agent" if home.enrollment() else "gfe agent --url https://… --code gfe_enroll_…"
        _refuse(f"no agent runs in {home.root}", f"{hint}   starts one")


def _print(value: Any) -> None:
    sys.stdout.write((value if isinstance(value, str) else json.dumps(value)) + "\n")


def _refuse(what: str, hint: str) -> NoReturn:
    sys.stderr.write(f"error: {what}\n\nhint: {hint}\n")
    sys.exit(1)
