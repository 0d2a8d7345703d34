"""What the ledger's handlers work with: made once when the service starts, faked or narrowed in tests."""

from contextlib import suppress
from dataclasses import dataclass

from ledger.amounts import micros_of
from ledger.db import Database, DatabaseUnavailable
from ledger.identity.api_keys import KeyRing
from ledger.identity.credentials import Credentials
from ledger.identity.enrollment import AgentTokens, Enrollment, origin_text
from ledger.identity.feed import Feed
from ledger.identity.limits import Limits
from ledger.identity.mail import FileMailer, Mailer, SmtpMailer
from ledger.identity.nodes import NodeOwners, Nodes
from ledger.identity.oauth.exchange import Exchange
from ledger.identity.oauth.guests import Guests
from ledger.identity.oauth.providers import providers_of
from ledger.identity.outbox import Outbox
from ledger.identity.owed_mail import OwedMail
from ledger.identity.passes import Passes
from ledger.identity.passwords import Passwords
from ledger.identity.services import ServiceVerifier
from ledger.identity.sessions import Sessions
from ledger.identity.sign_in import Gifts, SignIn
from ledger.identity.signing_keys import SigningKeys
from ledger.identity.totp import TotpBox
from ledger.metrics import Metrics
from ledger.money.accounts import AccountIds
from ledger.money.earnings import Earnings
from ledger.money.holds import Holds
from ledger.money.posting import Writer
from ledger.money.prices import PriceBook
from ledger.money.settling import Settling
from ledger.operators.corrections import Corrections
from ledger.payments.payments import Payments
from ledger.settings import LedgerSettings
from ledger.verification.admissions import Admissions
from ledger.verification.appeals import Appeals
from ledger.verification.payouts import payout_terms
from ledger.verification.samples import Samples
from ledger.verification.verdicts import Verdicts
from ledger.verification.work import Work

REGISTERS, REGISTERS_IN_PRODUCTION = 100, 5  # per address and hour
PASSWORD_COST = (19_456, 2)  # KiB, passes (OWASP's second choice: 40 ms of one core)
READERS = 6  # connections for reads; the writer has one of its own


@dataclass(slots=True)
class LedgerContext:
    """Database, writer, and what is built on them."""

    settings: LedgerSettings
    database: Database
    writer: Writer
    metrics: Metrics
    keys: KeyRing
    services: ServiceVerifier
    signing_keys: SigningKeys
    sessions: Sessions
    credentials: Credentials
    passes: Passes
    limits: Limits
    outbox: Outbox
    owed_mail: OwedMail
    sign_in: SignIn
    guests: Guests
    enrollment: Enrollment
    agent_tokens: AgentTokens
    nodes: Nodes
    feed: Feed
    holds: Holds
    settling: Settling
    prices: PriceBook
    earnings: Earnings
    corrections: Corrections
    payments: Payments
    samples: Samples
    verdicts: Verdicts
    admissions: Admissions
    appeals: Appeals
    work: Work

    @classmethod
    def of_settings(cls, settings: LedgerSettings) -> "LedgerContext":
        """Build the context; nothing connects yet."""
        database = Database(settings.database_url, name="gfe_ledger", size=READERS)
        metrics = Metrics()
        writer = Writer(settings.database_url, observe=metrics.batch.observe)
        ids = AccountIds(database)
        pepper = bytes.fromhex(settings.secret("api_key_pepper"))
        keys, signing_keys, limits = KeyRing(database, pepper), SigningKeys(settings.secrets_dir, settings.public_url), Limits(database)
        prices, work = PriceBook(database), Work(database)
        mailer = mailer_of(settings)
        sessions, outbox = Sessions(database, signing_keys), Outbox(mailer, settings.public_url)
        owners = NodeOwners(database)
        credentials = Credentials(database, keys, signing_keys)
        gifts = Gifts(
            welcome=micros_of(settings.welcome_credits), open_jobs=settings.open_jobs, is_welcome_delayed=settings.welcome_after_email
        )
        sign_in = SignIn(
            database,
            Passwords(PASSWORD_COST),
            sessions,
            limits,
            outbox,
            TotpBox(pepper),
            gifts,
            registers_per_hour=settings.registers_per_hour or (REGISTERS_IN_PRODUCTION if settings.is_production else REGISTERS),
        )
        return cls(
            settings=settings,
            database=database,
            writer=writer,
            metrics=metrics,
            keys=keys,
            services=ServiceVerifier.of_folder(settings.secrets_dir),
            signing_keys=signing_keys,
            sessions=sessions,
            credentials=credentials,
            passes=Passes(credentials, signing_keys),
            limits=limits,
            outbox=outbox,
            owed_mail=OwedMail(database, mailer, settings.site_url),
            sign_in=sign_in,
            guests=Guests(database, providers_of(settings), Exchange(), sessions, sign_in, limits, gifts, settings.site_url),
            enrollment=Enrollment(database, pepper, max_agents=settings.max_agents, per_network=settings.nodes_per_network),
            agent_tokens=AgentTokens(database, origin_text(settings.public_url)),
            nodes=Nodes(database),
            feed=Feed(database, has_admission=settings.canaries > 0),
            holds=Holds(database, writer, ids, prices),
            settling=Settling(
                database,
                writer,
                ids,
                owners.owner,
                owners.key,
                fee_percent=settings.platform_fee_percent,
                goodwill_per_day=micros_of(settings.goodwill_per_day),
                worked=work.note,
            ),
            prices=prices,
            earnings=Earnings(database, terms=payout_terms(settings.payout_delay)),
            corrections=Corrections(database, alone_up_to=micros_of(settings.correction_second_approval)),
            payments=Payments.of_settings(settings, database, ids),
            samples=Samples(database),
            verdicts=Verdicts(database),
            admissions=Admissions(database, settings.canaries),
            appeals=Appeals(database),
            work=work,
        )

    def sign_in_providers(self) -> list[str]:
        """Name the other services that people can sign in with."""
        return list(self.guests.providers)

    def payment_gateways(self) -> list[str]:
        """Name the ways to pay."""
        return list(self.payments.gateways)

    async def aclose(self) -> None:
        """Stop writing, close connections."""
        await self.guests.aclose()
        await self.outbox.aclose()
        await self.writer.aclose()
        with suppress(DatabaseUnavailable):
            await self.work.flush()
        await self.payments.pay.close()
        await self.database.close()


def mailer_of(settings: LedgerSettings) -> Mailer:
    """Choose how mail leaves: by a server where one is set, else into files."""
    if settings.smtp_host is None:
        return FileMailer(settings.mail_dir or settings.secrets_dir.parent / "mail", settings.mail_from)
    password = settings.secret("smtp_password") if settings.smtp_user else None
    return SmtpMailer(settings.smtp_host, settings.smtp_port, settings.smtp_user, password, settings.mail_from)
