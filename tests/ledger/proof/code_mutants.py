"""Small defects in what stands around the kernel, put in on purpose: the tests named beside each must find it.

python -m tests.ledger.proof.code_mutants
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.hunt import hunt

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("cluster", "ledger", "provider_join", "serve_app", "tests", "pyproject.toml")
LIMIT_S = 300


@dataclass(frozen=True)
class Mutant:
    """A text that stands exactly once in a file, what it becomes, and the tests that must notice."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


SETTLING, BUDGETS, DEPOSITS = "ledger/money/settling.py", "ledger/money/budgets.py", "ledger/payments/deposits.py"
WITHDRAWALS, SESSIONS = "ledger/payments/withdrawals.py", "ledger/identity/sessions.py"
OF_SERVICE = (
    "tests/ledger/test_service.py",
    "tests/ledger/test_nodes.py",
    "tests/ledger/test_money_reads.py",
    "tests/ledger/test_budgets.py",
)
OF_PAYMENTS = ("tests/ledger/test_deposits.py", "tests/ledger/test_webhooks.py", "tests/ledger/test_withdrawals.py")
MUTANTS: dict[str, Mutant] = {
    "another service's hold may be captured": Mutant(
        SETTLING, 'if held.meta.get("service") != request.service:', "if False:", OF_SERVICE
    ),
    "a void never frees its key": Mutant(
        SETTLING, "Kind.VOID_RETRYABLE if request.retryable else Kind.VOID", "Kind.VOID", OF_SERVICE
    ),
    "every void frees its key": Mutant(
        SETTLING, "Kind.VOID_RETRYABLE if request.retryable else Kind.VOID", "Kind.VOID_RETRYABLE", OF_SERVICE
    ),
    "a charge leaves the key's budget alone": Mutant(SETTLING, "if cost and held.budgets:", "if False:", OF_SERVICE),
    "an outcome is not looked at": Mutant(SETTLING, "held.held, request.outcome,", 'held.held, "succeeded",', OF_SERVICE),
    "a capture with other counts is a repeat": Mutant(
        SETTLING, "all(meta.get(name) == getattr(request, name) for name in SAID)", "True", OF_SERVICE
    ),
    "a void after a capture is fine": Mutant(
        SETTLING, 'HoldNotOpen("captured") if kind is Kind.CAPTURE else Done(cost=0, existed=True)', "Done(cost=0, existed=True)", OF_SERVICE
    ),
    "holds expire a minute late": Mutant(
        SETTLING, "expires_at < clock_timestamp() ORDER", "expires_at < clock_timestamp() - interval '1 minute' ORDER", OF_SERVICE
    ),
    "people are paid for their own jobs": Mutant("ledger/identity/nodes.py", "if is_edge and owner == consumer:", "if False:", OF_SERVICE),
    "a banned node is paid": Mutant("ledger/identity/nodes.py", "WHERE id = %s AND state <> 'banned'\", [node]", 'WHERE id = %s", [node]', OF_SERVICE),
    "a budget of a day is one for ever": Mutant(BUDGETS, '"day": f"{now.astimezone(UTC):%Y-%m-%d}"', '"day": "day"', OF_SERVICE),
    "days begin somewhere else": Mutant(
        BUDGETS, '"day": f"{now.astimezone(UTC):%Y-%m-%d}"', '"day": f"{now.replace(tzinfo=UTC):%Y-%m-%d}"', OF_SERVICE
    ),
    "a budget below what is held goes below zero": Mutant(BUDGETS, "step = max(amount - given, -free)", "step = amount - given", OF_SERVICE),
    "another amount is credited": Mutant(
        DEPOSITS, "if (looked.amount, looked.currency) != (payment.amount, payment.currency):", "if False:", (*OF_PAYMENTS, "tests/ledger/test_stripe.py")
    ),
    "money that came late is lost": Mutant(
        DEPOSITS, 'if payment.status == "SUCCESS" or looked.state == "pending":', 'if payment.status != "PENDING" or looked.state == "pending":', OF_PAYMENTS
    ),
    "one operator is enough for any amount": Mutant(WITHDRAWALS, "return int(row[0]) >= (2 if is_large else 1)", "return True", OF_PAYMENTS),
    "a paid withdrawal is refused too": Mutant(WITHDRAWALS, 'if payment.status != "PENDING":', "if False:", OF_PAYMENTS),
    "a stolen refresh token works on": Mutant(SESSIONS, "            if is_stale:\n", "            if False:\n", ("tests/ledger/test_auth_api.py",)),
    "a spent refresh token is stale at once": Mutant(SESSIONS, "GRACE_S = 10", "GRACE_S = 0", ("tests/ledger/test_auth_api.py",)),
    "a state of another browser is taken": Mutant(
        "ledger/api/oauth.py", "if not kept or not hmac.compare_digest(kept.encode(), state.encode()):", "if False:", ("tests/ledger/test_oauth.py",)
    ),
    "an address that nobody proved joins accounts": Mutant(
        "ledger/identity/oauth/exchange.py", 'if claims.get("email_verified") is True else ""', 'or ""', ("tests/ledger/test_oauth.py",)
    ),
}  # fmt: skip


def killed_by(mutant: Mutant, tree: Path) -> str | None:
    """Plant a mutant in a copy of the sources, run its tests, take it out again; tell the first test that failed."""
    file = tree / mutant.file
    text = file.read_text()
    assert text.count(mutant.right) == 1, f"stands {text.count(mutant.right)} times in {mutant.file}: {mutant.right}"
    file.write_text(text.replace(mutant.right, mutant.wrong))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", "-p", "no:randomly", "--no-header", *mutant.tests], cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip
    finally:
        file.write_text(text)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:  # not a test that failed: the hunt itself
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return failed[0].split(" - ")[0] if failed else None


def main() -> int:
    """Hunt all mutants, or those whose names contain an argument."""
    chosen = {name: mutant for name, mutant in MUTANTS.items() if all(word in name for word in sys.argv[1:])}
    with tempfile.TemporaryDirectory(prefix="gfe-mutants-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        return hunt(chosen, lambda mutant: killed_by(mutant, tree))


if __name__ == "__main__":
    sys.exit(main())
