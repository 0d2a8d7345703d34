"""Mail on its way: handed over in the background, so that the time of an answer does not tell whether there was a mail to send."""

import asyncio

import structlog

from ledger.identity.mail import Mail, Mailer, MailFailed

MAX_WAITING = 1000
PAUSES_S = (1.0, 5.0, 30.0)
log = structlog.get_logger()


class Outbox:
    """Sends mail with a few repeats; what a crash loses, its reader asks for again. `url` is where the console is."""

    def __init__(self, mailer: Mailer, url: str) -> None:
        self._mailer = mailer
        self.url = url
        self._waiting: set[asyncio.Task[None]] = set()

    def send(self, mail: Mail) -> None:
        """Take a mail; too many at once are dropped with a line in the log."""
        if len(self._waiting) >= MAX_WAITING:
            log.error("mail_dropped", subject=mail.subject)
            return
        task = asyncio.get_running_loop().create_task(self._send(mail))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _send(self, mail: Mail) -> None:
        for pause_s in (*PAUSES_S, None):
            try:
                await self._mailer.send(mail)
                return
            except MailFailed as failed:
                log.warning("mail_failed", subject=mail.subject, why=str(failed))
                if pause_s is not None:
                    await asyncio.sleep(pause_s)

    async def drain(self) -> None:
        """Wait for all that is on its way."""
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def aclose(self) -> None:
        """Stop sending."""
        for task in tuple(self._waiting):
            task.cancel()
        await self.drain()
