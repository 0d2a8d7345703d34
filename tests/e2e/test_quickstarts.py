"""What the quickstarts and the README tell a newcomer to type, typed; see `tests/e2e/pages.py`."""

import csv
import io
import re
import shutil

import pytest

from tests.e2e.pages import ROOT, blocks_of, pattern_of, run_page

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
PAGES = ("README.md", "docs/quickstart/consumer.md", "docs/quickstart/provider.md", "docs/quickstart/operator.md")


@needs_curl
@pytest.mark.parametrize("page", PAGES)
def test_a_newcomer_sees_what_the_page_shows(green, tmp_path, page):
    run_page(page, green, tmp_path)


@pytest.fixture
def paid_market(new_installation):
    """An installation whose accounts start with nothing."""
    found = new_installation(26000)
    found.environment |= {"GFE_WELCOME_CREDITS": "0"}
    found.up()
    yield found
    found.remove()  # now, not at the end of the run: an idle installation costs the others their time


@needs_curl
def test_a_whole_life_as_its_page_tells_it(paid_market, tmp_path):
    said = run_page("docs/quickstart/whole-life.md", paid_market, tmp_path)
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


def test_every_quickstart_shows_what_is_seen():
    for page in PAGES:
        assert any(block.shown for block in blocks_of((ROOT / page).read_text())), page


@pytest.mark.parametrize(
    ("seen", "is_same"),
    [
        ("balance 7.25 credits\n job_01K is done", True),
        ("balance 7.25 credits · for job_01K it is done", False),
        ("balance - credits\njob_01K is done", False),
        ("balance 7.25 credits\nnothing is done", False),
    ],
)
def test_figures_and_ids_may_differ_and_words_may_not(seen, is_same):
    assert bool(re.search(pattern_of("balance 99.00 credits\njob_01M is done\n"), seen, re.DOTALL)) is is_same
