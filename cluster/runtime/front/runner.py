"""How a loaded model is asked: calls to its child, whole or event by event, and what its tokenizer and template say."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from cluster.audit.cutting import Piece
from cluster.runtime.child import Child, ChildFailed
from cluster.runtime.dialect import BadRequest, Json

CONNECT_LIMIT_S = 3.0
NO_THOUGHTS = {"chat_template_kwargs": {"enable_thinking": False}}  # that nobody would see, but pay for
DIED = "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error"


def open_session() -> aiohttp.ClientSession:
    """Open the session that all children are asked through (inside the running loop)."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_LIMIT_S)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # the child ends idle connections just when one might use them again
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)


class Runner:
    """A child, and the connection to it."""

    def __init__(self, child: Child, session: aiohttp.ClientSession) -> None:
        self.child = child
        self._session = session
        self._key = {"Authorization": f"Bearer {child.key}"}

    async def call(self, path: str, body: Json) -> Any:
        """Ask and read the whole answer.

        Raises:
            BadRequest: The child refused.
            ChildFailed: The child died.
        """
        try:
            async with self._session.post(self.child.url + path, json=body, headers=self._key) as answer:
                said = await answer.json()
                if answer.status != 200:
                    raise refusal(answer.status, said)
                return said
        except (aiohttp.ClientError, ValueError) as broken:
            await self.child.settle()  # so that the next request finds it dead, and loads it anew
            raise ChildFailed(DIED) from broken

    async def events(self, path: str, body: Json) -> AsyncGenerator[Json, None]:
        """Ask and yield the answer, event by event.

        Raises:
            BadRequest: The child refused.
            ChildFailed: The child died.
        """
        try:
            async with self._session.post(self.child.url + path, json=body | {"stream": True}, headers=self._key) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, await answer.json())
                async for line in answer.content:
                    if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                        yield json.loads(line[6:])
                    elif line.startswith(b"error: "):
                        raise refusal(500, json.loads(line[7:]))
        except (aiohttp.ClientError, ValueError) as broken:
            await self.child.settle()  # so that the next request finds it dead, and loads it anew
            raise ChildFailed(DIED) from broken

    async def count(self, text: str, *, add_special: bool = False) -> int:
        """Count the tokens of a text."""
        return len(await self.tokens(text, add_special=add_special))

    async def tokens(self, text: str, *, add_special: bool = False) -> list[int]:
        """Cut a text into tokens; `add_special`: a prompt, whose special tokens are read as such."""
        said = await self.call("/tokenize", {"content": text, "add_special": add_special, "parse_special": add_special})
        return [int(token) for token in said["tokens"]]

    async def pieces(self, text: str) -> list[Piece]:
        """Cut a text into tokens as `tokens` does, and tell what each of them writes."""
        said = await self.call("/tokenize", {"content": text, "add_special": False, "parse_special": False, "with_pieces": True})
        return [Piece(int(one["id"]), _bytes(one["piece"])) for one in said["tokens"]]

    async def rendered(self, messages: list[Json]) -> str:
        """Render messages with the template in the model's file."""
        return str((await self.call("/apply-template", {"messages": messages, **NO_THOUGHTS}))["prompt"])


def _bytes(piece: str | list[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)  # what breaks off in a character comes in numbers


def refusal(status: int, said: Any) -> BadRequest:
    """Write a child's refusal in Ollama's words."""
    error = said.get("error", said) if isinstance(said, dict) else said
    text = error.get("message", str(error)) if isinstance(error, dict) else str(error)
    kind = error.get("type", "") if isinstance(error, dict) else ""
    if kind == "exceed_context_size_error":
        return BadRequest("the input length exceeds the context length")
    return BadRequest(text, 400 if status == 400 else 500)
