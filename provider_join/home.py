"""Where a joined machine keeps what it needs: `$GFE_NODE_HOME`, default `~/.local/share/gfe-node`, closed to others."""

import os
import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The folder of one joined node."""

    root: Path

    @classmethod
    def of_environment(cls) -> "NodeHome":
        """Find the one that this environment names."""
        named = os.environ.get("GFE_NODE_HOME")
        return cls(Path(named).expanduser().absolute() if named else Path.home() / ".local" / "share" / "gfe-node")

    @property
    def token_file(self) -> Path:
        """Ray's token, 0400."""
        return self.root / "ray_token"

    @property
    def invite_file(self) -> Path:
        """The invite, for a start without anybody there, 0400."""
        return self.root / "invite"

    @property
    def notes(self) -> Path:
        """What this program and the worker tell each other: `offer`, `drain`, `drained`; and the worker itself after a restart: `draining`."""
        return self.root / "notes"

    @property
    def state_file(self) -> Path:
        """Which process joined."""
        return self.root / "joined.json"

    @property
    def log(self) -> Path:
        """What Ray said."""
        return self.root / "ray.log"

    @property
    def models(self) -> Path:
        """Models of the embedded runtime."""
        return self.root / "models"

    @property
    def tag(self) -> str:
        """A short name: the same for the same folder."""
        return "node-" + blake2b(str(self.root).encode(), digest_size=4).hexdigest()

    @property
    def ray(self) -> Path:
        """Ray's own folder; its path is short, for Ray keeps sockets below."""
        return Path(tempfile.gettempdir()) / f"gfe-{os.geteuid()}-{self.tag}"

    def make(self) -> None:
        """Make the folders, closed to others; what an earlier join noted is gone."""
        for folder in (self.root, self.notes, self.ray):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        for name in ("offer", "drain", "drained", "draining"):
            (self.notes / name).unlink(missing_ok=True)

    def forget_visit(self) -> None:
        """Forget that the head was here, and which cluster Ray joined: both are to be found out anew."""
        (self.notes / "offer").unlink(missing_ok=True)
        (self.ray / "ray_current_cluster").unlink(missing_ok=True)

    def keep_secret(self, path: Path, text: str) -> None:
        """Write a file that its owner alone reads."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(text)
