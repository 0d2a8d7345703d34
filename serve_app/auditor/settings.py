"""What can be set for the auditor."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import Field

from serve_app.ledger_settings import LedgerSettings

PRIVATE_KEY = "auditor_sealing.key"  # 32 bytes in hexadecimal digits


class AuditorSettings(LedgerSettings):
    """Settings of the auditor's process."""

    reference_url: str = Field(
        "", description="An embedded runtime of yours that has the models which nodes offer: answers are scored there, and tokens counted."
    )
    auditor_host: str = Field("127.0.0.1", description="Address of the auditor's `/healthz` and `/metrics`.")
    auditor_port: int = Field(8094, ge=0, le=65535, description="Port of the same; 0: any.")
    auditor_look_s: float = Field(5.0, gt=0, le=600, description="How often the auditor looks for work when there was none, in seconds.")

    def service_key(self) -> bytes:
        """Read the key by which the ledger knows the auditor."""
        return (self.secrets_dir / "service_auditor.pem").read_bytes()

    def sealing_key(self) -> X25519PrivateKey:
        """Read the key that samples are sealed to."""
        return X25519PrivateKey.from_private_bytes(bytes.fromhex((self.secrets_dir / PRIVATE_KEY).read_text().strip()))
