"""What can be set for a Serve replica. Handed over as the application's arguments: texts and paths, never secrets."""

from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field

from serve_app.catalog import CatalogMode
from serve_app.ledger_settings import LedgerSettings


class ServeSettings(LedgerSettings):
    """Settings of the Serve application and of its driver."""

    api_host: str = Field("127.0.0.1", description="Address of the job APIs.")
    api_port: int = Field(8000, ge=1, le=65535, description="Port of the job APIs.")
    ledger_url: str = Field("http://127.0.0.1:8080", description="Where people reach accounts and wallet; shown on the API's page.")
    public_url: str | None = Field(None, description="Where people reach the console; unset: at the ledger's URL.")
    dashboard_url: str = Field("http://127.0.0.1:8265", description="Ray's dashboard; shown on the API's page.")
    ray_address: str = Field("127.0.0.1:6379", description="Address of Ray's head.")
    runtime_url: str = Field("http://127.0.0.1:11434", description="The Ollama API that this machine's worker uses.")
    node_host: str = Field("127.0.0.1", description="Address on which a worker serves the node protocol.")
    node_port: int = Field(0, ge=0, le=65535, description="Port of the node protocol; 0: any.")
    edge_urls: str = Field(
        "", description="Where edge gateways serve the node protocol, joined by commas; empty: there are none, and no edge nodes."
    )
    standby_file: Path | None = Field(
        None,
        description="File with the ids of nodes that Ray's autoscaler starts when jobs wait and ends when the others suffice, one per line; unset: all nodes run always.",
    )
    standby_idle_s: float = Field(600.0, ge=1, description="A standby node ends when the others sufficed for so long, in seconds.")
    slots: int | None = Field(None, ge=1, le=1024, description="Jobs that this machine runs at once; unset: what its runtime says.")
    zone: str = Field("", max_length=100, description="Where this machine stands, in your words; jobs prefer nodes of the same zone.")
    simulated_gpus: str | None = Field(None, description="GPUs to pretend, `name:total MiB:used MiB:capability` joined by `;`.")
    node_pull: bool = Field(False, description="Whether this machine fetches models that its operator names.")
    node_partial: bool = Field(False, description="Whether models that only partly fit into this machine's GPU are used, slowly.")
    env: Literal["dev", "test", "production"] = Field("dev", description="What this installation is for.")
    catalog: CatalogMode | None = Field(
        None,
        description="`approved` offers what the catalog lists, by digest; `open` whatever nodes have. Unset: `approved` in production.",
    )
    default_model: str = Field("smollm2:135m", description="Model used where a request names none.")
    replicas: int | None = Field(None, ge=1, le=64, description="Serve replicas; unset: 2 on a machine with 4 cores or more, else 1.")
    node_notes: Path | None = Field(
        None, description="Folder in which this machine's worker keeps what must outlive it; unset: nothing is kept."
    )
    max_tokens: int = Field(1024, ge=1, description="Longest answer where a request sets no limit, in tokens.")
    continues: bool = Field(
        True, validation_alias=AliasChoices("GFE_CONTINUE", "continues"),
        description="Whether another node goes on in the middle of a plain answer whose node was lost.",
    )  # fmt: skip
    webhook_endpoints: int = Field(20, ge=1, le=1000, description="How many webhooks an account may have.")
    webhook_url_length: int = Field(2000, ge=20, le=8000, description="Longest URL of a webhook, in characters.")
    webhook_allow_private: bool = Field(
        False,
        description="Whether webhooks may go to loopback and private networks, over plain http too. Every consumer can then reach them.",
    )
    console_origins: str = Field(
        "",
        description="Origins of pages that may call this API and open a live socket, joined by commas; empty: that of the console. This API's own is always one.",
    )
    live_sockets: int = Field(400, ge=1, le=900, description="Live sockets and streams that a replica keeps open at once.")
    live_sockets_per_account: int = Field(50, ge=1, le=900, description="The same, per account and replica.")
    canary_percent: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Of a hundred jobs on an edge node, how many are followed by a test job there, which nobody pays for.",
    )
    traces_url: str = Field(
        "",
        description="Where an OpenTelemetry collector takes traces by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: nobody is told.",
    )
    traces_share: float = Field(1.0, ge=0, le=1, description="Of all jobs, the share that is traced; which ones follows from their ids.")
    node_wait_s: float = Field(30.0, gt=0, description="How long a request waits for a free slot, in seconds.")

    batch_lines_in_flight: int = Field(
        4, ge=1, le=1000, description="Lines of batches that one replica has under way at once, of all batches together."
    )

    @property
    def catalog_mode(self) -> CatalogMode:
        """Whether the catalog is a hint or the law."""
        return self.catalog or (CatalogMode.APPROVED if self.env == "production" else CatalogMode.OPEN)

    @cached_property
    def origins(self) -> frozenset[str]:
        """The pages that may call us and open a live socket."""
        named = [origin.strip().rstrip("/") for origin in self.console_origins.split(",") if origin.strip()]
        site = urlsplit(self.public_url or self.ledger_url)
        return frozenset([*(named or [f"{site.scheme}://{site.netloc}"]), f"http://{self.api_host}:{self.api_port}"])

    @property
    def edges(self) -> tuple[str, ...]:
        """The edge gateways."""
        return tuple(url.strip().rstrip("/") for url in self.edge_urls.split(",") if url.strip())

    def secret(self, name: str) -> bytes:
        """Read a secret's file."""
        return (self.secrets_dir / name).read_bytes().strip()

    def has_secret(self, name: str) -> bool:
        """Whether there is such a secret: of parts that an installation need not have."""
        return (self.secrets_dir / name).exists()

    def as_arguments(self) -> dict[str, str]:
        """Write the settings as the application's arguments."""
        return {name: str(value) for name, value in self.model_dump().items() if value is not None}
