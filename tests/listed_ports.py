"""The ports of an installation as docs/operations.md lists them, and which of them a socket has."""

from dataclasses import dataclass
from pathlib import Path

from cluster import processes
from serve_app.local.client import kind_of
from serve_app.local.listening import Listening
from serve_app.local.ports import REPLICA_WINDOW, WORKER_WINDOW

OPERATIONS = Path(__file__).parents[1] / "docs/operations.md"
WINDOWS = {"worker_window": WORKER_WINDOW, "replica_window": REPLICA_WINDOW, "replica_grpc_window": REPLICA_WINDOW}
NOTHING, EVERYWHERE = "nothing listens", "all interfaces"


@dataclass(frozen=True)
class Row:
    """A row of the documents' table."""

    port: str
    name: str
    bound: str


def listed() -> dict[str, Row]:
    """The table of ports in docs/operations.md, by name."""
    text = OPERATIONS.read_text()
    table = text[text.index("| Port | Name | What | Bound to |") :].split("\n\n", 1)[0]
    rows = [[cell.strip().strip("`*") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: Row(port, name, bound) for port, name, _, bound in rows}


def name_of(socket: Listening, ports: dict[str, int]) -> str:
    """The name that a socket's port has in `run/ports.json`; of ports that nobody chose, the kind of the process."""
    for name, first in ports.items():
        if name != "base" and first <= socket.port < first + WINDOWS.get(name, 1):
            return name
    return str(kind_of(processes.words_of(socket.pid)))
