"""What an auditor is given of a job: what was asked and what was answered, sealed to its key."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cluster.audit.sealing import SealBroken, seal, unseal

MAX_TEXT_BYTES = 8 * 1024 * 1024  # of a sample, unpacked


@dataclass(frozen=True, slots=True)
class Sample:
    """A request in the form of Ollama's own API, and the answer's text."""

    request: Mapping[str, Any]
    answer: str

    def sealed(self, to: bytes, job: str) -> str:
        """Seal it to a public key (32 raw bytes), in base64."""
        text = json.dumps([self.request, self.answer], separators=(",", ":")).encode()
        return base64.b64encode(seal(to, zlib.compress(text), job)).decode()

    @classmethod
    def opened(cls, key: X25519PrivateKey, sealed: str, job: str) -> "Sample":
        """Open what was sealed.

        Raises:
            SealBroken: It was not sealed to this key, or for another job, or is none of ours.
        """
        try:
            packed = zlib.decompressobj()
            text = packed.decompress(unseal(key, base64.b64decode(sealed, validate=True), job), MAX_TEXT_BYTES)
            request, answer = json.loads(text)
        except (binascii.Error, zlib.error, ValueError, TypeError) as wrong:
            raise SealBroken from wrong
        if not packed.eof or not isinstance(request, dict) or not isinstance(answer, str):
            raise SealBroken
        return cls(request, answer)
