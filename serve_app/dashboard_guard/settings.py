"""What can be set for the dashboard guard."""

from urllib.parse import urlsplit

from pydantic import Field

from serve_app.ledger_settings import LedgerSettings

RAY_TOKEN, GRAFANA_TOKEN = "ray_token", "grafana_token"


class GuardSettings(LedgerSettings):
    """Settings of the dashboard guard."""

    public_url: str = Field("http://127.0.0.1:8080", description="The console's address; shown to who comes without a pass.")
    guard_host: str = Field("127.0.0.1", description="Address on which the dashboard guard listens.")
    guard_port: int = Field(8266, ge=0, le=65535, description="Port of the dashboard guard; 0: any.")
    guard_url: str | None = Field(
        None,
        description="Where operators' browsers reach the dashboard guard; requests for another host are refused. Unset: where it listens.",
    )
    dashboard_url: str = Field("http://127.0.0.1:8265", description="Ray's dashboard, as the dashboard guard reaches it.")
    grafana_url: str | None = Field(
        None,
        description=(
            "A Grafana to show behind the dashboard guard, with the path that it serves below (`http://127.0.0.1:3000/grafana`); its own "
            "`root_url` is `<GFE_GUARD_URL>/grafana/` with `serve_from_sub_path`. Unset: none."
        ),
    )

    @property
    def is_tls(self) -> bool:
        """Whether browsers reach it over TLS."""
        return urlsplit(self.guard_url or "").scheme == "https"

    def hosts(self, port: int) -> frozenset[str]:
        """List the `Host` headers that are ours when we listen on a port: the public one, and this machine's own names."""
        named = urlsplit(self.guard_url or "").netloc.lower()
        return frozenset(filter(None, (named, f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}")))

    def secret(self, name: str) -> str:
        """Read a secret's file."""
        return (self.secrets_dir / name).read_text().strip()

    def optional_secret(self, name: str) -> str | None:
        """Read a secret's file where there is one."""
        return self.secret(name) if (self.secrets_dir / name).exists() else None
