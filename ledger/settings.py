"""What can be set for the ledger service; read once, from the environment (`GFE_…`) and the secrets' folder."""

from datetime import timedelta
from functools import cached_property
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.amounts import micros_of

CANARIES, CANARIES_IN_DEVELOPMENT = 20, 4
AMOUNT = r"^\d{1,12}(\.\d{1,6})?$"


class LedgerSettings(BaseSettings):
    """Settings of the ledger service."""

    model_config = SettingsConfigDict(env_prefix="GFE_", frozen=True, extra="ignore")

    env: Literal["dev", "test", "production"] = Field(
        "dev", description="What this installation is for; production refuses development values."
    )
    secrets_dir: Path = Field(description="Folder with one file per secret.")
    ledger_host: str = Field("127.0.0.1", description="Address of the public app: accounts, wallet, console.")
    ledger_port: int = Field(8080, description="Port of the public app.", ge=1, le=65535)
    ledger_socket: Path = Field(description="Unix socket of the internal operations.")
    ledger_internal_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description=(
            "Port of the internal operations for services on other machines, usually 8091; unset: none. TLS on both sides, by the secrets "
            "`internal_ca.crt`, `internal.crt` and `internal.key`."
        ),
    )
    ledger_internal_host: str = Field("127.0.0.1", description="Address of that port.")
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description=(
            "Networks and addresses of proxies whose `X-Forwarded-For` is believed, joined by commas; limits per address count whom they name. "
            "Empty: nobody's."
        ),
    )
    metrics_from: str = Field(
        "", description="Networks that may read `/metrics` beside this machine, joined by commas: Prometheus's. Never through a proxy."
    )
    public_url: str = Field("http://127.0.0.1:8080", description="Where people reach the ledger's public app.")
    api_url: str = Field("http://127.0.0.1:8000", description="Where consumers reach the job APIs; shown on the ledger's page.")
    guard_url: str | None = Field(
        None, description="Where operators' browsers reach the dashboard guard; unset: there is none, and the console shows no links to it."
    )
    grafana_url: str | None = Field(None, description="A Grafana behind the dashboard guard; set: the console links to it.")
    node_id: str | None = Field(None, description="Id of this machine as a node; registered at the first start.")
    welcome_credits: str = Field("100.00", pattern=AMOUNT, description="Credits that a new account gets, from platform:promotions.")
    job_price: str = Field("1.00", pattern=AMOUNT, description="Flat price of a job, in credits.")
    prompt_price: str = Field("0.00", pattern=AMOUNT, description="Price of a million prompt tokens, in credits.")
    completion_price: str = Field("0.00", pattern=AMOUNT, description="Price of a million tokens of the answer, in credits.")
    batch_discount_percent: int = Field(50, ge=0, le=100, description="How much cheaper a line of a batch is than the same job by itself.")
    platform_fee_percent: int = Field(0, ge=0, le=100, description="The platform's share of what a job costs.")
    goodwill_per_day: str = Field(
        "100.00", pattern=AMOUNT, description="The most that providers get within 24 hours for jobs that the platform broke, in credits."
    )
    max_agents: int = Field(20, ge=1, le=10_000, description="How many agents and open enrollment codes an account may have at once.")
    nodes_per_network: int = Field(
        16,
        ge=0,
        le=100_000,
        description="How many nodes on probation may come from one IPv4 /24 or IPv6 /48, of all accounts; 0: as many as like.",
    )
    agent_url: str = Field("ws://127.0.0.1:8090/ws/computing/", description="Where agents connect; told to them when they enroll.")
    min_agent_version: str = Field("0.1.0", description="The oldest version of the agent that may connect.")
    console_origins: str = Field(
        "", description="Origins of pages that may sign in with a cookie, joined by commas; empty: the public URL's own."
    )
    registers_per_hour: int | None = Field(None, ge=1, description="New accounts per address and hour; unset: 5 in production, else 100.")
    submits_per_minute: int = Field(600, ge=1, le=1_000_000, description="Jobs that an account may submit per minute.")
    welcome_after_email: bool = Field(False, description="Give the welcome credits when the e-mail address is proven, not at once.")
    smtp_host: str | None = Field(None, description="Mail server; unset: mail is written into files (`gfe dev mail`).")
    mail_dir: Path | None = Field(None, description="Folder of those files; unset: `mail` beside the secrets' folder.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port; 465 is TLS from the start.")
    smtp_user: str | None = Field(None, description="Login there; its password is the secret `smtp_password`.")
    mail_from: str = Field("GPU-For-Everyone <no-reply@localhost>", description="Sender of mail.")
    payout_delay_hours: int | None = Field(
        None,
        ge=0,
        description="How long earnings wait before they can be withdrawn; unset: in production 30, 14 or 7 days by the node's tier, else 0.",
    )
    admission_canaries: int | None = Field(
        None,
        ge=0,
        le=200,
        description="Test jobs that a model on an edge node must pass before consumers' jobs go there; 0: none. Unset: 20 in production, else 4.",
    )
    correction_second_approval: str = Field("100.00", pattern=AMOUNT, description="Corrections above this need two operators.")
    payment_gateways: str | None = Field(
        None,
        pattern=r"^((mock|stripe)(,(mock|stripe))*)?$",
        description="Payment gateways, the default one first: `stripe`, and `mock` outside production. Unset: `mock`; in production none.",
    )
    deposit_min: str = Field("1.00", pattern=AMOUNT, description="The least that one deposit may be, in credits.")
    deposit_max: str = Field("10000.00", pattern=AMOUNT, description="The most that one deposit may be, in credits.")
    deposit_expiry_hours: int = Field(24, ge=1, le=24 * 30, description="Hours after which a deposit that nobody confirmed is given up.")
    withdrawal_min: str = Field("1.00", pattern=AMOUNT, description="The least that one withdrawal may be, in credits.")
    withdrawal_second_approval: str = Field("1000.00", pattern=AMOUNT, description="Withdrawals above this need two operators.")
    stripe_api_base: str | None = Field(None, description="Where Stripe's API is; unset: at Stripe. For tests.")
    google_client_id: str | None = Field(
        None, description="Client id at Google; set: people can sign in with it. Its secret is the file `google_client_secret`."
    )
    google_url: str = Field("https://accounts.google.com", description="Issuer of Google's tokens; another OpenID provider's works too.")
    github_client_id: str | None = Field(
        None, description="Client id at GitHub; set: people can sign in with it. Its secret is the file `github_client_secret`."
    )
    github_url: str = Field("https://github.com", description="Where GitHub's pages are.")
    github_api_url: str = Field("https://api.github.com", description="Where GitHub's API is.")
    open_jobs: int = Field(100, ge=1, le=100_000, description="How many jobs an account may have open at once.")

    @field_validator("trusted_proxies", "metrics_from")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        """Refuse what is no network: the server would leave it out in silence, or believe everybody (`*`)."""
        for one in _listed(value):
            ip_network(one)
        return value

    @model_validator(mode="after")
    def _no_toys_in_production(self) -> Self:
        """Refuse a gateway that anybody could pay with."""
        if self.env == "production" and "mock" in self.gateway_names:
            raise ValueError("the gateway `mock` is for development: it credits without money")
        return self

    @property
    def gateway_names(self) -> tuple[str, ...]:
        """Names of the payment gateways, the default one first."""
        if self.payment_gateways is None:
            return () if self.env == "production" else ("mock",)
        return tuple(dict.fromkeys(name for name in self.payment_gateways.split(",") if name))

    @property
    def site_url(self) -> str:
        """Where people reach the public app, without a slash at the end."""
        return self.public_url.rstrip("/")

    @property
    def proxies(self) -> list[str]:
        """Whose `X-Forwarded-For` is believed."""
        return _listed(self.trusted_proxies)

    def may_read_metrics(self, address: str) -> bool:
        """Whether the metrics are told to this address: this machine's own, and those of the networks that were named."""
        try:
            found = ip_address(address.removeprefix("::ffff:"))
        except ValueError:
            return False
        return found.is_loopback or any(found in ip_network(network) for network in _listed(self.metrics_from))

    def secret(self, name: str) -> str:
        """Read a secret's file."""
        return (self.secrets_dir / name).read_text().strip()

    @cached_property
    def origins(self) -> frozenset[str]:
        """The pages that may use the cookie."""
        named = [origin.rstrip("/") for origin in _listed(self.console_origins)]
        split = urlsplit(self.public_url)
        return frozenset(named or [f"{split.scheme}://{split.netloc}"])

    @property
    def payout_delay(self) -> timedelta | None:
        """How long the earnings of every node wait; None: by its tier."""
        if self.payout_delay_hours is not None:
            return timedelta(hours=self.payout_delay_hours)
        return None if self.is_production else timedelta()

    @property
    def canaries(self) -> int:
        """How many test jobs a model on an edge node must pass; 0: none."""
        if self.admission_canaries is not None:
            return self.admission_canaries
        return CANARIES if self.is_production else CANARIES_IN_DEVELOPMENT

    @property
    def is_production(self) -> bool:
        """Whether real people's money is at stake."""
        return self.env == "production"

    @cached_property
    def database_url(self) -> str:
        """The service's login."""
        return self.secret("ledger_database_url")

    @cached_property
    def pay_database_url(self) -> str:
        """The login that may move credits in from the world and out to it."""
        return self.secret("pay_database_url")

    @property
    def price_micros(self) -> tuple[int, int, int]:
        """Flat price, and per million prompt and completion tokens, in micro-credits."""
        return micros_of(self.job_price), micros_of(self.prompt_price), micros_of(self.completion_price)


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
