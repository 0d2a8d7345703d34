"""Client of the Ollama API, as a worker or agent needs it: what is there, load it, stream an answer. Errors in our words."""

import json
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError  # lines that are too long

from cluster.errors import RuntimeFailed, RuntimeRefused
from cluster.jobs import JobKind
from cluster.keep_alive import read_to_end
from cluster.nodes import OfferedModel

CONNECT_LIMIT_S = 2.0
LOOK_LIMIT_S = 5.0
LOAD_LIMIT_S = 300.0
SCORE_LIMIT_S = 300.0
PULL_LIMIT_S = 6 * 3600.0
PULL_SILENCE_S = 180.0  # a pull that says nothing for so long is given up
PLANNED_CONTEXT = 4096  # of a model that is not loaded, where nobody says more: Ollama's own default on small cards
MAX_LINE_BYTES = 8 * 1024 * 1024
KEEP_LOADED = "30m"
TOLD = ("parameters", "template", "system", "license", "details", "model_info", "capabilities", "modified_at", "messages")
ROUTES = {JobKind.CHAT: "/api/chat", JobKind.GENERATE: "/api/generate", JobKind.EMBED: "/api/embed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a runtime is and has. `slots` is None where it does not say."""

    name: str
    version: str
    slots: int | None
    models: tuple[OfferedModel, ...]
    plans: Mapping[str, "LoadPlan"] = field(default_factory=dict)  # by the model's name
    problem: str = ""  # why it has no model, where it tells


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What the memory formula needs of a model: show's `model_info`, and the context that it is, or would be, loaded with."""

    info: Mapping[str, Any]
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """What the runtime says while it pulls. Bytes are of the layer on its way."""

    status: str
    completed_bytes: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeText:
    """A piece of the answer."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEnd:
    """The answer's end. Counters are the runtime's claim; None where it made none. `ended_early`: it never said that it was done."""

    reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    ended_early: bool = False


class OllamaRuntime:
    """One runtime behind its URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._shown: dict[str, dict[str, Any]] = {}
        self._contexts: dict[str, int] = {}  # what a model's last load gave each slot, by digest
        self._has_tokenizer = False

    async def start(self) -> None:
        """Open the session (inside the running loop)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False, read_bufsize=2**18, max_line_size=MAX_LINE_BYTES
        )

    async def aclose(self) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    async def inventory(self) -> Inventory:
        """Look what is there.

        Raises:
            RuntimeFailed: It does not answer, or not as Ollama does.
        """
        version = await self._get("/api/version")
        self._has_tokenizer = version.get("gfe_runtime") == "embedded"
        tags, running = await self._get("/api/tags"), await self._get("/api/ps")
        loaded = {row["name"]: row for row in running.get("models") or []}
        told = _whole(version.get("gfe_context"))
        models, plans = [], {}
        for row in tags.get("models") or []:
            if row.get("remote_host"):
                continue
            model, plan = await self._offered(row, loaded.get(row["name"]), told)
            models.append(model)
            plans[model.name] = plan
        return Inventory(
            name="embedded" if self._has_tokenizer else "ollama",
            version=str(version.get("version", "")),
            slots=version.get("gfe_slots"),
            models=tuple(models),
            plans=plans,
            problem=str(version.get("gfe_problem", "")),
        )

    async def _offered(
        self, row: Mapping[str, Any], loaded: Mapping[str, Any] | None, told_context: int | None
    ) -> tuple[OfferedModel, LoadPlan]:
        name, digest = str(row["name"]), str(row["digest"])
        shown = self._shown.get(digest)
        if shown is None:
            shown = self._shown[digest] = await self._post("/api/show", {"model": name}, LOOK_LIMIT_S)
        longest = _context_of(shown)
        wanted = _set_context(shown) or told_context  # what somebody set, for this model or for all
        if loaded and (found := _whole(loaded.get("context_length"))):
            self._contexts[digest] = found
        known = self._contexts.get(digest)
        context = known or min(longest, wanted or longest)
        model = OfferedModel(
            name=name, digest=_weights_digest(shown) or digest, size_bytes=int(row.get("size", 0)), context_tokens=context, is_loaded=loaded is not None,
            capabilities=tuple(shown.get("capabilities") or ("completion",)), has_tokenizer=self._has_tokenizer,
            took_bytes=_whole((loaded or {}).get("size")), gpu_bytes=_whole((loaded or {}).get("size_vram")),
            trouble=_shrunk(loaded, wanted), manifest=digest,
        )  # fmt: skip
        return model, LoadPlan(info=shown.get("model_info") or {}, context_tokens=known or min(longest, wanted or PLANNED_CONTEXT))

    async def describe(self, model: str) -> dict[str, Any]:
        """Tell what a model is: `show` without what only its machine knows.

        Raises:
            RuntimeFailed: The runtime does not answer, or does not have it.
        """
        shown = await self._post("/api/show", {"model": model}, LOOK_LIMIT_S)
        return {name: shown[name] for name in TOLD if shown.get(name) is not None}

    async def load(self, model: str, *, embeds_only: bool = False) -> None:
        """Load a model, so that no consumer's request does it. `embeds_only`: it cannot chat.

        Raises:
            RuntimeFailed: It cannot be loaded.
            RuntimeRefused: The runtime does not load such a model.
        """
        await self._keep(model, KEEP_LOADED, LOAD_LIMIT_S, embeds_only=embeds_only)

    async def unload(self, model: str, *, embeds_only: bool = False) -> None:
        """Give a model's memory back, after what runs on it now.

        Raises:
            RuntimeFailed: The runtime does not answer, or does not have it.
        """
        await self._keep(model, 0, LOOK_LIMIT_S, embeds_only=embeds_only)

    async def _keep(self, model: str, keep_alive: str | int, limit_s: float, *, embeds_only: bool) -> None:
        """Ask for nothing, which loads or unloads a model."""
        path, empty = ("/api/embed", {"input": ""}) if embeds_only else ("/api/generate", {"stream": False})
        await self._post(path, {"model": model, "keep_alive": keep_alive, **empty}, limit_s)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Let the runtime fetch a model; yield what it says meanwhile. Only a last line that says so is success.

        Raises:
            RuntimeFailed: It did not get it.
        """
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=PULL_LIMIT_S, sock_connect=CONNECT_LIMIT_S, sock_read=PULL_SILENCE_S)
        last = ""
        try:
            async with self._session.post(self.url + "/api/pull", json={"model": model, "stream": True}, timeout=timeout) as answer:
                if answer.status != 200:
                    raise _error(answer.status, await answer.text())
                async for line in answer.content:
                    said = json.loads(line) if line.strip() else {}
                    if "error" in said:
                        raise RuntimeFailed(500, str(said["error"]))
                    last = str(said.get("status", ""))
                    yield PullProgress(status=last, completed_bytes=_whole(said.get("completed")), total_bytes=_whole(said.get("total")))
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, ValueError, TypeError, AttributeError) as broken:
            raise RuntimeFailed(0, f"the pull broke off ({type(broken).__name__})") from broken
        if last != "success":
            raise RuntimeFailed(0, f"the pull ended without success, after `{last}`")

    async def count_tokens(self, model: str, *, text: str | None = None, messages: list[dict[str, Any]] | None = None) -> int | None:
        """Count tokens with the model's own tokenizer; None when the runtime has none.

        Raises:
            RuntimeFailed: It did not answer.
        """
        if not self._has_tokenizer:
            return None
        asked: dict[str, Any] = {"model": model, "content": text} if messages is None else {"model": model, "messages": messages}
        return int((await self._post("/gfe/tokenize", asked, LOOK_LIMIT_S))["tokens"])

    async def score(self, model: str, request: Mapping[str, Any], answer: str, *, window: int, chance: float) -> dict[str, Any]:
        """Ask what the model would have said in place of `window` tokens of an answer, as `POST /gfe/score` tells it.

        Raises:
            RuntimeRefused: The request is wrong, or longer than the model's context.
            RuntimeFailed: The runtime cannot score, or does not answer.
        """
        body = {**request, "model": model, "truncate": False, "answer": answer, "window": window, "chance": chance}
        return await self._post("/gfe/score", body, SCORE_LIMIT_S)

    async def render(self, model: str, request: Mapping[str, Any]) -> str:
        """Write a chat as the prompt that the model reads; raw generation from that prompt plus a text goes on after the text.

        Raises:
            RuntimeRefused: The request is wrong.
            RuntimeFailed: The runtime cannot render, or does not answer.
        """
        # A runtime that does not know the flag answers the chat: one token, then.
        options = {**(request.get("options") or {}), "num_predict": 1}
        body = {**request, "model": model, "truncate": False, "stream": False, "options": options, "_debug_render_only": True}
        told = (await self._post("/api/chat", body, LOAD_LIMIT_S)).get("_debug_info")
        prompt = told.get("rendered_template") if isinstance(told, dict) else None
        if not isinstance(prompt, str):
            raise RuntimeFailed(501, "the runtime cannot render a chat")
        return prompt

    async def stream(
        self, kind: JobKind, model: str, request: Mapping[str, Any], max_tokens: int
    ) -> AsyncGenerator[RuntimeText | RuntimeEnd, None]:
        """Run a request and yield its pieces; the last one is a `RuntimeEnd`. Closing the iterator cancels it at the runtime.

        Raises:
            RuntimeRefused: The request is wrong.
            RuntimeFailed: Everything else.
        """
        assert self._session is not None
        body = {**request, "model": model, "truncate": False}
        if kind is not JobKind.EMBED:
            body |= {"stream": True, "options": {**(request.get("options") or {}), "num_predict": max_tokens}}
        try:
            async with self._session.post(self.url + ROUTES[kind], json=body) as answer:
                if answer.status != 200:
                    raise _error(answer.status, await answer.text())
                if kind is JobKind.EMBED:
                    for piece in _embedded(await answer.json(content_type=None)):
                        yield piece
                    return
                async for line in answer.content:
                    for piece in _pieces(line):
                        if isinstance(piece, RuntimeEnd):
                            await read_to_end(answer)
                            yield piece
                            return
                        yield piece
        except (aiohttp.ClientError, TimeoutError) as broken:
            raise RuntimeFailed(0, f"the answer broke off ({type(broken).__name__})") from broken
        except (HttpProcessingError, ValueError, TypeError, KeyError, AttributeError) as nonsense:  # it lives: the request has not ended it
            raise RuntimeFailed(502, f"the answer is nonsense ({type(nonsense).__name__})") from nonsense
        yield RuntimeEnd(reason="stop", prompt_tokens=None, completion_tokens=None, ended_early=True)

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._call("GET", path, None, LOOK_LIMIT_S)

    async def _post(self, path: str, body: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        return await self._call("POST", path, body, limit_s)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None, limit_s: float) -> dict[str, Any]:
        assert self._session is not None
        try:
            async with self._session.request(method, self.url + path, json=body, timeout=aiohttp.ClientTimeout(total=limit_s)) as answer:
                if answer.status != 200:
                    raise _error(answer.status, await answer.text())
                said = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as broken:
            raise RuntimeFailed(0, f"the runtime at {self.url} does not answer ({type(broken).__name__})") from broken
        if not isinstance(said, dict):
            raise RuntimeFailed(0, "the runtime does not speak Ollama's API")
        return said


def read_json(raw: bytes | str) -> Any:
    """Read JSON; halves of surrogate pairs, which no other program would take from us, become U+FFFD.

    Raises:
        ValueError: It is none.
    """
    said = json.loads(raw)
    if (b"\\u" if isinstance(raw, bytes) else "\\u") not in raw:  # type: ignore[operator]
        return said
    text = json.dumps(said, ensure_ascii=False)
    return json.loads(text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace"))


def _pieces(line: bytes) -> list[RuntimeText | RuntimeEnd]:
    """Read one NDJSON line.

    Raises:
        RuntimeFailed: It says that something went wrong.
    """
    said = read_json(line) if line.strip() else {}
    if "error" in said:
        raise RuntimeFailed(500, str(said["error"]))
    message = said.get("message") or {}
    content = message.get("content") or said.get("response") or ""
    thinking = message.get("thinking") or said.get("thinking") or ""
    tools = tuple(message.get("tool_calls") or ())
    logprobs = tuple(said.get("logprobs") or ())
    pieces: list[RuntimeText | RuntimeEnd] = (
        [RuntimeText(content=content, thinking=thinking, tool_calls=tools, logprobs=logprobs)] if content or thinking or tools else []
    )
    if said.get("done"):
        pieces.append(
            RuntimeEnd(
                reason=said.get("done_reason") or "stop",
                prompt_tokens=said.get("prompt_eval_count"),
                completion_tokens=said.get("eval_count"),
            )
        )
    return pieces


def _embedded(said: Mapping[str, Any]) -> list[RuntimeText | RuntimeEnd]:
    vectors = tuple(tuple(float(value) for value in vector) for vector in said["embeddings"])
    if not all(math.isfinite(value) for vector in vectors for value in vector):
        raise ValueError("a vector is none")
    return [RuntimeText(embeddings=vectors), RuntimeEnd(reason="stop", prompt_tokens=said.get("prompt_eval_count"), completion_tokens=0)]


def _error(status: int, text: str) -> RuntimeFailed | RuntimeRefused:
    try:
        detail = str(read_json(text)["error"])
    except (ValueError, KeyError, TypeError):
        detail = text[:300]
    # 404 is not the request's fault: the node lost a model that another one may have.
    return RuntimeRefused(status, detail) if status in {400, 422} else RuntimeFailed(status, detail)


def _context_of(shown: Mapping[str, Any]) -> int:
    info = shown.get("model_info") or {}
    return int(info.get(f"{info.get('general.architecture')}.context_length") or 2048)


def _set_context(shown: Mapping[str, Any]) -> int | None:
    """The context that the model's own parameters ask for."""
    for line in str(shown.get("parameters") or "").splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "num_ctx" and value.strip().isdecimal():
            return int(value)
    return None


def _shrunk(loaded: Mapping[str, Any] | None, wanted: int | None) -> str:
    """Say so when the runtime gave a model less context than was asked for: it does that when memory is short."""
    given = _whole((loaded or {}).get("context_length"))
    return f"the runtime gives it {given} tokens of context instead of {wanted}" if given and wanted and given < wanted else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _weights_digest(shown: Mapping[str, Any]) -> str | None:
    """The GGUF's sha256, from the line `FROM …/sha256-<hex>` of the modelfile: the model's identity for us."""
    for line in str(shown.get("modelfile", "")).splitlines():
        if line.startswith("FROM ") and "sha256-" in line:
            return line.rpartition("sha256-")[2].strip()
    return None
