"""What the ledger's handlers work with: made once when the service starts, faked or narrowed in tests."""

from dataclasses import dataclass

from ledger.db import Database
from ledger.identity.api_keys import KeyRing
from ledger.identity.nodes import NodeOwners
from ledger.identity.services import ServiceVerifier
from ledger.money.accounts import AccountIds
from ledger.money.holds import Holds
from ledger.money.posting import Writer
from ledger.money.prices import PriceBook
from ledger.money.settling import Settling
from ledger.payments.payments import Payments
from ledger.settings import LedgerSettings

READERS = 6  # connections for reads; the writer has one of its own


@dataclass(slots=True)
class LedgerContext:
    """Database, writer, and what is built on them."""

    settings: LedgerSettings
    database: Database
    writer: Writer
    keys: KeyRing
    services: ServiceVerifier
    holds: Holds
    settling: Settling
    payments: Payments

    @classmethod
    def of_settings(cls, settings: LedgerSettings) -> "LedgerContext":
        """Build the context; nothing connects yet."""
        database = Database(settings.database_url, name="gfe_ledger", size=READERS)
        writer = Writer(settings.database_url)
        ids = AccountIds(database)
        return cls(
            settings=settings,
            database=database,
            writer=writer,
            keys=KeyRing(database, bytes.fromhex(settings.secret("api_key_pepper"))),
            services=ServiceVerifier.of_folder(settings.secrets_dir),
            holds=Holds(database, writer, ids, PriceBook(database)),
            settling=Settling(database, writer, ids, NodeOwners(database).owner, fee_percent=settings.platform_fee_percent),
            payments=Payments.of_settings(settings, database, ids),
        )

    async def aclose(self) -> None:
        """Stop writing, close connections."""
        await self.writer.aclose()
        await self.database.close()
