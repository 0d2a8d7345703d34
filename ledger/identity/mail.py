"""Sends mail: by SMTP where it is set, else into files, so that a development machine needs no mail server."""

import asyncio
import smtplib
import ssl
import time
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

LIMIT_S = 10.0
KEPT_FILES = 200


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person."""

    to: str
    subject: str
    text: str

    def message(self, sender: str) -> EmailMessage:
        """Write it as it is sent."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, self.to, self.subject
        message.set_content(self.text)
        return message


class MailFailed(Exception):
    """The mail could not be handed over."""


class Mailer(Protocol):
    """Hands mail over."""

    async def send(self, mail: Mail) -> None:
        """Hand one mail over.

        Raises:
            MailFailed: Nobody took it.
        """


@dataclass(frozen=True, slots=True)
class FileMailer:
    """Writes each mail into a file of its own; `gfe dev mail` shows the newest."""

    folder: Path
    sender: str

    async def send(self, mail: Mail) -> None:
        """Write it."""
        await asyncio.to_thread(self._write, mail)

    def _write(self, mail: Mail) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns()}.eml"
        path.touch(mode=0o600)
        path.write_bytes(bytes(mail.message(self.sender)))
        for old in sorted(self.folder.glob("*.eml"))[:-KEPT_FILES]:
            old.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class SmtpMailer:
    """Sends through a server, encrypted (STARTTLS, or TLS from the start on port 465)."""

    host: str
    port: int
    user: str | None
    password: str | None
    sender: str

    async def send(self, mail: Mail) -> None:
        """Send it.

        Raises:
            MailFailed: The server did not take it.
        """
        try:
            await asyncio.to_thread(self._send, mail)
        except (OSError, smtplib.SMTPException) as failed:
            raise MailFailed(f"{self.host}:{self.port} did not take the mail ({type(failed).__name__})") from failed

    def _send(self, mail: Mail) -> None:
        context = ssl.create_default_context()
        implicit = self.port == smtplib.SMTP_SSL_PORT
        server = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=LIMIT_S, context=context) if implicit
            else smtplib.SMTP(self.host, self.port, timeout=LIMIT_S)
        )  # fmt: skip
        with server:
            if not implicit and (self.user or server.has_extn("starttls")):
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.password or "")
            server.send_message(mail.message(self.sender))
