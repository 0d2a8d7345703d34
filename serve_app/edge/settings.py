"""What can be set for an edge gateway; read once, from the environment (`GFE_…`) and the secrets' folder."""

from pydantic import Field, field_validator

from cluster.edge.addresses import networks_of
from serve_app.ledger_settings import LedgerSettings


class EdgeSettings(LedgerSettings):
    """Settings of an edge gateway."""

    ledger_url: str = Field("http://127.0.0.1:8080", description="The ledger's public app; the keys of agents' tokens are read there.")
    edge_host: str = Field("127.0.0.1", description="Address on which an edge gateway takes agents.")
    edge_port: int = Field(8090, ge=0, le=65535, description="Port for agents; 0: any.")
    edge_node_host: str = Field("127.0.0.1", description="Address on which an edge gateway serves the node protocol to our own services.")
    edge_node_port: int = Field(8085, ge=0, le=65535, description="Port of that; 0: any.")
    edge_max_agents: int = Field(5000, ge=1, le=100_000, description="Agents that one edge gateway takes at once.")
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description=(
            "Networks and addresses of proxies whose `X-Forwarded-For` is believed, joined by commas; connects without a good token are limited "
            "per address that they name. Empty: nobody's."
        ),
    )
    reference_url: str | None = Field(
        None,
        description="Embedded runtime that counts the tokens of edge nodes' answers, for models that it has with the same weights; unset: none.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        networks_of(value)
        return value

    def secret(self, name: str) -> bytes:
        """Read a secret's file."""
        return (self.secrets_dir / name).read_bytes().strip()
