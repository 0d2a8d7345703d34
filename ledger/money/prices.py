"""Prices as stored: immutable rows; the newest row of a model wins over the newest default row."""

import time

from ledger.db import Connection, Database
from ledger.pricing import PriceRow

CACHE_S = 2.0


class PriceBook:
    """Answers the price of a model now; rows are cached for `CACHE_S`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str | None, PriceRow] = {}
        self._loaded_at = float("-inf")

    async def price(self, model: str) -> PriceRow:
        """Tell the price of a model.

        Raises:
            DatabaseUnavailable: The database does not answer.
            LookupError: No default price was ever set.
        """
        if time.monotonic() - self._loaded_at > CACHE_S:

            async def query(connection: Connection) -> dict[str | None, PriceRow]:
                cursor = await connection.execute(
                    "SELECT DISTINCT ON (model) model, version, flat, prompt_per_million, completion_per_million "
                    "FROM ledger.price ORDER BY model, version DESC"
                )
                return {row[0]: PriceRow(*row[1:]) for row in await cursor.fetchall()}

            self._rows = await self._database.run(query)
            self._loaded_at = time.monotonic()
        found = self._rows.get(model) or self._rows.get(None)
        if found is None:
            raise LookupError("no price is set; run `gfe ledger bootstrap`")
        return found


async def set_default_price(connection: Connection, flat: int, prompt_per_million: int, completion_per_million: int) -> None:
    """Make these the default price, as a new version, unless they are it already."""
    cursor = await connection.execute(
        "SELECT flat, prompt_per_million, completion_per_million FROM ledger.price WHERE model IS NULL ORDER BY version DESC LIMIT 1"
    )
    wanted = (flat, prompt_per_million, completion_per_million)
    if await cursor.fetchone() != wanted:
        await connection.execute("INSERT INTO ledger.price (flat, prompt_per_million, completion_per_million) VALUES (%s, %s, %s)", wanted)
