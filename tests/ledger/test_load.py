"""Many at once, and much in store (D33, D34)."""

import asyncio
from collections import Counter

import psycopg

from tests.ledger.people import somebody


async def test_d34_sixty_four_at_once_get_answers_and_never_a_500(ledger):
    ada = await somebody(ledger)
    paths = ["/api/core/profile/", "/api/payments/wallet/", "/api/core/keys/", "/api/payments/earnings/"] * 16
    answers = Counter(answer.status_code for answer in await asyncio.gather(*(ada.get(path) for path in paths)))
    assert set(answers) <= {200, 503}
    assert answers[200] > 0


async def test_d34_the_pools_of_one_process_fit_the_servers_connections(ledger, database):
    ada = await somebody(ledger)
    await asyncio.gather(*(ada.get("/api/payments/wallet/") for _ in range(64)))
    with psycopg.connect(database.admin_url) as admin:
        (used,) = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'gfe_ledger'"
        ).fetchone()
    assert used <= 8


async def test_d33_every_list_has_pages_that_show_each_row_once(ledger, database):
    ada = await somebody(ledger)
    keys = {(await ada.key(name=f"k{n}")).split("_")[2] for n in range(7)}
    for path, rows in (
        ("/api/core/keys/", "results"),
        ("/api/payments/wallet/", "logs"),
        ("/api/payments/transactions/", "results"),
        ("/api/core/nodes/", "results"),
    ):
        seen, cursor = [], None
        while True:
            page = (await ada.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
            assert len(page[rows]) <= 2
            seen += [row["id"] for row in page[rows]]
            cursor = page["next"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen))
        if path == "/api/core/keys/":
            assert set(seen) == keys
        for wrong in ({"limit": 0}, {"limit": 101}, {"cursor": "nonsense"}):
            assert (await ada.get(path, params=wrong)).status_code == 400
