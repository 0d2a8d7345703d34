"""What all of payments works with, and how a payment's post enters the books: in the transaction that changes the payment's row."""

from dataclasses import dataclass

from ledger.db import Connection, Database
from ledger.errors import LedgerUnavailable
from ledger.money.accounts import AccountIds
from ledger.money.posting import Post, Status, apply
from ledger.payments.gateway import Gateway
from ledger.payments.mock import MockGateway
from ledger.payments.stripe import StripeGateway
from ledger.settings import LedgerSettings

PAYERS = 2  # connections that move money in and out
BY_HAND = "manual"  # pays out where no gateway is set


@dataclass(frozen=True, slots=True)
class Payments:
    """Settings, database, accounts, and the gateways by name; the first one is the default.

    `pay` is a second login: it alone may move credits in from the world and out to it, and nothing else is done with it.
    """

    settings: LedgerSettings
    database: Database
    pay: Database
    ids: AccountIds
    gateways: dict[str, Gateway]

    @classmethod
    def of_settings(cls, settings: LedgerSettings, database: Database, ids: AccountIds) -> "Payments":
        """Build the gateways that the settings name; nothing connects yet."""
        pay = Database(settings.pay_database_url, name="gfe_pay", size=PAYERS)
        return cls(settings, database, pay, ids, {name: _gateway(name, settings, database) for name in settings.gateway_names})

    @property
    def default_gateway(self) -> str:
        """The gateway of payments that name none."""
        return next(iter(self.gateways), BY_HAND)

    @property
    def mock(self) -> MockGateway | None:
        """The mock, where it is on: never in production."""
        found = self.gateways.get(MockGateway.name)
        return found if isinstance(found, MockGateway) and self.settings.env != "production" else None


def _gateway(name: str, settings: LedgerSettings, database: Database) -> Gateway:
    if name == StripeGateway.name:
        return StripeGateway(
            api_key=settings.secret("stripe_api_key"),
            webhook_secret=settings.secret("stripe_webhook_secret"),
            site_url=settings.site_url,
            api_base=settings.stripe_api_base,
        )
    return MockGateway(settings.secrets_dir, settings.site_url, database)


async def post(connection: Connection, operation: Post) -> bool:
    """Post in the caller's transaction, as its last statement (the accounts stay locked until it commits); False: not enough funds.

    Row and post commit together, so that no crash leaves one without the other, and the post's id follows from the payment, so that not
    even a defect could post it twice.

    Raises:
        LedgerUnavailable: The books refuse it: a defect, and the transaction must not commit.
    """
    (status,) = await apply(connection, [operation])
    if status not in {Status.OK, Status.EXISTS, Status.FUNDS}:
        raise LedgerUnavailable
    return status is not Status.FUNDS
