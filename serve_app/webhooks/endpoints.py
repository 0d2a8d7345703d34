"""The rows of endpoints, and of accounts' default secrets. Every statement names the account: another's endpoint is none."""

import uuid
from collections.abc import Sequence
from typing import Any

from psycopg.errors import UniqueViolation

from serve_app.db import Line
from serve_app.errors import TooManyWebhooks, UnknownWebhook, WebhookExists
from serve_app.webhooks.outbox import DROP_PENDING
from serve_app.webhooks.records import Endpoint
from serve_app.webhooks.signing import Signer

BY_OWNER = "Disabled by its owner."
_COLUMNS = (
    "id, user_id, key_id, url, events, has_result, description, version, rotated_at, failing_since, disabled_at, disabled_why, created_at"
)
# The account's row counts its endpoints: two that are added at once cannot pass the limit together.
ADD = f"""
WITH room AS (INSERT INTO serve_app.webhook_account AS a (user_id, endpoints) VALUES (%b, 1)
              ON CONFLICT (user_id) DO UPDATE SET endpoints = a.endpoints + 1 WHERE a.endpoints < %b RETURNING user_id)
INSERT INTO serve_app.webhook (id, user_id, key_id, url, events, has_result, description)
SELECT %b, user_id, %b, %b, %b::text[], %b, %b FROM room RETURNING {_COLUMNS}"""  # noqa: S608
LIST = f"SELECT {_COLUMNS} FROM serve_app.webhook WHERE user_id = %b ORDER BY id"  # noqa: S608
FIND = f"SELECT {_COLUMNS} FROM serve_app.webhook WHERE id = %b AND user_id = %b"  # noqa: S608
CHANGE = f"""
WITH changed AS (
  UPDATE serve_app.webhook
     SET url = coalesce(%b, url), events = coalesce(%b::text[], events), has_result = coalesce(%b, has_result), description = coalesce(%b, description),
         disabled_at = CASE %b::boolean WHEN true THEN NULL WHEN false THEN coalesce(disabled_at, now()) ELSE disabled_at END,
         disabled_why = CASE %b::boolean WHEN true THEN NULL WHEN false THEN coalesce(disabled_why, %b) ELSE disabled_why END,
         failing_since = CASE %b::boolean WHEN true THEN NULL ELSE failing_since END
   WHERE id = %b AND user_id = %b RETURNING {_COLUMNS}),
moved AS (UPDATE serve_app.webhook_event e SET url = c.url FROM changed c WHERE e.webhook_id = c.id AND e.state = 0 AND e.url <> c.url)
SELECT {_COLUMNS} FROM changed"""  # noqa: S608
ROTATE = f"""
UPDATE serve_app.webhook SET version = version + 1, rotated_at = now() WHERE id = %b AND user_id = %b RETURNING {_COLUMNS}"""  # noqa: S608
REMOVE = """
WITH gone AS (DELETE FROM serve_app.webhook WHERE id = %b AND user_id = %b RETURNING id, user_id),
silent AS (DELETE FROM serve_app.webhook_event e USING gone WHERE e.webhook_id = gone.id)
UPDATE serve_app.webhook_account a SET endpoints = a.endpoints - 1 FROM gone WHERE a.user_id = gone.user_id RETURNING gone.id"""
ACCOUNT = "SELECT version, rotated_at FROM serve_app.webhook_account WHERE user_id = %b"
ROTATE_ACCOUNT = """
INSERT INTO serve_app.webhook_account AS a (user_id, version, rotated_at) VALUES (%b, 2, now())
ON CONFLICT (user_id) DO UPDATE SET version = a.version + 1, rotated_at = now() RETURNING version, rotated_at"""


class Endpoints:
    """The endpoints of accounts."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve_endpoints")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._line.drop()

    async def add(
        self, id_: uuid.UUID, user: str, *, key: str | None, url: str, events: Sequence[str], has_result: bool, description: str, limit: int
    ) -> Endpoint:
        """Keep a new endpoint.

        Raises:
            TooManyWebhooks: The account has as many as it may.
            WebhookExists: It has one with this URL for the same jobs.
        """
        try:
            rows = await self._line.query(ADD, (user, limit, id_, key, url, list(events), has_result, description))
        except UniqueViolation as same:
            raise WebhookExists from same
        if not rows:
            raise TooManyWebhooks(limit)
        return _endpoint(rows[0])

    async def list(self, user: str) -> list[Endpoint]:
        """List an account's endpoints, oldest first."""
        return [_endpoint(row) for row in await self._line.query(LIST, (user,))]

    async def find(self, id_: uuid.UUID, user: str) -> Endpoint:
        """Look an endpoint up.

        Raises:
            UnknownWebhook: This account has none like that.
        """
        return _one(await self._line.query(FIND, (id_, user)))

    async def change(
        self, id_: uuid.UUID, user: str, *, url: str | None, events: Sequence[str] | None, has_result: bool | None, description: str | None,
        is_enabled: bool | None,
    ) -> Endpoint:  # fmt: skip
        """Change what is not None. What waits for it goes to its new URL; a disabled one gets nothing more, and what waited is given up.

        Raises:
            UnknownWebhook: This account has none like that.
            WebhookExists: Another one has this URL for the same jobs.
        """
        given = (
            url,
            None if events is None else list(events),
            has_result,
            description,
            is_enabled,
            is_enabled,
            BY_OWNER,
            is_enabled,
            id_,
            user,
        )
        try:
            changed = _one(await self._line.query(CHANGE, given))
        except UniqueViolation as same:
            raise WebhookExists from same
        if is_enabled is False:
            await self._line.query(DROP_PENDING, ("Its endpoint was disabled.", id_))
        return changed

    async def rotate(self, id_: uuid.UUID, user: str) -> Endpoint:
        """Make its secret a new one.

        Raises:
            UnknownWebhook: This account has none like that.
        """
        return _one(await self._line.query(ROTATE, (id_, user)))

    async def remove(self, id_: uuid.UUID, user: str) -> None:
        """Forget an endpoint, with what it was told.

        Raises:
            UnknownWebhook: This account has none like that.
        """
        if not await self._line.query(REMOVE, (id_, user)):
            raise UnknownWebhook

    async def account(self, user: str) -> Signer:
        """Tell which secret signs what goes to the URLs of an account's jobs."""
        rows = await self._line.query(ACCOUNT, (user,))
        return Signer.of_account(user, *rows[0]) if rows else Signer.of_account(user, 1, None)

    async def rotate_account(self, user: str) -> Signer:
        """Make that secret a new one."""
        rows = await self._line.query(ROTATE_ACCOUNT, (user,))
        return Signer.of_account(user, *rows[0])


def _one(rows: Sequence[Any]) -> Endpoint:
    if not rows:
        raise UnknownWebhook
    return _endpoint(rows[0])


def _endpoint(row: Sequence[Any]) -> Endpoint:
    return Endpoint(
        id=row[0], user=row[1], key=row[2], url=row[3], events=tuple(row[4]), has_result=row[5], description=row[6], version=row[7], rotated_at=row[8],
        failing_since=row[9], disabled_at=row[10], disabled_why=row[11], created_at=row[12],
    )  # fmt: skip
