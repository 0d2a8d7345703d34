"""A Dockerfile as data, and our rules for it. Pure: who calls gives the text and the repository's files."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch

SECRET = re.compile(r"(PASSWORD|TOKEN|SECRET|CREDENTIAL|PRIVATE|API_?KEY)", re.IGNORECASE)
PATHS_OF_SECRETS = frozenset({"GFE_SECRETS_DIR"})
PROGRAMS = "/opt/gfe"


@dataclass(frozen=True)
class Instruction:
    line: int
    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """What stands behind the name: JSON's list, or words."""
        return list(json.loads(self.text)) if self.is_exec_form else shlex.split(self.text)

    @property
    def is_exec_form(self) -> bool:
        return self.text.startswith("[")


@dataclass
class Stage:
    name: str
    base: str
    line: int
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]


@dataclass
class Dockerfile:
    arguments: dict[str, str]  # before the first stage, with their defaults
    stages: dict[str, Stage]

    def chain(self, name: str) -> list[Stage]:
        """A stage and what it begins with, the outermost first."""
        stage = self.stages[name]
        return [*(self.chain(stage.base) if stage.base in self.stages else []), stage]

    def targets(self) -> list[str]:
        """The stages that nothing else is made from: what people build."""
        used = {stage.base for stage in self.stages.values()}
        used |= {copy.flags["from"] for stage in self.stages.values() for copy in stage.all("COPY") if "from" in copy.flags}
        return [name for name in self.stages if name not in used]


def parse(text: str) -> Dockerfile:
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for one in _instructions(text):
        if one.name == "FROM":
            words = one.text.split()
            name = words[2] if len(words) == 3 and words[1].upper() == "AS" else f"stage at line {one.line}"
            if name in stages:
                raise ValueError(f"two stages are called {name}")
            current = stages[name] = Stage(name, words[0], one.line)
        elif current is None:
            name, _, default = one.text.partition("=")
            arguments[name] = default
        else:
            current.instructions.append(one)
    return Dockerfile(arguments, stages)


def _instructions(text: str) -> Iterator[Instruction]:
    parts: list[str] = []
    began = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not parts):
            continue
        began = began if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            flags = {}
            while match := re.match(r"--([\w-]+)=(\S+)\s*", rest):
                flags[match[1]] = match[2]
                rest = rest[match.end() :]
            yield Instruction(began, name.upper(), flags, rest.strip())
            parts = []


def ignored(path: str, patterns: str) -> bool:
    """Whether `.dockerignore` keeps a path from the builder: the last pattern that fits decides (Docker's documentation, `.dockerignore`)."""
    found = False
    for line in patterns.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and _fits(path, pattern.removeprefix("!").strip("/")):
            found = not pattern.startswith("!")
    return found


def _fits(path: str, pattern: str) -> bool:
    """Whether a pattern names the path or a folder above it."""
    parts = path.split("/")
    return any(_matches("/".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        parts = path.split("/")
        return any(_matches("/".join(parts[start:]), pattern[3:]) for start in range(len(parts)))
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(fnmatch(name, one) for name, one in zip(names, wanted, strict=True))


def problems(text: str, files: list[str], dockerignore: str) -> list[str]:
    """Every breach of the rules; `files`: the repository's, by their paths."""
    dockerfile = parse(text)
    found = list(_of_bases(dockerfile))
    for stage in dockerfile.stages.values():
        for one in stage.instructions:
            found += [f"line {one.line}: {said}" for said in _of_instruction(one, dockerfile, stage, files, dockerignore)]
    for name in dockerfile.targets():
        found += [f"target {name}: {said}" for said in _of_target(dockerfile, name)]
    return found


def _of_bases(dockerfile: Dockerfile) -> Iterator[str]:
    known: set[str] = set()
    for stage in dockerfile.stages.values():
        if stage.base not in known:
            match = re.fullmatch(r"\$\{(\w+)\}\$\{(\w+):\+@\$\{\2\}\}", stage.base)
            if match is None:
                yield f"line {stage.line}: the base {stage.base} is not pinned by an argument of its digest"
                continue
            if any(name not in dockerfile.arguments for name in match.groups()):
                yield f"line {stage.line}: an argument of the base is not declared before the first stage"
            image = dockerfile.arguments.get(match[1], "")
            if ":" not in image or image.endswith(":latest"):
                yield f"line {stage.line}: the base image {image} needs a tag, and not `latest`"
        known.add(stage.name)


def _of_instruction(one: Instruction, dockerfile: Dockerfile, stage: Stage, files: list[str], dockerignore: str) -> Iterator[str]:
    match one.name:
        case "ADD":
            yield "ADD unpacks and downloads: COPY what is here"
        case "COPY":
            yield from _of_copy(one, dockerfile, stage, files, dockerignore)
        case "CMD" | "ENTRYPOINT" | "HEALTHCHECK":
            yield from _of_command(one)
        case "ENV" | "ARG":
            names = (word.partition("=")[0] for word in shlex.split(one.text))
            yield from (f"{name} looks like a secret" for name in names if SECRET.search(name) and name not in PATHS_OF_SECRETS)
        case "RUN":
            yield from _of_run(one.text)
    if one.name == "WORKDIR" and not one.text.startswith("/"):
        yield "WORKDIR is relative"
    if one.name == "USER" and not re.fullmatch(r"\d+:\d+", one.text):
        yield "USER by name: Kubernetes cannot tell that it is not root"


def _of_command(one: Instruction) -> Iterator[str]:
    is_health = one.name == "HEALTHCHECK"
    if one.text != "NONE" and not one.text.removeprefix("CMD " if is_health else "").startswith("["):
        yield f"{one.name} in shell form: signals would reach the shell"
    if is_health and re.search(r"curl|wget", one.text):
        yield "HEALTHCHECK by a program that the image lacks"


def _of_copy(one: Instruction, dockerfile: Dockerfile, stage: Stage, files: list[str], dockerignore: str) -> Iterator[str]:
    *sources, target = one.words
    if not target.startswith("/") and not any(earlier.all("WORKDIR") for earlier in dockerfile.chain(stage.name)):
        yield "COPY to a relative path without a WORKDIR"
    if (other := one.flags.get("from")) is not None:
        if other not in list(dockerfile.stages)[: list(dockerfile.stages).index(stage.name)]:
            yield f"COPY from {other}, which is no earlier stage"
        return
    for source in sources:
        inside = [path for path in files if path == source or path.startswith(f"{source.rstrip('/')}/")]
        if source in {".", "./", "*"}:
            yield "COPY of everything"
        elif not inside:
            yield f"COPY of {source}, which is not in the repository"
        elif all(ignored(path, dockerignore) for path in inside):
            yield f"COPY of {source}, which .dockerignore keeps back"


def _of_run(text: str) -> Iterator[str]:
    for command in re.split(r"&&|\|\||;", text):
        if re.search(r"\bpip\b.*\binstall\b", command) and not re.search(r"--require-hashes|--no-index", command):
            yield "pip without hashes"
        if re.search(r"\b(curl|wget)\b", command):
            yield "a download without a hash"
        if re.search(r"\bsudo\b", command):
            yield "sudo"
        if re.search(r"apt-get install", command) and "--no-install-recommends" not in command:
            yield "apt-get with what it recommends"
        if re.search(r"chmod\s+(-R\s+)?[0-7]*7[0-7]*7\b", command):
            yield "a file that everybody may write"
    if re.search(r"\|\|\s*true\b", text):
        yield "a failure that nobody sees"


def _of_target(dockerfile: Dockerfile, name: str) -> Iterator[str]:
    instructions = [one for stage in dockerfile.chain(name) for one in stage.instructions]
    users = [one.text for one in instructions if one.name == "USER"]
    if not users or users[-1].startswith(("0", "root")):
        yield "runs as root"
    if not any(one.name == "HEALTHCHECK" for one in instructions):
        yield "has no health check, and does not say NONE"
    if not any(one.name in {"CMD", "ENTRYPOINT"} for one in instructions):
        yield "has no command"
    for copy in (one for one in instructions if one.name == "COPY" and one.words[-1] == PROGRAMS):
        runs = (
            " && ".join(one.text for one in dockerfile.stages[copy.flags["from"]].all("RUN"))
            if copy.flags.get("from") in dockerfile.stages
            else ""
        )
        if "compileall" not in runs or runs.rfind("compileall") < runs.rfind(" install "):
            yield "has programs without compiled bytecode: Ray would not start in time"
