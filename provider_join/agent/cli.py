"""`gfe agent`: what is typed on a machine that shares its GPU."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import typer

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
    hottest: int = typer.Option(87, min=40, max=110, help="GPU temperature in °C from which no new jobs are taken."),
    *,
    on_battery: bool = typer.Option(False, "--on-battery", help="Take jobs on battery too."),
    while_used: bool = typer.Option(False, "--while-used", help="Take jobs while other programs use the GPU too."),
) -> None:
    """Share this machine's GPU: take jobs from the platform over one outgoing connection, and earn. Runs until stopped (Ctrl-C)."""
    if context.invoked_subcommand is not None:
        return
    from provider_join.agent.home import AgentHome
    from provider_join.agent.main import Start, run_or_refuse
    from provider_join.agent.sharing import BadWish, Wishes, read_schedule, read_share

    try:
        read_share(share, None)
        wishes = Wishes(
            schedule=read_schedule(schedule), hottest_c=hottest, minds_battery=not on_battery, minds_others=not while_used,
            models=tuple(one.strip() for one in models.split(",") if one.strip()),
        )  # fmt: skip
    except BadWish as bad:
        _refuse(str(bad), "see gfe agent --help")
    run_or_refuse(AgentHome.of_environment(), Start(code=code, url=url, label=name, share=share, wishes=wishes))


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
