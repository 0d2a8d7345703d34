"""What the ledger's handlers work with: made once when the service starts, faked or narrowed in tests."""

from dataclasses import dataclass
from typing import Any

from ledger.db import Database
from ledger.errors import LedgerUnavailable
from ledger.identity.api_keys import KeyRing
from ledger.identity.enrollment import AgentTokens, Enrollment, TokenSigner, origin_text
from ledger.identity.feed import Feed
from ledger.identity.nodes import NodeOwners, Nodes
from ledger.identity.services import ServiceVerifier
from ledger.money.accounts import AccountIds
from ledger.money.holds import Holds
from ledger.money.posting import Writer
from ledger.money.prices import PriceBook
from ledger.money.settling import Settling
from ledger.settings import LedgerSettings

READERS = 6  # connections for reads; the writer has one of its own


class NoSigningKeys:
    """Stands where the key ring belongs: signs nothing."""

    kid = ""

    def sign(self, claims: dict[str, Any]) -> str:
        """Refuse.

        Raises:
            LedgerUnavailable: Always.
        """
        raise LedgerUnavailable


@dataclass(slots=True)
class LedgerContext:
    """Database, writer, and what is built on them."""

    settings: LedgerSettings
    database: Database
    writer: Writer
    keys: KeyRing
    services: ServiceVerifier
    signing_keys: TokenSigner
    enrollment: Enrollment
    agent_tokens: AgentTokens
    nodes: Nodes
    feed: Feed
    holds: Holds
    settling: Settling

    @classmethod
    def of_settings(cls, settings: LedgerSettings) -> "LedgerContext":
        """Build the context; nothing connects yet."""
        database = Database(settings.database_url, name="gfe_ledger", size=READERS)
        writer = Writer(settings.database_url)
        ids = AccountIds(database)
        pepper = bytes.fromhex(settings.secret("api_key_pepper"))
        return cls(
            settings=settings,
            database=database,
            writer=writer,
            keys=KeyRing(database, pepper),
            services=ServiceVerifier.of_folder(settings.secrets_dir),
            signing_keys=NoSigningKeys(),  # the key ring: SigningKeys(settings.secrets_dir, settings.public_url)
            enrollment=Enrollment(database, pepper, max_agents=settings.max_agents),
            agent_tokens=AgentTokens(database, origin_text(settings.public_url)),
            nodes=Nodes(database),
            feed=Feed(database),
            holds=Holds(database, writer, ids, PriceBook(database)),
            settling=Settling(database, writer, ids, NodeOwners(database).owner, fee_percent=settings.platform_fee_percent),
        )

    async def aclose(self) -> None:
        """Stop writing, close connections."""
        await self.writer.aclose()
        await self.database.close()
