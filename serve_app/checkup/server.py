"""`gfe doctor --server`: everything that an operator should know to be right, of the installation in `GFE_HOME`, in order."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from cluster import processes
from serve_app.checkup import database, machine
from serve_app.checkup.finding import Finding
from serve_app.local import client
from serve_app.local.database import LOGINS
from serve_app.local.home import Home, read_json
from serve_app.local.listening import listening

ASK_LIMIT_S = 5
AUDIT_LIMIT_S = 600
NOT_UP = "`gfe up` starts it; GFE_HOME names another installation"
ADDRESSES = ("GFE_NODE_ADDRESS", "GFE_EDGE_HOST")  # settings that name an address for others on purpose


def check_server() -> list[Finding]:
    """Check the installation."""
    home = Home.of_environment()
    state = client.state_of(home)
    if state is None:
        return [Finding("installation", False, f"nothing runs of {home.root}", NOT_UP)]
    environment = _environment_of(state, "ledger")
    is_production = environment.get("GFE_ENV") == "production"
    seen = database.check(_text(home, "admin_database_url"), {name: _url(home, name) for name in LOGINS})
    return [
        parts(state),
        settings(environment),
        machine.secret_files(home, are_users_apart=bool(state.get("users"))),
        machine.users(state, is_production=is_production),
        *seen.findings,
        books(environment),
        machine.backup(read_json(home.last_backup_file), machine.now(), is_production=is_production),
        machine.signing_key(home.secrets / "jwt", machine.now()),
        machine.clock(seen.ahead_s, is_disciplined=machine.is_clock_disciplined(), is_production=is_production),
        machine.disk((home.root, home.postgres, home.logs, home.runtime)),
        ports(home, state, environment),
        reference(_environment_of(state, "auditor"), is_production=is_production),
    ]


def _environment_of(state: Mapping[str, Any], part: str) -> dict[str, str]:
    """Read what a running part was started with: the shell of whoever asks may say something else."""
    pid = next((one["pid"] for one in state["parts"] if one["name"] == part), None)
    return processes.environment_of(pid) if pid else {}


def _text(home: Home, name: str) -> str:
    try:
        return (home.secrets / name).read_text().strip()
    except OSError:
        return ""


def _url(home: Home, name: str) -> str:
    folder = home.ray_secrets if name == "serve" else home.secrets
    try:
        return (folder / f"{name}_database_url").read_text().strip()
    except OSError:
        return ""


def _ledger(environment: Mapping[str, str], *words: str) -> tuple[int, Any]:
    """Run a command of the ledger's as the running one is set; answer its status and its JSON."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GFE_")}
    given = {name: value for name, value in environment.items() if name.startswith("GFE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ledger.cli", *words, "--json"], env=own | given, capture_output=True, text=True, check=False,
        timeout=AUDIT_LIMIT_S,
    )  # fmt: skip
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        return done.returncode, (done.stderr.strip().splitlines() or ["it did not say why"])[0]


def parts(state: Mapping[str, Any]) -> Finding:
    """Every part runs."""
    ill = [f"{part['name']} is {part['state']}" for part in state["parts"] if part["state"] not in {"running", "done"}]
    said = ", ".join(ill) or f"all {len(state['parts'])} are well"
    return Finding("parts", client.is_green(state), said, "`gfe status`, then `gfe logs <part>`")


def settings(environment: Mapping[str, str]) -> Finding:
    """The settings are fit for what the installation is for."""
    if not environment:
        return Finding("settings", False, "the ledger does not run, or belongs to another user", "run this as who started the platform")
    _, said = _ledger(environment, "check")
    if not isinstance(said, dict):
        return Finding("settings", False, str(said), "docs/reference/settings.md tells what each setting means")
    unfit = [str(one) for one in said["unfit"]]
    if said["env"] == "production":
        return Finding("settings", not unfit, "; ".join(unfit) or "fit for production", "set each for real people, then start it again")
    more = f"; for production {len(unfit)} are to be set (`gfe ledger check`)" if unfit else ""
    return Finding("settings", True, f"an installation for {said['env']}{more}")


def books(environment: Mapping[str, str]) -> Finding:
    """Every rule of the books holds."""
    status, said = _ledger(environment, "audit")
    if not isinstance(said, list):
        return Finding("books", False, f"could not be checked: {said}", "`gfe status` tells whether PostgreSQL runs")
    broken = [str(rule["rule"]) for rule in said if not rule["held"]]
    if broken or status:
        return Finding(
            "books",
            False,
            f"broken: {', '.join(broken)}",
            "pay nobody, `gfe db backup FILE`, then docs/procedures.md, `The books do not hold`",
        )
    return Finding("books", True, f"all {len(said)} rules hold")


def ports(home: Home, state: Mapping[str, Any], environment: Mapping[str, str]) -> Finding:
    """Nothing listens for others but what was meant to."""
    below = processes.descendants(int(state["supervisor_pid"]))
    pids = {process.pid for process in (*processes.marked(home.tag), *below)}
    found = listening(pids)
    kinds = {one.pid: client.kind_of(processes.words_of(one.pid)) for one in found}
    return machine.ports(found, kinds, [environment[name] for name in ADDRESSES if environment.get(name)])


def reference(environment: Mapping[str, str], *, is_production: bool) -> Finding:
    """The runtime that answers of edge nodes are scored on answers itself."""
    url = environment.get("GFE_REFERENCE_URL", "")
    remedy = "set GFE_REFERENCE_URL to an embedded runtime that has the models which nodes offer (docs/operations.md, `The auditor`)"
    if not url:
        return Finding("reference", not is_production, "there is none: no answer of an edge node is scored", remedy)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/api/version", timeout=ASK_LIMIT_S) as answer:
            version = str(json.loads(answer.read(4096)).get("version"))
    except (OSError, ValueError, AttributeError) as failed:
        return Finding("reference", False, f"{url} does not answer ({failed})", remedy)
    return Finding("reference", True, f"{version} at {url}")
