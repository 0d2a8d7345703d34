"""What the layout promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "ledger", "serve_app", "provider_join")


def tracked():
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_roots_are_empty_so_that_importing_one_module_loads_no_other(package):
    assert not (ROOT / package / "__init__.py").read_text().strip()


def test_the_import_contracts_hold():
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("ledger.client", {"sqlalchemy", "psycopg", "fastapi", "ray"}),
        ("serve_app.cli", {"ray", "fastapi", "sqlalchemy", "psycopg", "httpx2", "aiohttp"}),
        ("cluster.runtime.ollama", {"ray", "fastapi"}),
        ("serve_app.edge.running", {"ray", "fastapi", "sqlalchemy", "psycopg"}),
    ],
)
def test_importing_stays_light(module, unwanted):
    code = f"import sys, {module}; print(' '.join(sorted({unwanted!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_loads_no_command():
    code = "import sys; sys.argv = ['gfe', '--help']\nfrom serve_app.cli import app\ntry: app()\nexcept SystemExit: pass\n"
    code += (
        "print('loaded:', [name for name in ('ray', 'fastapi', 'sqlalchemy', 'httpx2', 'serve_app.local.commands') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout


def test_no_file_names_a_registry_or_a_development_machine():
    forbidden = re.compile(
        "|".join(("registry" + r"\.npmjs\.org", "pypi" + r"\.org", "files" + r"\.pythonhosted\.org", "/wo" + "rk/", "/far" + "m/"))
    )
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in tracked()
        if path.suffix not in {".gguf", ".png"}
        for match in forbidden.findall(path.read_text(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "clients.txt"])
def test_every_pin_has_a_version_and_hashes(name):
    text = (ROOT / "requirements" / name).read_text()
    pins = re.split(r"\n(?=[a-zA-Z])", text.strip())
    assert len(pins) > 30
    assert [pin.splitlines()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_the_license_is_the_one_that_is_claimed():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


def test_every_error_of_the_ledger_and_of_serve_has_a_row_in_its_table():
    from cluster.errors import ClusterError
    from ledger.errors import LedgerError
    from ledger.problems import status_of
    from serve_app.errors import ServeError
    from serve_app.problems import TABLE

    def all_below(kind):
        return {kind}.union(*(all_below(below) for below in kind.__subclasses__()))

    assert [kind for kind in all_below(LedgerError) - {LedgerError} if status_of(kind.__new__(kind))[0] == 500] == []
    internal = {"RequestReplayed", "NodeBusy", "AttemptSuperseded", "NotFound"}
    internal |= {
        "InvalidFields",
        "TooManyAgents",
        "NoSuchAgentToken",
        "KeyInUse",
        "NetworkFull",
        "GatewayUnavailable",
        "PaymentEnded",
        "AppealOpen",
        "AppealDecided",
    }  # answered by the ledger's public port only
    for root in (ServeError, ClusterError, LedgerError):
        unlisted = [kind.__name__ for kind in all_below(root) - {root} if not any(parent in TABLE for parent in kind.__mro__)]
        assert set(unlisted) <= internal | {"InvalidRequest"}


def test_every_error_survives_pickling():
    import pickle

    from cluster import errors as cluster_errors
    from ledger import errors as ledger_errors

    samples = {"int": 3, "str": "x", "float": 1.5, "tuple": ("a",), "dict": {"a": ["b"]}, "str | None": None}
    for module in (cluster_errors, ledger_errors):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, Exception):
                hints = {key: value for key, value in getattr(kind.__init__, "__annotations__", {}).items() if key != "return"}
                arguments = [samples[getattr(hint, "__name__", str(hint)).split("[")[0]] for hint in hints.values()]
                made = kind(*arguments)
                again = pickle.loads(pickle.dumps(made))
                assert (type(again), vars(again), str(again)) == (kind, vars(made), str(made)), name
