"""Unmodified clients of other people, pointed at our API by nothing but a URL and a key."""

import pytest

from tests.clients.batches import batches, batches_with, rich  # noqa: F401 - fixtures
from tests.scripted_runtime import words_of
from tests.serve_app.conftest import platform_with  # noqa: F401 - a fixture

HELLO = [{"role": "user", "content": "hello there"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "count": {"type": "integer"}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def said(count, text="hello there"):
    """What the scripted runtime answers."""
    return "".join(words_of(text, count))


@pytest.fixture
async def platform(platform_with):  # noqa: F811
    return await platform_with(slots=4)
