"""Builds the Dockerfile's targets without a container engine: what stands in for the base image is this machine's system and Python.

`unshare --mount python -m tests.ops.built FOLDER TARGET …` (as root). Each stage is an overlay over the one that it begins with, `COPY` copies,
`RUN` runs in it by chroot. What is made of each target is told in `FOLDER/built.json`: its layers, the topmost first, and its settings.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.ops.dockerfile import Dockerfile, Instruction, Stage, ignored, parse

ROOT = Path(__file__).parents[2]
SYSTEM = ("usr",)  # this machine's own, read only
LINKS = ("bin", "lib", "lib64", "sbin")
PASSED_ON = ("PIP_", "NPM_CONFIG_", "HTTP_", "HTTPS_", "NO_PROXY", "SSL_CERT_", "NODE_EXTRA_CA")  # how packages are reached here
# In a mount namespace of its own: the system and Python, as the base image would have them, below $1; then what follows $2 in there.
ENTER = (
    'mount --bind /usr "$1/usr" && mount --bind "$2" "$1/usr/local" && mount -o remount,bind,ro "$1/usr" && mount -o remount,bind,ro "$1/usr/local" '
    '&& mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && root=$1 && shift 2 && exec chroot "$root" "$@"'
)


def why_not() -> str | None:
    """Tell why nothing can be built here; None: it can."""
    if os.geteuid() != 0:
        return "a chroot needs root"
    if not (Path(sys.base_prefix) / "bin/pip").exists() or sys.base_prefix == "/usr":
        return "it needs a Python with pip in a folder of its own, as the base image has"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"mount namespaces cannot be made here: {done.stderr.strip()}"


@dataclass
class Image:
    """A stage as it was built: folders over each other, the topmost first, and what it tells its processes."""

    layers: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


class Builder:
    def __init__(self, folder: Path, dockerfile: Dockerfile) -> None:
        self._folder, self._dockerfile = folder, dockerfile
        self._images: dict[str, Image] = {}
        self._ignore = (ROOT / ".dockerignore").read_text()

    def build(self, name: str) -> Image:
        """Build a stage, and before it what it begins with."""
        if name not in self._images:
            stage = self._dockerfile.stages[name]
            base = self.build(stage.base) if stage.base in self._dockerfile.stages else self._base()
            self._images[name] = self._built(stage, base)
        return self._images[name]

    def _base(self) -> Image:
        bottom = self._folder / "base"
        for name in (*SYSTEM, "dev", "proc", "run", "var/lib", "opt", "root", "srv"):
            (bottom / name).mkdir(parents=True, exist_ok=True)
        (bottom / "tmp").mkdir(exist_ok=True)
        (bottom / "tmp").chmod(0o1777)
        for name in LINKS:
            if not (bottom / name).is_symlink() and Path("/", name).is_symlink():
                (bottom / name).symlink_to(f"usr/{name}")
        if not (bottom / "etc").exists():
            shutil.copytree("/etc", bottom / "etc", symlinks=True, ignore_dangling_symlinks=True)
        passed = {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}
        image = Image([str(bottom)], {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **passed})
        self._run("ldconfig", image, bottom)  # the libraries of that Python before those of this machine's
        return image

    def _built(self, stage: Stage, base: Image) -> Image:
        upper, work, root = (self._folder / kind / stage.name for kind in ("layers", "work", "mounted"))
        for one in (upper, work, root):
            one.mkdir(parents=True)
        options = f"lowerdir={':'.join(base.layers)},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
        image = Image([str(upper), *base.layers], dict(base.environment), base.folder, base.user, base.command, base.health)
        for one in stage.instructions:
            sys.stdout.write(f"{stage.name}, line {one.line}: {one.name} {one.text[:100]}\n")
            sys.stdout.flush()
            self._take(one, image, root)
        return image

    def _take(self, one: Instruction, image: Image, root: Path) -> None:
        match one.name:
            case "ENV":
                for word in shlex.split(one.text):
                    name, _, value = word.partition("=")
                    image.environment[name] = re.sub(r"\$(\w+)", lambda match: image.environment.get(match[1], ""), value)
            case "WORKDIR":
                image.folder = one.text
                (root / one.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = one.text
            case "COPY":
                self._copy(one, image, root)
            case "RUN":
                self._run(one.text, image, root)
            case "CMD" | "ENTRYPOINT":
                image.command = one.words
            case "HEALTHCHECK":
                image.health = [] if one.text == "NONE" else json.loads(one.text.removeprefix("CMD "))
            case "EXPOSE" | "VOLUME":
                pass
            case other:
                raise ValueError(f"{other} is not understood here")

    def _copy(self, one: Instruction, image: Image, root: Path) -> None:
        *sources, target = one.words
        place = root / (target if target.startswith("/") else f"{image.folder}/{target}").lstrip("/")
        stage = one.flags.get("from")
        origin = ROOT if stage is None else self._folder / "mounted" / stage
        if stage is not None:
            self.build(stage)
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=self._left_out if stage is None else None)
                continue
            into = place / found.name if target.endswith("/") or len(sources) > 1 else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into)
            if "chmod" in one.flags:
                into.chmod(int(one.flags["chmod"], 8))

    def _left_out(self, folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(ROOT)
        return {name for name in names if ignored(str(inside / name), self._ignore)}

    def _run(self, text: str, image: Image, root: Path) -> None:
        settings = [f"{name}={value}" for name, value in image.environment.items()]
        inside = ["/usr/bin/env", "-i", "-C", image.folder, *settings, "/bin/sh", "-c", text]
        subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", str(root), sys.base_prefix, *inside], check=True
        )


def main(folder: Path, targets: list[str]) -> None:
    builder = Builder(folder, parse((ROOT / "Dockerfile").read_text()))
    images = {name: asdict(builder.build(name)) for name in targets}
    (folder / "built.json").write_text(json.dumps(images, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
