"""The `curl` lines of docs/quickstart.md, run as they stand against an installation of their own; every figure checked."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import GFE

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]
PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
MARK = "<!-- run by tests/e2e/test_quickstart.py -->\n```sh\n"


@pytest.fixture(scope="module")
def paid_market(new_installation):
    """An installation whose accounts start with nothing."""
    found = new_installation(26000)
    found.environment |= {"GFE_WELCOME_CREDITS": "0"}
    found.up()
    yield found
    found.remove()  # now, not at the end of the run: an idle installation costs the others their time


def script(installation):
    text = PAGE.read_text().split(MARK)[1].split("\n```")[0]
    head, rest = text.split("\n", 1)
    assert head == "LEDGER=http://127.0.0.1:8080 API=http://127.0.0.1:8000"
    return f"set -eu\nLEDGER={installation.report['console_url']} API={installation.report['api_url']}\n{rest}\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_whole_life_as_the_quickstart_tells_it(paid_market, tmp_path):
    (tmp_path / "gfe").symlink_to(GFE)
    done = subprocess.run(
        ["bash", "-c", script(paid_market)], env=paid_market.environment, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "25.00\n" in said
    assert "23.00\n" in said
    assert said.count("'cost': '1.00'") == 2
    earned = said.split("operator is an operator\n")[1].splitlines()
    assert earned[:2] == ["2.00", "SUCCESS"]
    statement = said[said.index("id,created_at") : said.index("held    ")]
    rows = list(csv.DictReader(io.StringIO(statement)))
    assert [(row["kind"], row["amount"], row["balance_after"]) for row in rows] == [
        ("job_charge", "-1.00", "23.00"),
        ("job_charge", "-1.00", "24.00"),
        ("deposit", "25.00", "25.00"),
    ]
    assert "VIOLATED" not in said
    assert len(re.findall(r"^held ", said, re.MULTILINE)) >= 11
