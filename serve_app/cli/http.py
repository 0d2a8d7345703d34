"""Finds the installation and calls its APIs; every failure is one line and a hint."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from serve_app.cli.output import refuse
from serve_app.local.client import state_of
from serve_app.local.home import Home

TIMEOUT = httpx2.Timeout(connect=3, read=120, write=30, pool=5)
HINT_UP = "`gfe up` starts the platform; GFE_API_URL, GFE_CONSOLE_URL and GFE_API_KEY name another one"


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the APIs are, and the key to call them with."""

    api_url: str
    console_url: str
    key: str

    def call(self, method: str, url: str, headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Call an API and answer its JSON (None for an empty answer)."""
        said = self._ask(method, url, headers, **options)
        return json.loads(said) if said else None

    def text(self, url: str) -> str:
        """Fetch a text."""
        return self._ask("GET", url).decode(errors="replace")

    def _ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, **options: Any) -> bytes:
        own = {"Authorization": f"Bearer {self.key}"}
        try:
            answer = httpx2.request(method, url, headers=own | dict(headers or {}), timeout=TIMEOUT, trust_env=False, **options)
        except httpx2.HTTPError as failed:
            refuse(f"{url} does not answer ({type(failed).__name__})", "`gfe status` tells which part is down")
        if answer.is_error:
            refuse(*error_of(answer.content))
        return answer.content

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Stream a chat completion, chunk by chunk."""
        url = f"{self.api_url}/v1/chat/completions"
        try:
            with httpx2.stream(
                "POST", url, json=body, headers={"Authorization": f"Bearer {self.key}"}, timeout=TIMEOUT, trust_env=False
            ) as answer:
                if answer.is_error:
                    refuse(*error_of(answer.read()))
                for line in answer.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line[6:])
        except httpx2.HTTPError as failed:
            refuse(f"{url} does not answer ({type(failed).__name__})", "`gfe status` tells which part is down")


def installation() -> Installation:
    """Find the installation: by the environment, or the one that runs in GFE_HOME."""
    api_url, console_url, key = (os.environ.get(name) for name in ("GFE_API_URL", "GFE_CONSOLE_URL", "GFE_API_KEY"))
    if not (api_url and console_url and key):
        home = Home.of_environment()
        state = state_of(home)
        if state is None:
            refuse(f"nothing runs in {home.root}", HINT_UP)
        api_url, console_url = api_url or state["api_url"], console_url or state["console_url"]
        try:
            key = key or (home.secrets / "first_api_key").read_text().strip()
        except OSError:
            refuse("there is no API key yet", HINT_UP)
    return Installation(str(api_url).rstrip("/"), str(console_url).rstrip("/"), str(key))


def error_of(raw: bytes) -> tuple[str, str | None]:
    """Read an error's text, and what to do about it, from either shape."""
    try:
        said = json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")[:300], None
    error = said.get("error")
    text = error.get("message") if isinstance(error, dict) else said.get("detail") or error
    figures = error if isinstance(error, dict) else said
    hint = f"available {figures['available']}, required {figures['required']}; `gfe wallet` shows more" if "available" in figures else None
    return str(text), hint or said.get("hint")
