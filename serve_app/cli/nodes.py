"""`gfe nodes`: what is there, on the platform's own machine; and taking a machine out of service."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import Installation, installation

app = typer.Typer(help="List, show, drain and resume nodes.", invoke_without_command=True, pretty_exceptions_enable=False)
JSON = typer.Option(False, "--json", help="Print JSON.")
NODE = typer.Argument(help="Its id or its name.")
GIB = 1024**3


def _operators() -> tuple[Installation, str]:
    """The installation here, called as its operator: whoever reads its secrets is."""
    from cluster.service_tokens import ServiceTokens
    from serve_app.auth import OWN_MACHINE
    from serve_app.local.home import Home

    found = installation()
    try:
        key = (Home.of_environment().ray_secrets / "service_serve.pem").read_bytes()
    except OSError:
        output.refuse("only the platform's own machine can do this", "operators elsewhere use /api/admin/nodes/ with their sign-in")
    return Installation(found.api_url, found.console_url, ServiceTokens(key, "gfe").mint(OWN_MACHINE)), f"{found.api_url}/api/admin/nodes/"


@app.callback()
def nodes(context: typer.Context, *, as_json: bool = JSON) -> None:
    """List the nodes."""
    if context.invoked_subcommand is not None:
        return
    found, url = _operators()
    rows = found.call("GET", url)["results"]
    if as_json:
        output.data(rows, as_json=True)
        return
    shown = [(row["name"], row["id"], health_of(row), f"{row['running']}/{row['slots']}", gpus_of(row), models_of(row)) for row in rows]
    output.data(output.table(shown, "name", "id", "health", "jobs", "GPUs", "models"), as_json=False)


@app.command()
def show(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Show one node: GPUs, models, health."""
    found, url = _operators()
    row: dict[str, Any] = found.call("GET", f"{url}{node}/")
    if as_json:
        output.data(row, as_json=True)
        return
    lines = [
        ("name", row["name"]),
        ("id", row["id"]),
        ("kind", row["kind"]),
        ("health", health_of(row)),
        ("jobs", f"{row['running']} of {row['slots']}"),
    ]
    lines += [("runtime", row["runtime"])]
    lines += [
        ("GPU", f"{gpu['name']}, {gpu['free_bytes'] / GIB:.1f} of {gpu['memory_bytes'] / GIB:.1f} GiB free{_heat(gpu)}")
        for gpu in row["gpus"]
    ]
    lines += [
        (
            "model",
            f"{model['name']}, {model['context_tokens']} tokens, {'loaded' if model['loaded'] else 'not loaded'}, {model['digest'][:12]}",
        )
        for model in row["models"]
    ]
    output.data("\n".join(f"{name:<9}{text}" for name, text in lines), as_json=False)


@app.command()
def drain(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Give a node no new jobs; those that run are finished."""
    _change(node, "drain", "takes no new jobs", as_json=as_json)


@app.command()
def resume(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Give a drained node jobs again."""
    _change(node, "resume", "takes jobs again", as_json=as_json)


def _change(node: str, what: str, said: str, *, as_json: bool) -> None:
    found, url = _operators()
    row = found.call("POST", f"{url}{node}/{what}/")
    output.data(row if as_json else f"{row['name']} {said}", as_json=as_json)


def health_of(row: dict[str, Any]) -> str:
    """Say in a few words how a node is."""
    if row["draining"]:
        return "draining"
    return "well" if row["healthy"] else row["reason"] or "not healthy"


def gpus_of(row: dict[str, Any]) -> str:
    """Name the GPUs."""
    return ", ".join(f"{gpu['name']} {gpu['memory_bytes'] / GIB:.0f} GiB" for gpu in row["gpus"]) or "none"


def models_of(row: dict[str, Any]) -> str:
    """Name the models; those that are loaded with a star."""
    return ", ".join(f"{model['name']}{'*' if model['loaded'] else ''}" for model in row["models"]) or "none"


def _heat(gpu: dict[str, Any]) -> str:
    parts = [f"{gpu['utilization_percent']} % busy"] if gpu["utilization_percent"] is not None else []
    parts += [f"{gpu['temperature_c']} °C"] if gpu["temperature_c"] is not None else []
    return "".join(f", {part}" for part in parts)
