"""Codes that travel by mail: they prove an address, or let somebody set a new password. Used once, stored as a hash."""

import secrets
import uuid
from datetime import timedelta
from typing import Literal

from ledger.db import Connection
from ledger.identity.mail import Mail
from ledger.identity.sessions import hash_of

Purpose = Literal["verify", "reset"]
LIFETIME: dict[Purpose, timedelta] = {"verify": timedelta(days=2), "reset": timedelta(hours=1)}


async def make_code(connection: Connection, person: uuid.UUID, purpose: Purpose, email: str) -> str:
    """Make a code; earlier ones for the same purpose stop working."""
    code = secrets.token_urlsafe(24)
    await connection.execute(
        "UPDATE ledger.mail_code SET used_at = clock_timestamp() WHERE person_id = %s AND purpose = %s AND used_at IS NULL",
        [person, purpose],
    )
    await connection.execute(
        "INSERT INTO ledger.mail_code (hash, person_id, purpose, email, expires_at) VALUES (%s, %s, %s, %s, clock_timestamp() + %s)",
        [hash_of(code), person, purpose, email, LIFETIME[purpose]],
    )
    return code


async def use_code(connection: Connection, code: str, purpose: Purpose) -> tuple[uuid.UUID, str] | None:
    """Use a code up; answer whose it is and which address it went to, None when it does not work."""
    cursor = await connection.execute(
        "UPDATE ledger.mail_code SET used_at = clock_timestamp() WHERE hash = %s AND purpose = %s AND used_at IS NULL "
        "AND expires_at > clock_timestamp() RETURNING person_id, email",
        [hash_of(code), purpose],
    )
    row = await cursor.fetchone()
    return (row[0], row[1]) if row else None


def verification(to: str, username: str, code: str, url: str) -> Mail:
    """Write the mail that proves an address."""
    return Mail(
        to, "Confirm your e-mail address",
        f"Hello {username},\n\nconfirm this address for GPU-For-Everyone:\n\n{url}/verify-email#{code}\n\nor send the code to the API:\n\n{code}\n\n"
        "It works for two days. If you did not ask for this, ignore this mail.\n",
    )  # fmt: skip


def new_password(to: str, username: str, code: str, url: str) -> Mail:
    """Write the mail that lets somebody set a new password."""
    return Mail(
        to, "Set a new password",
        f"Hello {username},\n\nset a new password for GPU-For-Everyone:\n\n{url}/reset-password#{code}\n\nor send the code to the API:\n\n{code}\n\n"
        "It works for one hour, once. If you did not ask for this, ignore this mail: your password stays as it is.\n",
    )  # fmt: skip


async def clean_up(connection: Connection) -> None:
    """Forget codes that ended long ago."""
    await connection.execute("DELETE FROM ledger.mail_code WHERE expires_at < clock_timestamp() - interval '7 days'")
