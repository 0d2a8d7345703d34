"""Every `GFE_…` name that means something here, and what to say about one that does not: a mistyped setting would be ignored in silence."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from ledger.settings import LedgerSettings
from serve_app.auditor.settings import AuditorSettings
from serve_app.edge.settings import EdgeSettings
from serve_app.local.errors import Refused
from serve_app.settings import ServeSettings

PREFIX = "GFE_"

# Names that are read before there is a settings class to read them with, or by commands.
OF_COMMANDS = {
    "GFE_HOME": "Folder of the installation; default `~/.local/share/gfe`.",
    "GFE_PYTHON": "Python that `./gfe` makes its environment with.",
    "GFE_DATABASE_URL": "A PostgreSQL of yours, as a superuser or the owner of an empty database; unset: the embedded one.",
    "GFE_OLLAMA_URL": "An Ollama to use; unset: one that answers on this machine, or else the embedded runtime.",
    "GFE_MODEL_MIRROR": "Folder with models that the embedded runtime knows, as `<sha256>.gguf`.",
    "GFE_MODEL_URLS": "Addresses below which those files are, joined by commas.",
    "GFE_NODE_ADDRESS": "Address of this machine that joining nodes reach; unset: loopback, and nobody can join.",
    "GFE_LEDGER_USER": (
        "Who runs the ledger when root starts the platform, by name or number; unset: `gfe-ledger`, or the number 60900 where there is no "
        "such account. `none`: everything runs as root, and no machine should join."
    ),
    "GFE_RAY_USER": "The same for Ray and all that it starts; unset: `gfe-ray`, or the number 60901.",
    "GFE_EDGE_USER": "The same for the edge gateway; unset: `gfe-edge`, or the number 60902.",
    "GFE_INGRESS": "`default` uses Ray's own ingress in place of HAProxy.",
    "GFE_AGENT_HOME": "Folder of an agent; default `~/.gfe/agent`.",
    "GFE_API_KEY": "Key that the `gfe` commands of a consumer use; unset: the installation's first one.",
    "GFE_CONSOLE_URL": "Where those commands reach accounts and wallet.",
    "GFE_TEST_DATABASE_URL": "A PostgreSQL for the tests; unset: the embedded one.",
}
_SET_BY_US = frozenset({"GFE_INSTALLATION", "GFE_PART", "GFE_BENCH_STUB"})


@dataclass(frozen=True, slots=True)
class SettingName:
    """One setting, for the reference."""

    name: str
    default: str
    description: str
    read_by: str


def settings() -> Iterator[SettingName]:
    """List every setting, by who reads it."""
    for name, description in OF_COMMANDS.items():
        yield SettingName(name, "", description, "commands")
    readers = ("ledger", LedgerSettings), ("job APIs", ServeSettings), ("edge gateway", EdgeSettings), ("auditor", AuditorSettings)
    for reader, model in readers:
        for name, field in model.model_fields.items():
            default = "" if field.default in (PydanticUndefined, None) else str(field.default)
            alias = field.validation_alias
            written = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{name.upper()}"
            yield SettingName(written, default, field.description or "", reader)


def require_known(environment: Iterable[str]) -> None:
    """Refuse names that begin as ours do and mean nothing.

    Raises:
        Refused: One is unknown; the hint names the nearest known one.
    """
    known = {setting.name for setting in settings()} | _SET_BY_US
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? Else unset it" if near else "unset it; docs/reference/settings.md lists all"
            raise Refused(f"the environment sets {name}, which no part of GPU-For-Everyone reads", hint)
