"""The table of docs/compatibility.md: what a run of these tests showed. Pure.

A module of tests is a client (its `CLIENT`, or `CLIENTS` by provider); the first word of a test's name is the feature that it shows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

COMMAND = "./gfe test tests/clients --compatibility docs/compatibility.md"
FEATURES = {
    "chat": "an answer, whole",
    "stream": "an answer, piece by piece",
    "limit": "no more tokens than asked for",
    "tools": "calls of functions, and their results",
    "forced": "a tool that must be called",
    "schema": "an answer that a JSON schema describes",
    "logprobs": "how likely each token was",
    "images": "images beside the text",
    "thinking": "what was thought, apart from what was said",
    "embeddings": "vectors",
    "models": "the list of models",
    "errors": "errors arrive as the client's own kinds",
    "cancel": "leaving a stream stops the node",
    "repeat": "a repeat under its `Idempotency-Key`: one job, one charge",
}
PASSED = "passed"
NOT_SHOWN = "no test shows it"
CONTRADICTED = "a test shows what the client is said not to have"
ABSENT = "not in this client"


@dataclass(frozen=True)
class Client:
    """Whose client it is, and how it is pointed at us. Features that it does not have are `absent`, each with a reason; `noted` says
    what one has to know to use others."""

    name: str
    version: str
    pointed: str
    absent: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What one test showed. `why` is for tests that failed or did not run."""

    client: Client
    feature: str
    outcome: str  # passed, failed, skipped
    why: str = ""


def feature_of(test: str) -> str | None:
    """Tell by a test's name which feature it shows."""
    word = test.removeprefix("test_").split("_")[0].split("[")[0]
    return word if word in FEATURES else None


def not_run(shown: Iterable[Shown]) -> dict[str, str]:
    """Name the clients that were not there to be run, each with the reason."""
    return {one.client.name: one.why for one in shown if one.outcome == "skipped"}


def cells_of(clients: Iterable[Client], shown: Iterable[Shown]) -> dict[str, dict[str, str]]:
    """Judge each client (by name) and feature."""
    return {client.name: {feature: _cell(client, feature, shown) for feature in FEATURES} for client in clients}


def _cell(client: Client, feature: str, shown: Iterable[Shown]) -> str:
    found = [one for one in shown if one.client.name == client.name and one.feature == feature]
    if feature in client.absent:
        return CONTRADICTED if found else f"{ABSENT}: {client.absent[feature]}"
    for one in found:
        if one.outcome != PASSED:
            return f"{one.outcome}: {one.why}"
    if not found:
        return NOT_SHOWN
    return f"{PASSED}: {client.noted[feature]}" if feature in client.noted else PASSED


def is_passed(cell: str) -> bool:
    """Whether a cell says that it works."""
    return cell.startswith(PASSED)


def page(clients: Iterable[Client], cells: Mapping[str, Mapping[str, str]]) -> str:
    """Write the page."""
    clients = sorted(clients, key=lambda client: client.name)
    notes: list[str] = []

    def told(cell: str) -> str:
        if cell == PASSED:
            return cell
        if cell not in notes:
            notes.append(cell)
        return f"{PASSED if is_passed(cell) else 'no'} ({notes.index(cell) + 1})"

    rows = [[f"**{feature}**: {text}", *(told(cells[client.name][feature]) for client in clients)] for feature, text in FEATURES.items()]
    pointing = [[client.name, client.version, client.pointed] for client in clients]
    lines = [
        "# Which client works",
        "",
        f"Written by a run of `tests/clients`, each client as its authors publish it: `{COMMAND}`. A run of these tests fails where it shows",
        "something else than this page says. What the API serves and refuses is in [concepts/apis.md](concepts/apis.md).",
        "",
        *_table(["", *(client.name for client in clients)], rows),
        "",
        *(f"{n}. {note.removeprefix(f'{PASSED}: ')}" for n, note in enumerate(notes, 1)),
        "",
        "## Pointing a client here",
        "",
        "`URL` is the address that `./gfe up` prints (`http://127.0.0.1:8000`), `KEY` one of `./gfe keys create`.",
        "",
        *_table(["client", "version", "how"], pointing),
    ]
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def differing(text: str, clients: Iterable[Client], cells: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Name, by client, the features of which a page says something else than that they work or do not."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(("|  |", "| **"))]
    head, written = rows[0], {row[0].split("**")[1]: row for row in rows[1:]}
    found = {
        client.name: [
            feature
            for feature, cell in cells[client.name].items()
            if client.name not in head or is_passed(written[feature][head.index(client.name)]) != is_passed(cell)
        ]
        for client in clients
    }
    return {name: features for name, features in found.items() if features}
