"""The fields of a body: each is asked for by name and type; null means absent."""

import math
from typing import Any

from cluster.errors import InvalidRequest


class Fields:
    """A body's fields; `where` is the path to it, for the names in errors."""

    def __init__(self, body: dict[str, Any], where: str = "") -> None:
        self.body = body
        self._where = f"{where}." if where else ""

    def wrong(self, name: str, must: str) -> InvalidRequest:
        """Say what a field must be."""
        path = self._where + name
        return InvalidRequest(f"`{path}` must be {must}.", path)

    def text(self, name: str) -> str | None:
        """A string."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def flag(self, name: str, *, usual: bool = False) -> bool:
        """A boolean, `usual` when absent."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return usual if value is None else value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within bounds."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds; one written with a point counts too."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def objects(self, name: str, most: int) -> list[dict[str, Any]]:
        """An array of objects; empty when absent."""
        value = self.body.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(name, "an array of objects")
        if len(value) > most:
            raise self.wrong(name, f"an array of at most {most} elements")
        return value

    def texts(self, name: str, most: int) -> list[str] | None:
        """A string, or an array of strings."""
        value = self.body.get(name)
        if value is None:
            return None
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts) or len(texts) > most:
            raise self.wrong(name, f"a string or at most {most} strings")
        return texts

    def choice(self, name: str, *names: str) -> str | None:
        """One of some words."""
        value = self.text(name)
        if value is not None and value not in names:
            raise self.wrong(name, f"one of {', '.join(names)}")
        return value
