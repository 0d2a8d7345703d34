"""Every `GFE_…` name that means something here, and what to say about one that does not: a mistyped setting would be ignored in silence."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from ledger.settings import LedgerSettings
from serve_app.auditor.settings import AuditorSettings
from serve_app.dashboard_guard.settings import GuardSettings
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
    "GFE_GUARD_USER": "The same for the dashboard guard; unset: `gfe-guard`, or the number 60908.",
    "GFE_INGRESS": "`default` uses Ray's own ingress in place of HAProxy.",
    "GFE_AGENT_HOME": "Folder of an agent; default `~/.gfe/agent`.",
    "GFE_API_KEY": "Key that the `gfe` commands of a consumer use; unset: the installation's first one.",
    "GFE_CONSOLE_URL": "Where those commands reach accounts and wallet.",
    "GFE_SKIP_CONSOLE": "Anything but 0: the console is not built.",
    "GFE_TEST_DATABASE_URL": "A PostgreSQL for the tests; unset: the embedded one.",
    "GFE_HELM": "The program `helm`, for the chart's tests; unset: the one on the path, or one that is fetched.",
    "GFE_KUBERNETES_VALIDATE": "The program `kubernetes-validate`, for the same.",
    "GFE_KUBERAY_CRDS": "Folder with KubeRay's definitions of its resources (and others', if there are), for the same.",
}
# What a node says for itself, in the environment of its `ray start` (cluster/worker_settings.py).
OF_NODES = {
    "GFE_NODE_RUNTIME_URL": "The Ollama API that this node's worker uses. Unset: all of these are as the job APIs were told.",
    "GFE_NODE_HOST": "Address on which its worker serves the node protocol.",
    "GFE_NODE_PORT": "Port of that; unset: any.",
    "GFE_NODE_SLOTS": "Jobs that it runs at once; unset: what its runtime says.",
    "GFE_NODE_ZONE": "Where it stands, in your words.",
    "GFE_NODE_GPUS": "GPUs to pretend, as `GFE_SIMULATED_GPUS`.",
    "GFE_NODE_PULL": "Whether it fetches models that its operator names.",
    "GFE_NODE_PARTIAL": "Whether models that only partly fit into its GPU are used, slowly.",
    "GFE_NODE_NOTES": "Folder in which its worker keeps what must outlive it; unset: nothing is kept.",
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
    for name, description in OF_NODES.items():
        yield SettingName(name, "", description, "a node's worker")
    readers = (
        ("ledger", LedgerSettings),
        ("job APIs", ServeSettings),
        ("edge gateway", EdgeSettings),
        ("auditor", AuditorSettings),
        ("dashboard guard", GuardSettings),
    )
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
