"""The one line that lets a machine of the operator's join: where the head is, who the node will be, and the cluster's token. Pure.

Whoever has it can run code in the cluster (docs/threat-model.md): it is a secret, made for one machine.
"""

import base64
import binascii
import json
import zlib
from dataclasses import asdict, dataclass

PREFIX = "gfe_invite_1_"
MAX_LENGTH = 4096
CHECK_LENGTH = 8  # hex digits of a CRC-32: finds a line that was cut or mistyped


class BadInvite(Exception):
    """The text is no invite, or not a whole one."""

    def __str__(self) -> str:
        """Say what is wrong."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What a machine must know to join. Versions are the head's: every node needs the same."""

    head: str  # host:port of Ray's head
    node: str
    name: str
    token: str
    ray: str
    python: str  # major.minor
    clock: str = ""  # host:port at which the head answers HTTP: its time is compared before anything starts

    def __repr__(self) -> str:
        """Leave the token out: this may stand in a log."""
        return f"Invite({self.node} to {self.head})"


def write(invite: Invite) -> str:
    """Write an invite as one word."""
    packed = base64.urlsafe_b64encode(json.dumps(asdict(invite), separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{PREFIX}{packed}_{zlib.crc32(packed.encode()):08x}"


def read(text: str) -> Invite:
    """Read an invite.

    Raises:
        BadInvite: It is none, of a newer version, or a part of it is missing.
    """
    text = "".join(text.split())  # a terminal may have broken the line
    if not text.startswith(PREFIX) or len(text) > MAX_LENGTH:
        raise BadInvite("this is no invite of this version; `gfe admin invite` on the head's machine prints one")
    packed, _, check = text.removeprefix(PREFIX).rpartition("_")
    if len(check) != CHECK_LENGTH or f"{zlib.crc32(packed.encode()):08x}" != check:
        raise BadInvite("the invite is not whole: copy the line from its beginning to its end")
    try:
        said = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        invite = Invite(**said)
    except (ValueError, TypeError, binascii.Error) as broken:
        raise BadInvite("the invite cannot be read; ask for a new one") from broken
    if not all(isinstance(value, str) for value in asdict(invite).values()):
        raise BadInvite("the invite cannot be read; ask for a new one")
    return invite
