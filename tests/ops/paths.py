"""Where the Caddyfile sends a path: the matchers of its `route` block in their order (Caddy's documentation, `path` matcher)."""

import re
from fnmatch import fnmatchcase


def destination(caddyfile: str, path: str) -> str:
    """Name who answers a path: `host:port`, or a status."""
    matchers = {name: words.split() for name, words in re.findall(r"^\s*@(\w+) path (.*)$", caddyfile, re.MULTILINE)}
    for name, to in re.findall(r"^\t\t(?:respond|reverse_proxy) (?:@(\w+) )?(\S+)", caddyfile, re.MULTILINE):
        if not name or any(_fits(path.lower(), pattern.lower()) for pattern in matchers[name]):
            return to
    raise AssertionError("no directive takes what is left")


def _fits(path: str, pattern: str) -> bool:
    """A star at the end stands for anything, in the middle for one name; capitals do not count."""
    if pattern.endswith("*") and "*" not in pattern[:-1]:
        return path.startswith(pattern[:-1])
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))
