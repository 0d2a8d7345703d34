"""Mail that must not get lost: written in the transaction of what it tells of, handed over afterwards, until a mail server takes it.

A crash between the hand-over and the note of it sends a mail twice; nothing sends it never, but a mail server that takes none for days.
"""

import uuid

import structlog

from ledger.db import Connection, Database
from ledger.identity.mail import Mail, Mailer, MailFailed

AT_ONCE = 20  # mails of one round
MAX_TRIES = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 300.0, 12 * 3600.0  # between tries; twelve take more than two days
log = structlog.get_logger()
# The address of the moment of sending, if it is proven: an unproven one may be a stranger's.
_TAKE = """
WITH due AS (SELECT seq FROM ledger.owed_mail WHERE due_at <= clock_timestamp() ORDER BY due_at, seq LIMIT %(most)s FOR UPDATE SKIP LOCKED)
UPDATE ledger.owed_mail m SET tries = m.tries + 1, due_at = clock_timestamp() + make_interval(secs => least(%(longest)s, %(first)s * 2.0 ^ m.tries))
FROM due, ledger.person p WHERE m.seq = due.seq AND p.id = m.person_id
RETURNING m.seq, m.tries, CASE WHEN p.email_verified_at IS NOT NULL THEN p.email END, p.username, m.subject, m.body
"""


async def owe(connection: Connection, person: uuid.UUID, subject: str, body: str) -> None:
    """Owe somebody a mail, in the transaction of the caller; who has proven no address is owed none."""
    await connection.execute(
        "INSERT INTO ledger.owed_mail (person_id, subject, body) SELECT id, %s, %s FROM ledger.person WHERE id = %s AND email_verified_at IS NOT NULL",
        [subject, body, person],
    )


class OwedMail:
    """Hands over what is owed. `url` is where the console is."""

    def __init__(self, database: Database, mailer: Mailer, url: str) -> None:
        self._database, self._mailer, self._url = database, mailer, url

    async def hand_over(self) -> int:
        """Hand over what is due, with no transaction open meanwhile; answer how many were taken.

        Raises:
            DatabaseUnavailable: The database does not answer; the next round does the rest.
        """

        async def take(connection: Connection) -> list[tuple[int, int, str | None, str, str, str]]:
            cursor = await connection.execute(_TAKE, {"most": AT_ONCE, "first": FIRST_PAUSE_S, "longest": LONGEST_PAUSE_S})
            return sorted(await cursor.fetchall())

        taken = 0
        for seq, tries, address, username, subject, body in await self._database.transact(take):
            text = f"Hello {username},\n\n{body}\n\n{self._url}/\n"
            if address is None or await self._is_taken(Mail(address, subject, text)):
                taken += address is not None
            elif tries < MAX_TRIES:
                continue
            else:
                log.error("mail_given_up", subject=subject, tries=tries)
            await self._database.run(lambda connection, seq=seq: _forget(connection, seq))  # type: ignore[misc]
        return taken

    async def _is_taken(self, mail: Mail) -> bool:
        try:
            await self._mailer.send(mail)
        except MailFailed as failed:
            log.warning("mail_failed", subject=mail.subject, why=str(failed))
            return False
        return True


async def _forget(connection: Connection, seq: int) -> None:
    await connection.execute("DELETE FROM ledger.owed_mail WHERE seq = %s", [seq])
