"""What stands behind the guard, and what of a request and of an answer passes: pure.

Headers pass by name; everything else stays here, so a cookie or a credential goes neither in nor out, whatever it is called.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from yarl import URL

READS = frozenset({"GET", "HEAD"})
ASKED = frozenset(
    {"accept", "accept-encoding", "accept-language", "if-match", "if-modified-since", "if-none-match", "if-range", "range", "user-agent"}
)
ANSWERED = frozenset(
    {
        "accept-ranges", "cache-control", "content-disposition", "content-encoding", "content-length", "content-range", "content-type", "date",
        "etag", "expires", "last-modified", "retry-after", "vary",
    }
)  # fmt: skip
# Of Ray's dashboard: a GET that runs a profiler, makes it wait, hands out uploaded code, or has to do with its own sign-in.
RAY_ACTS = ("/api/authenticate", "/api/packages/", "/api/v0/delay/", "/memory_profile", "/task/", "/test/", "/worker/")
GRAFANA_QUERIES = frozenset({"/api/ds/query"})  # a board's panels read by POST; it reads alone
GRAFANA_ACTS = ("/login", "/logout", "/api/live/", "/api/snapshots")


class Refused(Exception):
    """A request does not pass; says why, with the status to answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, code, detail)
        self.status, self.code, self.detail = status, code, detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One thing behind the guard: below `/<name>/` here, below `url` there."""

    name: str
    title: str
    url: URL
    credential: str | None = field(default=None, repr=False)  # sent as its bearer token
    refused: tuple[str, ...] = ()  # beginnings of paths
    queries: frozenset[str] = frozenset()  # paths that may be asked by POST

    def target(self, method: str, raw_path: str) -> URL:
        """Tell where a request goes; `raw_path` is what follows `/<name>`, as the browser wrote it, with its query.

        Raises:
            Refused: The method or the path does not pass.
        """
        path, _, query = raw_path.partition("?")
        plain = _plain(path)
        if any(plain == one.rstrip("/") or plain.startswith(one) for one in self.refused):
            raise Refused(403, "not_passed", "The guard does not pass this path: it is more than a look.")
        if method not in READS and not (method == "POST" and plain in self.queries):
            raise Refused(405, "read_only", "The guard passes GET and HEAD only.")
        whole = f"{str(self.url).rstrip('/')}{path or '/'}"
        return URL(f"{whole}?{query}" if query else whole, encoded=True)

    def headers(self, asked: Mapping[str, str], *, has_body: bool = False) -> dict[str, str]:
        """Choose what of a request's headers passes, and add the tool's credential."""
        passed = {name: value for name, value in asked.items() if name.lower() in ASKED}
        if has_body:
            passed["Content-Type"] = "application/json"
        if self.credential is not None:
            passed["Authorization"] = f"Bearer {self.credential}"
        return passed

    def answered(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Choose what of an answer's headers passes; a redirection leads below the tool's path, or nowhere."""
        passed = {name: value for name, value in headers.items() if name.lower() in ANSWERED}
        if not any(name.lower() == "cache-control" for name in passed):
            passed["Cache-Control"] = "no-store"
        if location := headers.get("Location"):
            passed["Location"] = self._below(location)
        return passed

    def _below(self, location: str) -> str:
        """Write a redirection as the browser has to see it.

        Raises:
            Refused: It leads elsewhere.
        """
        there, here = urlsplit(location), urlsplit(str(self.url))
        base = here.path.rstrip("/")
        is_elsewhere = bool(there.netloc) and (there.scheme, there.netloc) != (here.scheme, here.netloc)
        is_outside = there.path.startswith("/") and not f"{there.path}/".startswith(f"{base}/")
        if is_elsewhere or is_outside or "\\" in location:
            raise Refused(502, "bad_redirection", f"{self.title} sends elsewhere; the guard does not follow.")
        query = f"?{there.query}" if there.query else ""
        if there.path.startswith("/"):
            return f"/{self.name}{there.path.removeprefix(base) or '/'}{query}"
        return f"{there.path}{query}"


def _plain(path: str) -> str:
    """Decode a path that means the same to everybody who reads it.

    Raises:
        Refused: It might mean something else to whom it is passed.
    """
    plain = unquote(path) or "/"
    parts = plain.split("/")[1:]
    is_odd = "%" in plain or "\\" in plain or not plain.isprintable() or not plain.startswith("/") or "%2f" in path.lower()
    if is_odd or any(part in {".", ".."} for part in parts) or "" in parts[:-1]:
        raise Refused(400, "odd_path", "The guard does not pass a path like this.")
    return plain


def ray(url: str, token: str) -> Tool:
    """Ray's dashboard, with the cluster's token."""
    return Tool(name="ray", title="Ray dashboard", url=URL(url), credential=token, refused=RAY_ACTS)


def grafana(url: str, token: str | None) -> Tool:
    """Grafana; without a token of a service account it must show its boards to anybody who reaches it."""
    return Tool(name="grafana", title="Grafana", url=URL(url), credential=token, refused=GRAFANA_ACTS, queries=GRAFANA_QUERIES)
