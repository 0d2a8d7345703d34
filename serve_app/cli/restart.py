"""`gfe restart`: starts parts of a running installation anew, without losing requests where that can be."""

import typer

from serve_app.cli import output

WAIT_S = 900.0
ANSWER_LIMIT_S = 1200.0  # beyond what any part may take, what it waits for included


def restart(
    parts: list[str] = typer.Argument(
        help="guard, auditor, ledger, edge, dispatcher, worker, serve, runtime, postgres: one or more, in this order."
    ),
    *,
    wait: float = typer.Option(WAIT_S, min=0, help="worker, runtime: seconds for what runs there to end; then it is cut off."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Start parts anew, one after the other, with the code that is installed now; ledger and job APIs without a moment's absence."""
    from serve_app.local import control
    from serve_app.local.errors import Refused
    from serve_app.local.home import Home

    home = Home.of_environment()
    took = {}
    for part in parts:
        try:
            took[part] = control.ask(home.control_socket, {"restart": part, "wait_s": wait}, wait + ANSWER_LIMIT_S)["took_s"]
        except Refused as refused:
            output.refuse(refused.what, refused.hint)
        if not as_json:
            output.data(f"{part}: new after {took[part]} s", as_json=False)
    if as_json:
        output.data({"took_s": took}, as_json=True)
