"""How this machine becomes a node of the platform: a one-time code, a key made here, then a signed nonce for each short token.

The bytes that are signed are those of `ledger/identity/agent_proofs.py`.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from provider_join.agent.home import AgentHome, Enrollment
from provider_join.agent.keys import AgentKey
from provider_join.errors import AgentRefused, AgentTooOld, EnrollRefused, PlatformUnreachable

CALL_LIMIT_S = 10.0
MAX_ANSWER_BYTES = 256 * 1024
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
REVOKED = "this node was revoked or deregistered; it gets no more jobs"
REVOKED_HINT = "make a new code in the console (or `agent-token/generate`), then: gfe agent --code …"
BANNED_HINT = "the console shows what was found, and takes an appeal; a node that is banned cannot enroll again"


@dataclass(frozen=True, slots=True)
class Access:
    """A short token to connect with."""

    token: str
    expires_in_s: float


def agent_version() -> str:
    """Tell this agent's version."""
    try:
        return version("gpu-for-everyone")
    except PackageNotFoundError:
        return "0"


def origin_of(url: str) -> str:
    """Tell the origin of the platform's address, as it is signed: a signature made for another platform is worth nothing here."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def check_url(url: str) -> str:
    """Answer an address that agents may use.

    Raises:
        EnrollRefused: It is none, or what is sent there could be read on the way.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise EnrollRefused(
            f"`{url[:200]}` is not an address of a platform", "write it as the console's address: --url https://gpu.example.org"
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise EnrollRefused(f"{url} is not encrypted", "use the platform's https address")
    return url.rstrip("/")


def check_socket_url(ws_url: str, url: str) -> str:
    """Answer where to connect.

    Raises:
        EnrollRefused: The platform itself is encrypted, and this is not.
    """
    if urlsplit(url).scheme == "https" and urlsplit(ws_url).scheme != "wss":
        raise EnrollRefused(
            f"the platform names {ws_url} for its agents, which is not encrypted", "tell its operator: GFE_AGENT_URL must be wss://…"
        )
    return ws_url


class Platform:
    """The ledger's routes for agents."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = check_url(url)
        self._session = session

    async def enroll(self, home: AgentHome, code: str, label: str | None) -> Enrollment:
        """Show a code and a new key; keep both answers. The same code again, after it worked here, changes nothing.

        Raises:
            EnrollRefused: The platform takes neither.
            AgentTooOld: It wants a newer agent.
            PlatformUnreachable: It does not answer.
        """
        digest = hashlib.sha256(code.encode()).hexdigest()
        if (known := home.enrollment()) and known.code == digest and known.url == self.url:
            return known
        key = AgentKey.read_or_make(home.next_key)
        body: dict[str, Any] = {
            "code": code, "public_key": key.public_text, "proof": key.sign("gfe.agent.enroll.v1", code, key.public_text),
            "agent_version": agent_version(), "platform": f"{platform.system()}-{platform.machine()}".lower()[:100],
        }  # fmt: skip
        if label:
            body["label"] = label[:100]
        status, said = await self._post("/api/core/agent/enroll/", body)
        if status != 201:
            raise EnrollRefused(*_refusal(status, said))
        _require_version(str(said.get("min_agent_version", "0")))
        ws_url = check_socket_url(str(said["ws_url"]), self.url)
        enrollment = Enrollment(node=str(said["node_id"]), url=self.url, ws_url=ws_url, code=digest)
        home.keep_enrollment(enrollment)
        return enrollment

    async def token(self, node: str, key: AgentKey) -> Access:
        """Sign a fresh nonce for a token.

        Raises:
            AgentRefused: The node may not connect any more.
            PlatformUnreachable: No token now; a later try may work.
        """
        status, said = await self._post("/api/core/agent/nonce/", {"node_id": node})
        if status != 200:
            raise PlatformUnreachable(self.url, f"no nonce ({status})", _retry_after(said))
        nonce = str(said["nonce"])
        signature = key.sign("gfe.agent.token.v1", node, nonce, origin_of(self.url))
        status, said = await self._post("/api/core/agent/token/", {"node_id": node, "nonce": nonce, "signature": signature})
        if status == 401 and said.get("code") == "agent_revoked":
            raise AgentRefused(*_why_cut(said))
        if status == 401:
            why = f"it does not know the signature of {node}: is {origin_of(self.url)} the address that the console shows?"
            raise PlatformUnreachable(self.url, why)
        if status != 200:
            raise PlatformUnreachable(self.url, f"no token ({status})", _retry_after(said))
        return Access(str(said["access_token"]), float(said["expires_in_s"]))

    async def status(self, token: str) -> Mapping[str, Any] | None:
        """Ask what the platform says of this node: state, tier, strikes, earned today; None where it does not tell.

        Raises:
            PlatformUnreachable: It does not answer.
        """
        status, said = await self._call("GET", "/api/core/agent/status/", headers={"Authorization": f"Bearer {token}"})
        return said if status == 200 else None

    async def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        return await self._call("POST", path, json=body)

    async def _call(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        limit = aiohttp.ClientTimeout(total=CALL_LIMIT_S)
        try:
            async with self._session.request(method, self.url + path, timeout=limit, allow_redirects=False, **more) as answer:
                said = await _object_of(answer)
                if "Retry-After" in answer.headers:
                    said.setdefault("retry_after", answer.headers["Retry-After"])
                return answer.status, said
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as broken:
            raise PlatformUnreachable(self.url, str(broken) or type(broken).__name__) from broken


async def _object_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    raw = b""
    async for piece in answer.content.iter_chunked(MAX_ANSWER_BYTES):
        raw += piece
        if len(raw) > MAX_ANSWER_BYTES:
            return {}
    try:
        said = json.loads(raw)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _retry_after(said: Mapping[str, Any]) -> float | None:
    try:
        return float(said["retry_after"])
    except (KeyError, TypeError, ValueError):
        return None


def _why_cut(said: Mapping[str, Any]) -> tuple[str, str]:
    if said.get("state") == "banned":
        return f"the platform says: {str(said.get('detail'))[:500]}", BANNED_HINT
    return REVOKED, REVOKED_HINT


def _refusal(status: int, said: Mapping[str, Any]) -> tuple[str, str]:
    match said.get("code"):
        case "enroll_code_invalid":
            return (
                "the platform does not know this code: it works once, for 10 minutes",
                "make a new one in the console, then: gfe agent --code …",
            )
        case "key_in_use":
            return "this machine's new key belongs to another node already", "remove key.new from the agent's folder and try again"
    if status == 429:
        return "the platform takes no more enrollments from this address for now", "try again in a minute"
    return f"the platform refused: {str(said.get('detail', status))[:300]}", "try again; if it stays so, ask the platform's operator"


def _require_version(least: str) -> None:
    """Check that this agent is new enough.

    Raises:
        AgentTooOld: It is not.
    """
    own = agent_version()
    if _numbers(own) < _numbers(least):
        raise AgentTooOld(
            f"the platform wants at least version {least} of the agent; this is {own}", "pip install --upgrade gpu-for-everyone"
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+", maxsplit=1)[0].split(".") if part.isdigit())
