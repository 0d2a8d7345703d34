"""`gfe nodes`: what is there, on the platform's own machine, and taking a machine out of service; for everybody, why an own node gets no jobs."""

from typing import Any

import typer

from serve_app.cli import output
from serve_app.cli.http import Installation, installation

app = typer.Typer(
    help="List, show, drain and resume nodes; tell why one of yours gets no jobs.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
JSON = typer.Option(False, "--json", help="Print JSON.")
NODE = typer.Argument(help="Its id or its name.")
GIB = 1024**3


def operators() -> tuple[Installation, str]:
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
    found, url = operators()
    rows = found.call("GET", url)["results"]
    if as_json:
        output.data(rows, as_json=True)
        return
    shown = [(row["name"], row["id"], health_of(row), f"{row['running']}/{row['slots']}", gpus_of(row), models_of(row)) for row in rows]
    output.data(output.table(shown, "name", "id", "health", "jobs", "GPUs", "models"), as_json=False)


@app.command()
def show(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Show one node: GPUs, models, health."""
    found, url = operators()
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
    lines += [("note", row["reason"])] if row["healthy"] and row["reason"] and not row["draining"] else []
    lines += [("now", row["operation"])] if row["operation"] else []
    lines += [("GPU", gpu_line(gpu)) for gpu in row["gpus"]]
    for model in row["models"]:
        lines += [("model", model_line(model))]
        lines += [("", f"  {model['trouble']}")] if model["trouble"] else []
    output.data("\n".join(f"{name:<9}{text}" for name, text in lines), as_json=False)


@app.command()
def drain(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Give a node no new jobs; those that run are finished."""
    _change(node, "drain", "takes no new jobs", as_json=as_json)


@app.command()
def resume(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Give a drained node jobs again."""
    _change(node, "resume", "takes jobs again", as_json=as_json)


@app.command()
def why(node: str = NODE, *, as_json: bool = JSON) -> None:
    """Tell why one of your nodes gets no jobs, one sentence per reason and per model."""
    found = installation()
    said: dict[str, Any] = found.call("GET", f"{found.api_url}/api/computing/nodes/{node}/why/")
    if said["reasons"]:  # one may be its state: why it is that, the ledger knows
        said["state_reason"] = found.call("GET", f"{found.console_url}/api/core/nodes/{said['node_id']}/audits/")["state_reason"]
    output.data(said if as_json else "\n".join(reasons_of(said)), as_json=as_json)


def reasons_of(said: dict[str, Any]) -> list[str]:
    """Write for a person why a node gets no jobs."""
    done = said["done"]
    rate = "" if done["success_rate"] is None else f", {done['success_rate']:.1%} of the attempts ended well"
    return [
        f"{said['name']} {'takes jobs' if said['takes_jobs'] else 'takes no jobs'}; {done['jobs']} paid in 30 days{rate}",
        *said["reasons"],
        *([said["state_reason"]] if said.get("state_reason") else []),
        *(f"{model['model']}: {model['why']}" for model in said["models"]),
    ]


def _change(node: str, what: str, said: str, *, as_json: bool) -> None:
    found, url = operators()
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


def gpu_line(gpu: dict[str, Any]) -> str:
    """Describe a GPU."""
    if gpu["free_bytes"] is None:
        return f"{gpu['name']}, {gpu['memory_bytes'] / GIB:.1f} GiB in use"
    mode = ", a MIG device" if gpu["part_of"] else ", in MIG mode, without devices" if gpu["mig"] else ""
    return f"{gpu['name']}{mode}, {gpu['free_bytes'] / GIB:.1f} of {gpu['memory_bytes'] / GIB:.1f} GiB free{_heat(gpu)}"


def model_line(model: dict[str, Any]) -> str:
    """Describe a model that a node has: state, memory needed and taken."""
    state = "loaded" if model["loaded"] else "not loaded" if model["fits"] else "does not fit"
    needed = [f"needs {model['needed_bytes'] / GIB:.2f} GiB"] if model["needed_bytes"] else []
    took = [f"took {model['took_bytes'] / GIB:.2f} GiB"] if model["took_bytes"] else []
    return ", ".join([model["name"], f"{model['context_tokens']} tokens", state, *needed, *took, model["digest"][:12]]) + _speed(model)


def models_of(row: dict[str, Any]) -> str:
    """Name the models; those that are loaded with a star."""
    return ", ".join(f"{model['name']}{'*' if model['loaded'] else ''}" for model in row["models"]) or "none"


def _speed(model: dict[str, Any]) -> str:
    """Say what jobs showed of a model's speed; nothing before some ended."""
    parts = [f"{model['tokens_per_s']:g} tokens/s"] if model["tokens_per_s"] is not None else []
    parts += [f"first token after {model['first_token_s']:g} s"] if model["first_token_s"] is not None else []
    parts += [f"p99 {model['first_token_p99_s']:g} s"] if model["first_token_p99_s"] is not None else []
    return "".join(f", {part}" for part in parts)


def _heat(gpu: dict[str, Any]) -> str:
    parts = [f"{gpu['utilization_percent']} % busy"] if gpu["utilization_percent"] is not None else []
    parts += [f"{gpu['temperature_c']} °C"] if gpu["temperature_c"] is not None else []
    return "".join(f", {part}" for part in parts)
