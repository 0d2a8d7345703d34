"""The catalog: which models may be offered. Every change is in the audit log and in the feed."""

from dataclasses import dataclass
from datetime import datetime

from ledger.audit_log import Origin, note
from ledger.db import Connection
from ledger.errors import NotFound
from ledger.identity.feed import tell

_LIST = "SELECT name, digest, source, license, size_bytes, context_tokens, added_at FROM ledger.catalog_model ORDER BY name"
_ADD = """
INSERT INTO ledger.catalog_model (name, digest, source, license, size_bytes, context_tokens) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, source = excluded.source, license = excluded.license,
  size_bytes = excluded.size_bytes, context_tokens = excluded.context_tokens, added_at = clock_timestamp()
RETURNING name, digest, source, license, size_bytes, context_tokens, added_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """A model that may be offered. `digest`: sha256 of its GGUF; `context_tokens`: what a slot should have."""

    name: str
    digest: str
    source: str
    license: str
    size_bytes: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of the catalog, and since when it is there."""

    model: CatalogModel
    added_at: datetime


def with_tag(name: str) -> str:
    """Write a name as the catalog keeps it: in small letters, with its tag."""
    return (name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest").lower()


async def list_models(connection: Connection) -> list[Listed]:
    """List the catalog by name."""
    rows = await (await connection.execute(_LIST)).fetchall()
    return [_listed(row) for row in rows]


def _listed(row: tuple[object, ...]) -> Listed:
    *fields, added_at = row
    names = ("name", "digest", "source", "license", "size_bytes", "context_tokens")
    return Listed(CatalogModel(**dict(zip(names, fields, strict=True))), added_at)  # type: ignore[arg-type]


async def add_model(connection: Connection, model: CatalogModel, origin: Origin) -> Listed:
    """Take a model in, or in place of what its name meant before; in the caller's transaction."""
    detail = {
        "digest": model.digest, "source": model.source, "license": model.license, "size_bytes": model.size_bytes,
        "context_tokens": model.context_tokens,
    }  # fmt: skip
    name = with_tag(model.name)
    cursor = await connection.execute(_ADD, [name, *detail.values()])
    row = await cursor.fetchone()
    assert row is not None
    await note(connection, origin, "catalog.added", name, digest=model.digest)
    await tell(connection, "model", name, **detail)
    return _listed(row)


async def remove_model(connection: Connection, name: str, origin: Origin) -> None:
    """Take a model out, in the caller's transaction.

    Raises:
        NotFound: It is not in the catalog.
    """
    kept_name = with_tag(name)
    cursor = await connection.execute("DELETE FROM ledger.catalog_model WHERE name = %s", [kept_name])
    if not cursor.rowcount:
        raise NotFound("Model", name[:60])
    await note(connection, origin, "catalog.removed", kept_name)
    await tell(connection, "model", kept_name)
