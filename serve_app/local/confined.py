"""Runs a program as another user who sees of the folders that are closed to him what is shown, and nothing else.

Python and a checkout often live below a folder that root alone may enter (`/root`, a temporary one). Instead of opening that folder, or of
giving the program a right to read everything, it gets a view of the file system of its own (a mount namespace), in which an empty folder
stands in the closed one's place and holds what is shown. Where nothing is closed, no view is made and no right to mount is needed.
"""

import argparse
import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve_app.local.sentinel import process_control

PR_SET_NO_NEW_PRIVS = 38  # <linux/prctl.h>
CLONE_NEWNS = 0x00020000  # <linux/sched.h>
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000  # <linux/mount.h>


def closed_folder(path: Path, uid: int, gid: int) -> Path | None:
    """Name the outermost folder on the way to `path` that the user may not pass; None: the way is open."""
    for folder in reversed(path.parents):
        found = folder.stat()
        shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
        if not found.st_mode >> shift & 0o1:
            return folder
    return None


def hidden(shown: Iterable[Path], uid: int, gid: int) -> dict[Path, Path]:
    """Choose what needs a view: each path that lies behind a closed folder, with that folder; nothing that lies inside another."""
    every = {path for one in shown for path in (one, one.resolve())}
    found = {path: top for path in every if (top := closed_folder(path, uid, gid)) is not None}
    return {path: top for path, top in sorted(found.items()) if not any(other in path.parents for other in found)}


def show(hidden_paths: dict[Path, Path]) -> None:
    """Give this process a view in which each closed folder holds only what is shown of it.

    Raises:
        OSError: The kernel refused: this needs the right to mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
        words = [None if word is None else os.fsencode(word) for word in (source, str(target), kind)]
        if libc.mount(*words, ctypes.c_ulong(flags), None if options is None else options.encode()) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))

    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH) for path in hidden_paths}  # before the folder is covered
    for top in set(hidden_paths.values()):
        mount("tmpfs", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for path, descriptor in held.items():
        path.mkdir(parents=True)
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)


def become(uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Be another user for good: no groups but these, no capabilities, no way to gain any."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    process_control(PR_SET_NO_NEW_PRIVS, 1)


def main(words: Sequence[str]) -> None:
    """Become the user, with the view that he needs, and run the command in this process's place."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--gid", type=int, required=True)
    parser.add_argument("--group", type=int, action="append", default=[])
    parser.add_argument("--show", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args(words)
    if needed := hidden(asked.show, asked.uid, asked.gid):
        show(needed)
    os.chdir("/")
    become(asked.uid, asked.gid, asked.group)
    os.execv(asked.command[0], asked.command)  # noqa: S606 - there is no shell to be wanted


if __name__ == "__main__":
    main(sys.argv[1:])
