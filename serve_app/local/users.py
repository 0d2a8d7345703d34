"""Who runs what when root starts an installation: ledger, edge gateway, dashboard guard and Ray as users of their own, none reading what is another's.

A machine that joins the cluster can run code as Ray's user on the head (docs/threat-model.md); so nothing of the ledger may be that
user's, and that user must not be root: without capabilities root still owns the program's files and the machine's.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import processes
from serve_app.local.errors import Refused
from serve_app.local.home import Home

NONE = "none"  # GFE_LEDGER_USER: everything runs as whoever starts it
# Numbers for machines without accounts of these names: of a range that neither distributions nor systemd give to anybody.
LEDGER = ("gfe-ledger", 60_900)
RAY = ("gfe-ray", 60_901)
EDGE = ("gfe-edge", 60_902)
GUARD = ("gfe-guard", 60_908)
INTERNAL_GROUP = 60_903  # of those who may pass to the ledger's socket
TRY_LIMIT_S = 60.0
ROOTS_OWN = (
    "admin_database_url",
    "password_",
    "service_auditor.pem",
    "auditor_sealing.key",
)  # of upgrades, commands, the auditor: the ledger does not read them


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom the kernel keeps apart from others by a number; there need be no account."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Users:
    """Who runs the ledger, who runs Ray and all that it starts, who the edge gateway, and who the dashboard guard."""

    ledger: User
    ray: User
    edge: User
    guard: User


def choose(environment: Mapping[str, str], uid: int) -> Users | None:
    """Choose the users of an installation that `uid` starts; None: everything runs as the caller, for only root can choose.

    Raises:
        Refused: A user is named that is not there, is root, or is the other one too.
    """
    wanted = environment.get("GFE_LEDGER_USER"), environment.get("GFE_RAY_USER")
    if uid != 0 or wanted[0] == NONE:
        return None
    caller = (INTERNAL_GROUP,)
    users = Users(
        _user("GFE_LEDGER_USER", wanted[0], *LEDGER), replace(_user("GFE_RAY_USER", wanted[1], *RAY), groups=caller),
        replace(_user("GFE_EDGE_USER", environment.get("GFE_EDGE_USER"), *EDGE), groups=caller),
        replace(_user("GFE_GUARD_USER", environment.get("GFE_GUARD_USER"), *GUARD), groups=caller),
    )  # fmt: skip
    named = (("the ledger", users.ledger), ("Ray", users.ray), ("the edge gateway", users.edge), ("the dashboard guard", users.guard))
    for (one, its), (other, others) in itertools.combinations(named, 2):
        _require_apart(one, its, other, others)
    return users


def _require_apart(one: str, its: User, other: str, others: User) -> None:
    if its.uid == others.uid:
        raise Refused(
            f"{one} and {other} would both run as {others.name}",
            "name different users in GFE_LEDGER_USER, GFE_RAY_USER, GFE_EDGE_USER and GFE_GUARD_USER, or unset all",
        )


def _user(setting: str, wanted: str | None, usual: str, number: int) -> User:
    """Find a user by name or number; the usual one needs no account."""
    try:
        entry = pwd.getpwnam(wanted or usual)
    except KeyError:
        if wanted is not None and not wanted.isdigit():
            raise Refused(f"{setting} names {wanted}, and this machine has no such user", f"useradd --system {wanted}") from None
        uid = int(wanted) if wanted is not None else number
        user = User(usual, uid, uid)
        if wanted is None and (other := _account(uid)) is not None:
            raise Refused(
                f"the number {uid}, which {usual} would have, is {other}'s on this machine", f"useradd --system {usual}"
            ) from None
    else:
        user = User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    if user.uid == 0:
        raise Refused(f"{setting} names root, from whom nothing can be hidden", f"name another user, or set GFE_LEDGER_USER={NONE}")
    return user


def _account(uid: int) -> str | None:
    """Name the account of a number; None: nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def programs() -> tuple[Path, ...]:
    """List the folders that our programs are made of: the environment, the Python below it, our packages."""
    return (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])


def confined(user: User, shown: Iterable[Path], command: Iterable[str]) -> tuple[str, ...]:
    """Write the command line that runs another as a user who sees these of the folders that are closed to him; see `confined.py`."""
    options = [word for path in shown for word in ("--show", str(path))]
    this = (sys.executable, "-P", "-m", "serve_app.local.confined")
    groups = [word for group in user.groups for word in ("--group", str(group))]
    return (*this, "--uid", str(user.uid), "--gid", str(user.gid), *groups, *options, "--", *command)


def why_not(user: User) -> str | None:
    """Try to run our programs as this user; tell why that does not work here, None: it does."""
    trial = confined(
        user, programs(), (sys.executable, "-P", "-c", "import serve_app.settings, importlib.metadata; importlib.metadata.version('ray')")
    )
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(trial, capture_output=True, text=True, check=False, cwd="/", env=environment, timeout=TRY_LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"it does not start within {TRY_LIMIT_S:.0f} s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]


def hand_over(home: Home, users: Users) -> None:
    """Give each user what is his: folders, files and sockets; the rest stays root's."""
    home.mail.mkdir(mode=0o700, exist_ok=True)
    _give(home.secrets, users.ledger.uid, users.ledger.gid, 0o700)
    for folder, _, names in os.walk(home.secrets):
        _give(Path(folder), users.ledger.uid, users.ledger.gid, 0o700)
        for path in (Path(folder) / name for name in names if not name.startswith(ROOTS_OWN)):
            _give(path, users.ledger.uid, users.ledger.gid, 0o600)
    _give(home.mail, users.ledger.uid, users.ledger.gid, 0o700)
    _give(home.ledger_socket.parent, users.ledger.uid, INTERNAL_GROUP, 0o710)  # its callers may pass, to the socket
    for place, user in ((home.ray_secrets, users.ray), (home.edge_secrets, users.edge), (home.guard_secrets, users.guard)):
        _give(place, 0, user.gid, 0o750)  # root's: what its user may read and not replace
        for path in place.iterdir():
            _give(path, 0, user.gid, 0o440)
    for place in (home.rays, home.haproxy, home.notes):
        if place.stat().st_uid != users.ray.uid:  # what another user left there would only be in the way
            shutil.rmtree(place)
            place.mkdir(mode=0o700)
        _give(place, users.ray.uid, users.ray.gid, 0o700)


def _give(path: Path, uid: int, gid: int, mode: int) -> None:
    """Set owner and mode of a file or folder; a link is left alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def are_apart(pids: Mapping[str, int | None]) -> bool:
    """Tell whether the parts `ledger` and `ray` run as different users now, Ray's not root. A part that does not run proves nothing."""
    ledger, ray = (processes.user_of(pid) if pid else None for pid in (pids.get("ledger"), pids.get("ray")))
    return None not in (ledger, ray) and ray not in (ledger, 0)
