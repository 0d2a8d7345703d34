"""What operators do: every step by the API, in the audit log, and no step around the second pair of eyes."""

import psycopg
import pytest

from ledger.audit_log import Origin
from ledger.client import Capture
from ledger.identity.people import find_person
from ledger.operators import people
from tests.ledger.people import PASSWORD, somebody


async def operator(ledger, username="olga"):
    from ledger.identity.passwords import Passwords

    await ledger.context.database.transact(
        lambda connection: people.create_operator(connection, username, PASSWORD, Passwords((8, 1)), 10, Origin("test"))
    )
    from tests.ledger.people import Somebody, sign_in

    return Somebody(ledger, username, (await sign_in(ledger, username)).json())


async def served(ledger, credential):
    placed = await ledger.client.place_hold(ledger.hold(key=credential))
    await ledger.client.capture(
        Capture(
            id=placed.id, outcome="succeeded", prompt_tokens=1, completion_tokens=1, counted_by="platform", node="node_local", attempt=1
        )
    )
    from ledger.client import job_id

    return job_id(placed.id)


def rows_of(database, query, *arguments):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        cursor = admin.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else []


async def user_of(ledger, username):
    from ledger.ids import text_of

    person = await ledger.context.database.run(lambda connection: find_person(connection, username))
    return text_of("user", person.id)


async def test_only_an_operators_sign_in_opens_the_door(ledger):
    ada, olga = await somebody(ledger), await operator(ledger)
    assert (await ada.get("/api/admin/users/")).json()["code"] == "not_permitted"
    assert (await olga.get("/api/admin/users/")).status_code == 200
    answer = await ledger.http.get("/api/admin/users/", headers={"Authorization": f"Bearer {await olga.key()}"})
    assert answer.status_code == 403
    await ledger.context.database.transact(lambda connection: people.remove_operator(connection, "olga", Origin("test")))
    ledger.context.credentials.forget_sessions()
    assert (await olga.get("/api/admin/users/")).status_code in {401, 403}


async def test_accounts_are_found_blocked_and_unblocked(ledger):
    ada, olga = await somebody(ledger), await operator(ledger)
    found = (await olga.get("/api/admin/users/", params={"q": "AD"})).json()["results"]
    assert [(row["username"], row["total"]) for row in found] == [("ada", "5.00")]
    path = f"/api/admin/users/{found[0]['id']}"
    assert (await olga.post(f"{path}/block/", {"reason": "test"})).status_code == 204
    assert (await ada.get("/api/core/profile/")).status_code == 401
    assert (await olga.get(path)).json()["blocked_at"] is not None
    assert (await olga.post(f"{path}/unblock/")).status_code == 204
    assert (await somebody_again(ledger)).status_code == 200
    assert (await olga.post("/api/admin/users/user_nonsense/block/", {"reason": "test"})).status_code == 404
    own = await user_of(ledger, "olga")
    assert (await olga.post(f"/api/admin/users/{own}/block/", {"reason": "test"})).status_code == 400


async def somebody_again(ledger):
    from tests.ledger.people import sign_in

    return await sign_in(ledger)


async def test_a_charge_is_refunded_once_from_those_who_were_paid(ledger, database):
    ada, olga = await somebody(ledger), await operator(ledger)
    job = await served(ledger, ada.tokens["access"])
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "4.00"
    for _ in range(2):
        answer = await olga.post("/api/admin/refunds/", {"job_id": job, "reason": "wrong answer"})
        assert (answer.status_code, answer.json()["amount"]) == (201, "1.00")
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "5.00"
    assert [row["kind"] for row in (await ada.get("/api/payments/wallet/")).json()["logs"]] == ["refund", "job_charge", "welcome"]
    unknown = await olga.post("/api/admin/refunds/", {"job_id": "job_01KB0000000000000000000000", "reason": "why not"})
    assert unknown.status_code == 404


async def test_a_small_correction_is_posted_and_a_large_one_needs_another_operator(ledger):
    ada, olga, oscar = await somebody(ledger), await operator(ledger), await operator(ledger, "oscar")
    user = await user_of(ledger, "ada")
    small = await olga.post("/api/admin/corrections/", {"user": user, "amount": "2.50", "reason": "our fault"})
    assert (small.status_code, small.json()["state"]) == (201, "POSTED")
    large = (await olga.post("/api/admin/corrections/", {"user": user, "amount": "100.01", "reason": "our fault"})).json()
    assert large["state"] == "PENDING"
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "7.50"
    path = f"/api/admin/corrections/{large['id']}"
    assert (await olga.post(f"{path}/approve/")).status_code == 400
    assert (await oscar.post(f"{path}/approve/")).json()["state"] == "POSTED"
    assert (await oscar.post(f"{path}/approve/")).status_code == 409
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "107.51"
    refused = (await olga.post("/api/admin/corrections/", {"user": user, "amount": "-500", "reason": "too much"})).json()
    assert (await oscar.post(f"/api/admin/corrections/{refused['id']}/approve/")).status_code == 402
    assert (await oscar.post(f"/api/admin/corrections/{refused['id']}/refuse/")).json()["state"] == "REFUSED"
    assert len((await olga.get("/api/admin/corrections/")).json()["results"]) == 3


@pytest.mark.parametrize("body", [{"amount": 0}, {"amount": 1.5}, {"amount": "1", "reason": ""}, {"amount": "1", "x": 1}, {}], ids=repr)
async def test_a_bad_correction_is_400(ledger, body):
    olga = await operator(ledger)
    answer = await olga.post("/api/admin/corrections/", {"user": await user_of(ledger, "olga"), "reason": "because"} | body)
    assert answer.status_code == 400


async def test_a_price_counts_for_new_holds_and_open_ones_keep_theirs(ledger):
    ada, olga = await somebody(ledger), await operator(ledger)
    placed = await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"], model="big"))
    made = await olga.post("/api/admin/prices/", {"model": "big", "job": "2.00", "completion_per_million": "1000"})
    assert (made.status_code, made.json()["job"]) == (201, "2.00")
    listed = (await ledger.http.get("/api/payments/prices/")).json()
    assert (listed["default"]["job"], listed["models"]["big"]["completion_per_million"]) == ("1.00", "1000.00")
    quoted = await ledger.http.post("/api/payments/quote/", json={"model": "big", "max_tokens": 1000})
    assert quoted.json()["amount"] == "3.00"
    assert (placed.held, (await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"], model="big"))).price.flat) == (
        1_000_000,
        2_000_000,
    )


async def test_an_open_hold_is_listed_and_voided(ledger):
    ada, olga = await somebody(ledger), await operator(ledger)
    await ledger.client.place_hold(ledger.hold(key=ada.tokens["access"]))
    (row,) = (await olga.get("/api/admin/holds/")).json()["results"]
    assert (row["amount"], row["user"]) == ("1.00", await user_of(ledger, "ada"))
    for status in (204, 404):
        assert (await olga.post(f"/api/admin/holds/{row['job_id']}/void/", {"reason": "stuck"})).status_code == status
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "5.00"


async def test_every_step_is_in_the_audit_log_and_its_chain_shows_a_change(ledger, database):
    _ada, olga = await somebody(ledger), await operator(ledger)
    await olga.post("/api/admin/corrections/", {"user": await user_of(ledger, "ada"), "amount": "1", "reason": "our fault"})
    rows = (await olga.get("/api/admin/audit-log/", params={"limit": 100, "verify": True})).json()
    assert rows["broken_at"] is None
    by_action = {row["action"]: row for row in rows["results"]}
    assert {"person.registered", "session.opened", "operator.created", "correction.proposed"} <= set(by_action)
    assert by_action["correction.proposed"]["actor"] == await user_of(ledger, "olga")
    assert by_action["correction.proposed"]["detail"]["reason"] == "our fault"
    assert PASSWORD not in str(rows)
    from ledger import audit_log

    rows_of(
        database, "ALTER TABLE ledger.audit_log DISABLE TRIGGER append_only; UPDATE ledger.audit_log SET at = at - interval '2 minutes'"
    )
    assert await ledger.context.database.run(audit_log.seal) == len(rows["results"])
    assert await ledger.context.database.run(audit_log.verify) is None
    rows_of(database, "UPDATE ledger.audit_log SET detail = '{}' WHERE action = 'correction.proposed'")
    assert await ledger.context.database.run(audit_log.verify) is not None
    rows_of(database, "ALTER TABLE ledger.audit_log ENABLE TRIGGER append_only")
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        rows_of(database, "DELETE FROM ledger.audit_log")


async def test_the_books_can_be_proven_by_an_operator(ledger):
    olga = await operator(ledger)
    found = (await olga.get("/api/admin/audit/")).json()
    assert found["held"] is True
    assert len(found["rules"]) > 8
