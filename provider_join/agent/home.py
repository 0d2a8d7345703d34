"""Where an agent keeps what it needs: `$GFE_AGENT_HOME`, default `~/.gfe/agent`, closed to others."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

MAX_SOCKET_PATH = 100  # bytes; the kernel takes 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """What the platform said when this machine enrolled. `code` is a digest of the code that was used."""

    node: str
    url: str
    ws_url: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class AgentHome:
    """The folder of one agent."""

    root: Path

    @classmethod
    def of_environment(cls) -> "AgentHome":
        """Find the one that this environment names."""
        named = os.environ.get("GFE_AGENT_HOME")
        return cls(Path(named).expanduser().absolute() if named else Path.home() / ".gfe" / "agent")

    @property
    def key(self) -> Path:
        """The private key of this node, 0600; it never leaves the machine."""
        return self.root / "key"

    @property
    def next_key(self) -> Path:
        """A key that is being enrolled: kept until the platform has answered, so that a lost answer can be asked for again."""
        return self.root / "key.new"

    @property
    def enrolled(self) -> Path:
        """What the platform said at enrollment."""
        return self.root / "node.json"

    @property
    def outbox(self) -> Path:
        """Ended attempts that the platform has not acknowledged."""
        return self.root / "outbox"

    @property
    def models(self) -> Path:
        """Models of the embedded runtime."""
        return self.root / "models"

    @property
    def compiled(self) -> Path:
        """The agent's program as Python compiled it."""
        return self.root / "compiled"

    @property
    def paused(self) -> Path:
        """There while the owner wishes no jobs."""
        return self.root / "paused"

    @property
    def log(self) -> Path:
        """What the agent noted; no prompt, no answer."""
        return self.root / "agent.log"

    @property
    def lock(self) -> Path:
        """Held by the one agent that runs in this home."""
        return self.root / "lock"

    @property
    def socket(self) -> Path:
        """Where a running agent is asked and told; elsewhere when the home's path is too long for a socket."""
        path = self.root / "control.sock"
        if len(str(path).encode()) <= MAX_SOCKET_PATH:
            return path
        tag = blake2b(str(self.root).encode(), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"gfe-agent-{os.getuid()}-{tag}" / "control.sock"

    def make(self) -> None:
        """Make the folders, closed to others."""
        for folder in (self.root, self.outbox, self.socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)

    def enrollment(self) -> Enrollment | None:
        """Read what is known of this node; None: it is not enrolled."""
        try:
            return Enrollment(**json.loads(self.enrolled.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep_enrollment(self, enrollment: Enrollment) -> None:
        """The new key is this node's from now on."""
        write_closed(self.enrolled, json.dumps(asdict(enrollment)).encode())
        self.next_key.replace(self.key)


def write_closed(path: Path, content: bytes) -> None:
    """Write a file that its owner alone reads, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)
