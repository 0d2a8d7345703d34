"""The first start: prices, the operator's account with this machine as a node, the first consumer with a key. Idempotent."""

import time
from dataclasses import dataclass

from ledger.amounts import micros_of
from ledger.db import Connection, connect
from ledger.identity.api_keys import insert_key, new_key
from ledger.identity.people import ALL_SCOPES, USERNAME, Person, find_person, register
from ledger.identity.signing_keys import FOLDER, make_key
from ledger.money.prices import set_default_price
from ledger.secret_files import write_new
from ledger.settings import LedgerSettings

OPERATOR = "operator"
KEY_FILE = "first_api_key"


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """Who is there after the first start."""

    username: str
    made_account: bool
    made_key: bool


async def bootstrap(settings: LedgerSettings, username: str) -> Bootstrapped:
    """Make what is missing.

    Raises:
        DatabaseUnavailable: The database does not answer.
        ValueError: That is no name for an account.
    """
    if not USERNAME.fullmatch(username):
        raise ValueError(f"`{username[:60]}` is no name for an account: 1 to 150 letters, digits and @ . + - _")
    connection = await connect(settings.database_url, name="gfe_ledger_bootstrap")
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('ledger bootstrap'))")  # until this connection ends
        await set_default_price(connection, *settings.price_micros)
        _first_signing_key(settings)
        await _operator_with_node(connection, settings)
        person = await find_person(connection, username)
        made = person is None
        if person is None:
            welcome = micros_of(settings.welcome_credits)
            person = await register(connection, username, role="USER", welcome=welcome, open_jobs=settings.open_jobs)
        made_key = await _first_key(connection, settings, person)
    finally:
        await connection.close()
    return Bootstrapped(person.username, made, made_key)


async def _operator_with_node(connection: Connection, settings: LedgerSettings) -> None:
    operator = await find_person(connection, OPERATOR)
    if operator is None:
        operator = await register(connection, OPERATOR, role="PROVIDER", welcome=0, open_jobs=settings.open_jobs)
    if settings.node_id:
        await connection.execute(
            "INSERT INTO ledger.node (id, person_id, name, kind) VALUES (%s, %s, 'this machine', 'trusted') ON CONFLICT (id) DO NOTHING",
            [settings.node_id, operator.id],
        )


def _first_signing_key(settings: LedgerSettings) -> None:
    """Make the key that tokens are signed with, unless there is one."""
    if not list((settings.secrets_dir / FOLDER).glob("*.pem")):
        make_key(settings.secrets_dir, time.time())


async def _first_key(connection: Connection, settings: LedgerSettings, person: Person) -> bool:
    """Make the first key, unless its file is there and the ledger knows it."""
    path = settings.secrets_dir / KEY_FILE
    if path.exists():
        known = path.read_text().strip().split("_")
        cursor = await connection.execute(
            "SELECT 1 FROM ledger.api_key WHERE id = %s AND revoked_at IS NULL", [known[2] if len(known) > 2 else ""]
        )
        if await cursor.fetchone():
            return False
        path.unlink()
    key = new_key()
    await insert_key(connection, key, bytes.fromhex(settings.secret("api_key_pepper")), person.id, "first key", ALL_SCOPES)
    write_new(path, key.encode())
    return True
