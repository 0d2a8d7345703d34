"""Row 45 of the fault matrix: a machine of the cluster runs hostile code on the head; it finds no secret of the ledger and makes no money beyond a bound."""

import json
import os
import shutil
import sys
from pathlib import Path

import psycopg
import pytest

from cluster import invite as invites
from tests.world.network import why_not
from tests.world.platform import Newcomer

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow, pytest.mark.timeout(600)
]  # fmt: skip
SCRIPT = Path(__file__).with_name("hostile.py")
LIMIT_S = 420
# Serve may tell the ledger that the platform broke a job, and whoever served it is paid: that is bounded per day (GFE_GOODWILL_PER_DAY), and all.
GOODWILL_PER_DAY = 100_000_000
# What Serve needs is there to be found, and is why the ledger lets Serve do so little (docs/threat-model.md).
PUBLIC = ("service_serve.pub.pem", "service_edge.pub.pem", "service_guard.pub.pem", "service_auditor.pub.pem", "auditor_sealing.pub")
CONSUMERS = ("first_api_key",)  # a caller's own credential passes through Serve


def secrets_of(folder, without=()):
    """Every secret's words, by its file's name: the middle of a key file, the password of a URL."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in without:
            text = path.read_text().strip()
            found[path.name] = text.split(":")[2].split("@")[0] if "://" in text else text.splitlines()[1] if "BEGIN" in text else text
    return found


@pytest.fixture
def loot():
    folder = Path(f"/tmp/gfe-loot-{os.getpid()}")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_row_45_hostile_code_on_the_head_finds_no_secret_of_the_ledger_and_cannot_mint(platform, loot):
    newcomer = Newcomer(platform, platform.world.machines[1], "traitor")
    invite = platform.invite("traitor")
    newcomer.join(invite).joined()
    try:
        read = invites.read(invite)
        before = money_of(platform)
        key = loot.with_name(f"{loot.name}.key")
        key.write_text((platform.secrets / "first_api_key").read_text())  # of a consumer in league: this one is given, not found
        key.chmod(0o644)
        told = attack(newcomer, read, loot, key)
    finally:
        newcomer.leave()
        key.unlink(missing_ok=True)
    gained = money_of(platform) - before
    sys.stdout.write(f"\nrow 45: {json.dumps(told, indent=1)}\ngained: {gained} micro-credits\n")
    assert told["who"]["uid"] != 0
    assert told["who"]["capabilities"] == "0" * 16
    assert told["taken"]["refused"]["memory"] > 0
    require_nothing_of_the_ledger(platform, loot)
    assert told["changed"] == []
    assert told["minted"]["worked"] == []
    assert set(told["minted"]["logins"]) <= {"gfe_serve", "internal:serve"}
    assert gained <= GOODWILL_PER_DAY
    assert platform.gfe("ledger", "audit").returncode == 0


def attack(newcomer, invite, loot, key):
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(newcomer.home / "ray_token"), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    command = [sys.executable, "-P", str(SCRIPT), invite.head, newcomer.machine.address, str(loot), invite.node, str(key)]
    done = newcomer.machine.run(command, environment=newcomer.environment | settings, capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def require_nothing_of_the_ledger(platform, loot):
    """The loot holds what Serve has, which proves that the search can find; and nothing else."""
    words = "\n".join(path.read_text(errors="replace") for path in loot.iterdir())
    ledgers = secrets_of(platform.secrets, without=(*PUBLIC, *CONSUMERS, "password_gfe_serve"))
    assert len(ledgers) >= 8
    assert [name for name, secret in ledgers.items() if secret in words] == []
    guards = secrets_of(platform.secrets.with_name("guard_secrets"), without=(*PUBLIC, "ray_token"))  # the token is Ray's own
    assert list(guards) == ["service_guard.pem"]
    assert guards["service_guard.pem"] not in words
    serves = secrets_of(platform.secrets.with_name("ray_secrets"))
    assert {name for name, secret in serves.items() if secret in words} >= {"service_serve.pem", "serve_database_url", "ray_token"}


def money_of(platform):
    """What people own in all, in micro-credits: everything that is not the platform's or the world's."""
    query = "SELECT sum(posted) FROM ledger.account WHERE unit = 1 AND address !~ '^(platform|world|issuer|clearing):'"
    with psycopg.connect(platform.admin_url) as connection:
        return int(connection.execute(query).fetchone()[0])
