"""Checks of an installation's machine: files of secrets, clock, disk, ports. What was seen comes as arguments; what it means is decided here."""

import ctypes
import os
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from serve_app.checkup.finding import Finding
from serve_app.local.home import Home
from serve_app.local.listening import Listening

GIB = 1024**3
MINIMUM_DISK_BYTES = 5 * GIB
MINIMUM_DISK_SHARE = 0.10
STA_UNSYNC = 0x40  # <linux/timex.h>: no clock of a time server disciplines ours
CLOCK_REMEDY = "let a time server set the clock (chrony, systemd-timesyncd): tokens of services live a minute"


def secret_files(home: Home, *, are_users_apart: bool) -> Finding:
    """Secrets are read by whom they are for: nobody else's bit, no group's unless each service runs as its own user."""
    folders = (home.secrets, home.ray_secrets, home.edge_secrets, home.guard_secrets)
    allowed = 0o750 if are_users_apart else 0o700
    open_ones, count = [], 0
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))):
            try:
                found = path.lstat()
            except OSError:
                continue
            count += 1
            if stat.S_ISLNK(found.st_mode) or stat.S_IMODE(found.st_mode) & ~(allowed if path.is_dir() else allowed & 0o640):
                open_ones.append(str(path))
    if open_ones:
        named = ", ".join(open_ones[:5]) + (f" and {len(open_ones) - 5} more" if len(open_ones) > 5 else "")
        return Finding(
            "secrets", False, f"open to others, or links: {named}", f"chmod go= {open_ones[0]}; rotate what others could have read"
        )
    return Finding("secrets", True, f"{count} files and folders are closed")


def users(state: Mapping[str, object], *, is_production: bool) -> Finding:
    """The ledger and Ray run as users of their own."""
    if state.get("users"):
        return Finding("users", True, "the ledger, Ray, the edge gateway and the dashboard guard run as users of their own")
    said = "everything runs as one user: who breaks into Ray reads the ledger's secrets"
    return Finding("users", not is_production, said, "start it as root without GFE_LEDGER_USER=none; docs/operations.md, `Who runs what`")


def clock(database_ahead_s: float | None, *, is_disciplined: bool | None, is_production: bool) -> Finding:
    """The clock is right: as far as the kernel knows, and against the database's machine."""
    if database_ahead_s is not None and abs(database_ahead_s) > 2:
        return Finding("clock", False, f"the database's is {database_ahead_s:+.1f} s off ours", CLOCK_REMEDY)
    if is_disciplined is False:
        return Finding("clock", not is_production, "no time server sets it", CLOCK_REMEDY)
    return Finding("clock", True, "is set by a time server" if is_disciplined else "agrees with the database's")


def is_clock_disciplined() -> bool | None:
    """Ask the kernel whether something keeps the clock right (adjtimex(2)); None: it does not say."""
    try:
        buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: nothing is changed
        if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    # struct timex: modes (int), then offset, freq, maxerror, esterror (long), status (int).
    long_ = ctypes.sizeof(ctypes.c_long)
    status = ctypes.c_int.from_buffer(buffer, long_ * 5).value
    return not status & STA_UNSYNC


def disk(folders: Iterable[Path]) -> Finding:
    """There is room where data and logs are written."""
    least: tuple[float, float, Path] | None = None
    for folder in folders:
        if folder.exists():
            found = shutil.disk_usage(folder)
            seen = (found.free / found.total, float(found.free), folder)
            least = seen if least is None or seen < least else least
    if least is None:
        return Finding("server disk", False, "there is no folder of this installation", "`gfe up` makes one; GFE_HOME names another")
    share, free, folder = least
    is_fine = free >= MINIMUM_DISK_BYTES and share >= MINIMUM_DISK_SHARE
    said = f"{free / GIB:.1f} GiB free ({share:.0%}) at {folder}"
    return Finding("server disk", is_fine, said, "make room before PostgreSQL stops: old logs, models, or a larger disk")


def ports(found: Iterable[Listening], kinds: Mapping[int, str | None], allowed: Iterable[str]) -> Finding:
    """Nothing listens for others but what was meant to; `kinds`: of processes by id, `allowed`: addresses that the settings name."""
    meant = set(allowed)
    outside = sorted(
        {(one.port, one.address, str(kinds.get(one.pid))) for one in found if not one.is_loopback and one.address not in meant}
    )
    strange = [f"{port} ({kind}, {address})" for port, address, kind in outside if kind != "replica"]
    if strange:
        return Finding("ports", False, f"open to other machines: {', '.join(strange)}", "docs/operations.md lists what may listen where")
    if outside:
        numbers = ", ".join(str(port) for port, _, _ in outside)
        return Finding("ports", True, f"on loopback, but {numbers} (Ray Serve's, between replicas): the firewall has to close them")
    return Finding("ports", True, "all on loopback, or where the settings say")


def backup(last: Mapping[str, object] | None, now: float, *, is_production: bool) -> Finding:
    """The last backup that is known is not too old."""
    how = "gfe db backup FILE, each night, and the folders of secrets beside it; or point-in-time recovery (docs/operations.md)"
    if last is None:
        return Finding("backup", not is_production, "none is known here", how)
    at, file = last.get("at"), Path(str(last.get("file")))
    hours = (now - at) / 3600 if isinstance(at, int | float) else float("inf")
    gone = "" if file.exists() else ", and that file is not there any more"
    return Finding("backup", hours <= 26 or not is_production, f"{hours:.1f} h old: {file}{gone}", how)


def signing_key(folder: Path, now: float) -> Finding:
    """The key that tokens are signed with was made lately; its file is named after the second in which it was made."""
    try:
        made = [int(path.name.split("-")[0]) for path in folder.glob("*.pem")]
    except (OSError, ValueError):
        made = []
    if not made:
        who = "" if os.access(folder, os.R_OK) else " that this user may read"
        return Finding(
            "signing key", False, f"there is none{who} in {folder}", "`gfe ledger bootstrap` makes one; run this as who started it"
        )
    days = (now - max(made)) / 86_400
    return Finding("signing key", days <= 100, f"{days:.0f} days old", "gfe admin rotate-keys")


def now() -> float:
    """Tell the time in seconds since 1970."""
    return time.time()
