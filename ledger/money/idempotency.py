"""Which hold an Idempotency-Key stands for: the id follows from the person, the key and its generation.

The generation is 1 and takes no row until a job of the key failed by our fault before its first token (its hold is resolved as
`VOID_RETRYABLE`). That a key is free is read off the books when it is used again, so a crash between the two cannot lock a key for ever.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.db import Connection, Database

FIRST = 1


@dataclass(frozen=True, slots=True)
class Use:
    """One generation of a person's key."""

    person: uuid.UUID
    key: str
    generation: int

    @property
    def id(self) -> uuid.UUID:
        """The hold's id."""
        return uuid.uuid5(self.person, f"{self.generation}:{self.key}")


class IdempotencyKeys:
    """Reads and raises generations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def uses_of(self, keys: Sequence[tuple[uuid.UUID, str]]) -> dict[tuple[uuid.UUID, str | None], Use]:
        """Tell the generation of each (person, key) now.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        wanted = sorted(set(keys))

        async def query(connection: Connection) -> dict[tuple[uuid.UUID, str], int]:
            cursor = await connection.execute(
                "SELECT person_id, key, generation FROM ledger.idempotency WHERE (person_id, key) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))",
                [[person for person, _ in wanted], [key for _, key in wanted]],
            )
            return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}

        raised = await self._database.run(query) if wanted else {}
        return {(person, key): Use(person, key, raised.get((person, key), FIRST)) for person, key in wanted}

    async def free(self, uses: Iterable[Use]) -> None:
        """Raise generations, each at most once however many ask: who comes second finds it raised.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        wanted = sorted({(use.person, use.key, use.generation) for use in uses})

        async def update(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO ledger.idempotency AS i (person_id, key, generation) "
                "SELECT u.person, u.key, u.generation + 1 FROM unnest(%s::uuid[], %s::text[], %s::int[]) AS u(person, key, generation) "
                "ON CONFLICT (person_id, key) DO UPDATE SET generation = excluded.generation WHERE i.generation < excluded.generation",
                [[person for person, _, _ in wanted], [key for _, key, _ in wanted], [generation for _, _, generation in wanted]],
            )

        await self._database.run(update)
