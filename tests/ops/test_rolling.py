"""Every part of an installation is started anew under twenty requests a second: nobody notices. `python -m bench.rolling` prints more figures."""

import json
from contextlib import ExitStack
from decimal import Decimal

import pytest

from bench.installation import start_stub
from bench.rolling import SETTINGS, roll
from serve_app.local.restarting import PARTS
from tests.e2e.market import Market

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)]
PER_S, SETTLE_S = 20.0, 6.0


@pytest.fixture(scope="module")
def stub_url():
    stub, url = start_stub()
    yield url
    stub.terminate()
    stub.wait()


@pytest.fixture(scope="module")
def market(new_installation, stub_url, tmp_path_factory):
    installation = new_installation(23500)
    installation.environment |= SETTINGS | {"GFE_OLLAMA_URL": stub_url}
    installation.up()
    with ExitStack() as stack:
        yield Market(installation, tmp_path_factory.mktemp("market"), stack, Decimal(0))
    installation.remove()


async def test_no_request_is_lost_while_every_part_is_started_anew(market, stub_url, figure):
    agent = market.agent("edge", stub_url)
    found = await roll(market.installation, agent.node, PARTS, per_s=PER_S, settle_s=SETTLE_S)
    for row in found["rows"]:
        figure(40, row["part"], json.dumps(row))
    assert {row["part"]: row["why"] for row in found["rows"] if row["failed"]} == {}
    assert all(row["requests"] > PER_S * SETTLE_S / 2 for row in found["rows"])  # the load was there
    assert (found["audit"], found["open"], found["contradictions"]) == ("green", {}, 0)


def test_what_cannot_be_started_anew_is_refused_by_name(market):
    done = market.installation.gfe("restart", "nobody")
    assert done.returncode == 1
    assert "`nobody` is nothing that can be started anew here" in done.stderr
    assert "known: guard, auditor, ledger, edge, dispatcher, worker, serve, postgres" in done.stderr
