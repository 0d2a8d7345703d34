"""Where a one-machine installation keeps things.

`$GFE_HOME` (default `~/.local/share/gfe`) holds everything that lasts. Unix sockets and Ray's session live in a short folder of their own
(`/tmp/gfe-<uid>-<tag>`), because a socket's path may have 107 bytes and Ray does not like blanks.
"""

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.local.errors import Refused

RUNTIME_PARENT = Path("/tmp")  # noqa: S108 - the folder below it is closed, and refused when it is somebody else's


class HomeUnusable(Refused):
    """The folder cannot be used; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one installation."""

    root: Path

    @classmethod
    def of_environment(cls) -> "Home":
        """Find the home that this environment names."""
        named = os.environ.get("GFE_HOME")
        return cls(Path(named).expanduser().absolute() if named else Path.home() / ".local" / "share" / "gfe")

    @property
    def tag(self) -> str:
        """A short name of this installation: the same for the same folder."""
        return hashlib.blake2b(str(self.root).encode(), digest_size=4).hexdigest()

    @property
    def runtime(self) -> Path:
        """The short folder of sockets."""
        return RUNTIME_PARENT / f"gfe-{os.geteuid()}-{self.tag}"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data."""
        return self.root / "postgres"

    @property
    def secrets(self) -> Path:
        """The ledger's secrets, and those of upgrades and commands; one file per secret."""
        return self.root / "secrets"

    @property
    def ray_secrets(self) -> Path:
        """What Ray's processes may read: Serve's own key and login, the cluster's token."""
        return self.root / "ray_secrets"

    @property
    def edge_secrets(self) -> Path:
        """What the edge gateway may read: its own key, and Serve's public one."""
        return self.root / "edge_secrets"

    @property
    def guard_secrets(self) -> Path:
        """What the dashboard guard may read: its own key, and a copy of the cluster's token."""
        return self.root / "guard_secrets"

    @property
    def mail(self) -> Path:
        """Mail that was written into files."""
        return self.root / "mail"

    @property
    def models(self) -> Path:
        """Models of the embedded runtime."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is true of the running installation: state, ports."""
        return self.root / "run"

    @property
    def state_file(self) -> Path:
        """The supervisor's state, written atomically."""
        return self.run / "state.json"

    @property
    def ports_file(self) -> Path:
        """The ports that the last start took; the next takes the same."""
        return self.run / "ports.json"

    @property
    def node_address_file(self) -> Path:
        """Where joining nodes reach this machine; null: on loopback, nobody can."""
        return self.run / "node_address.json"

    @property
    def last_backup_file(self) -> Path:
        """When the last backup was written, and where to."""
        return self.run / "last_backup.json"

    @property
    def lock_file(self) -> Path:
        """Locked as long as anything of the installation runs."""
        return self.runtime / "lock"

    @property
    def control_socket(self) -> Path:
        """Where commands speak to the supervisor."""
        return self.runtime / "control.sock"

    @property
    def reserved_file(self) -> Path:
        """The ports of the running installation, for others of the same user to keep clear of."""
        return self.runtime / "ports.json"

    @property
    def ledger_socket(self) -> Path:
        """Where the ledger's internal operations listen."""
        return self.runtime / "ledger" / "internal.sock"

    @property
    def postgres_socket(self) -> Path:
        """The folder of PostgreSQL's socket."""
        return self.runtime / "postgres"

    @property
    def ray(self) -> Path:
        """Ray's temp folder; Ray itself opens it to everybody."""
        return self.rays / "t"

    @property
    def rays(self) -> Path:
        """The closed folder around it."""
        return self.runtime / "ray"

    @property
    def haproxy(self) -> Path:
        """HAProxy's configuration and sockets; below it Ray makes a folder whose name has 56 characters, and HAProxy takes 97 in all."""
        return self.runtime / "h"

    @property
    def haproxy_wrapper(self) -> Path:
        """What starts HAProxy; not in HAProxy's own folder, which belongs to whoever runs Ray."""
        return self.runtime / "haproxy-loopback"

    @property
    def notes(self) -> Path:
        """What the worker of this machine keeps over its restarts."""
        return self.runtime / "notes"

    def make(self) -> None:
        """Make the folders, closed to others.

        Raises:
            HomeUnusable: A folder cannot be made or written, or somebody else owns the runtime folder.
        """
        try:
            for folder in (
                self.root,
                self.secrets,
                self.ray_secrets,
                self.edge_secrets,
                self.guard_secrets,
                self.models,
                self.logs,
                self.run,
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.run / f".write-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as refused:
            raise HomeUnusable(
                f"the folder {self.root} cannot be written: {refused.strerror}", "set GFE_HOME to a folder of yours, e.g. GFE_HOME=~/gfe"
            ) from refused
        self.make_runtime()

    def make_runtime(self) -> None:
        """Make the short folder of sockets, and those inside.

        Raises:
            HomeUnusable: Somebody else owns it.
        """
        # Root's folder may be passed through, for PostgreSQL, the ledger and Ray run as other users then; each folder inside is closed by itself.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self.runtime.mkdir(mode=mode, exist_ok=True)
        found = self.runtime.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise HomeUnusable(f"{self.runtime} belongs to somebody else", "remove it, or set GFE_HOME to another folder")
        self.runtime.chmod(mode)
        for folder in (self.ledger_socket.parent, self.rays, self.haproxy, self.notes):
            folder.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old or the new text, never a part."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(json.dumps(value, indent=1))
    half.replace(path)


def read_json(path: Path) -> Any:
    """Read JSON; None when there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
