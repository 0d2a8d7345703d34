"""Prices as stored: immutable rows; the newest row of a model wins over the newest default row."""

import time
from collections.abc import Sequence

import structlog

from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.pricing import PriceRow

CACHE_S = 2.0
log = structlog.get_logger()


class PriceBook:
    """Answers the price of a model now; rows are cached for `CACHE_S`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str | None, PriceRow] = {}
        self._loaded_at = float("-inf")

    async def prices(self, models: Sequence[str]) -> list[PriceRow]:
        """Tell the prices of models.

        Raises:
            DatabaseUnavailable: The database does not answer, or no default price was ever set.
        """
        default, own = await self.all()
        return [own.get(model, default) for model in models]

    async def all(self) -> tuple[PriceRow, dict[str, PriceRow]]:
        """Tell the default price, and the prices of models that have their own.

        Raises:
            DatabaseUnavailable: The database does not answer, or no default price was ever set.
        """
        if time.monotonic() - self._loaded_at > CACHE_S:
            self._rows = await self._database.run(_newest)
            self._loaded_at = time.monotonic()
        default = self._rows.get(None)
        if default is None:
            self._loaded_at = float("-inf")
            log.error("no_price_is_set", hint="run `gfe ledger bootstrap`")
            raise DatabaseUnavailable(0)
        return default, {model: row for model, row in self._rows.items() if model is not None}

    def forget(self) -> None:
        """Look again at the next call: a price was changed through this process."""
        self._loaded_at = float("-inf")


async def _newest(connection: Connection) -> dict[str | None, PriceRow]:
    cursor = await connection.execute(
        "SELECT DISTINCT ON (model) model, version, flat, prompt_per_million, completion_per_million "
        "FROM ledger.price ORDER BY model, version DESC"
    )
    return {row[0]: PriceRow(*row[1:]) for row in await cursor.fetchall()}


async def set_default_price(connection: Connection, flat: int, prompt_per_million: int, completion_per_million: int) -> None:
    """Make these the default price, as a new version that the feed tells of, unless they are it already."""
    await connection.execute(
        "WITH made AS (INSERT INTO ledger.price (flat, prompt_per_million, completion_per_million) SELECT n.* FROM (VALUES (%s::bigint, %s::bigint, %s::bigint)) AS n "
        "WHERE (n.*) IS DISTINCT FROM (SELECT (flat, prompt_per_million, completion_per_million) FROM ledger.price WHERE model IS NULL "
        "ORDER BY version DESC LIMIT 1) RETURNING *) SELECT ledger.tell('price', '', jsonb_build_object('version', version, 'flat', flat, "
        "'prompt_per_million', prompt_per_million, 'completion_per_million', completion_per_million)) FROM made",
        [flat, prompt_per_million, completion_per_million],
    )


async def set_price(connection: Connection, model: str | None, flat: int, prompt_per_million: int, completion_per_million: int) -> PriceRow:
    """Write a new version of a model's price (None: of the default), in the caller's transaction; the feed tells of it."""
    cursor = await connection.execute(
        "INSERT INTO ledger.price (model, flat, prompt_per_million, completion_per_million) VALUES (%s, %s, %s, %s) "
        "RETURNING version, flat, prompt_per_million, completion_per_million",
        [model, flat, prompt_per_million, completion_per_million],
    )
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(
        "SELECT ledger.tell('price', %s, jsonb_build_object('version', %s::int, 'flat', %s::bigint, 'prompt_per_million', %s::bigint, "
        "'completion_per_million', %s::bigint))",
        [model or "", *row],
    )
    return PriceRow(*row)
