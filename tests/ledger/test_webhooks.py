"""Webhooks: only what is signed for us counts, in any order, any number of times, once."""

import asyncio
import base64
from datetime import timedelta

import pytest

from ledger.errors import GatewayUnavailable
from ledger.ids import new_uuid7, text_of
from ledger.payments import inbox
from ledger.payments.mock import pay_mock
from tests.ledger.paying import balance_of, deposit, event_of, make_person, person_of, rows_of, send, signed, transaction, wallet

OTHER_SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()


async def refused(ledger, database, answer):
    """Nothing was kept and nothing moved."""
    assert answer.status_code == 400, answer.text
    assert answer.json()["status"] == "Failed"
    assert answer.json()["detail"]
    assert rows_of(database, "SELECT count(*) FROM ledger.payment_event") == [(0,)]
    assert (await wallet(ledger))["balance"] == "5.00"
    return True


SIGNED_WRONG = [{"secret": OTHER_SECRET}, {"age": timedelta(minutes=6)}, {"age": timedelta(minutes=-6)}]


async def test_an_event_that_is_not_signed_right_is_refused(ledger, database):
    for how in SIGNED_WRONG:
        made = (await deposit(ledger)).json()
        assert await refused(ledger, database, await send(ledger, made, **how))


WRONG_HEADERS = [
        {"webhook-signature": None}, {"webhook-id": None}, {"webhook-timestamp": None}, {"webhook-id": "msg_other"}, {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "nan"}, {"webhook-signature": "v1"}, {"webhook-signature": "v1,!"}, {"webhook-signature": "v1,YQ"}, {"webhook-signature": "v2,YQ=="},
    ]  # fmt: skip


async def test_headers_that_do_not_fit_are_refused(ledger, database):
    for changes in WRONG_HEADERS:
        made = (await deposit(ledger)).json()
        headers, text = signed(ledger, event_of(made))
        headers = {name: value for name, value in (headers | changes).items() if value is not None}
        answer = await ledger.http.post(f"/api/payments/webhook/mock/{made['id']}/", content=text, headers=headers)
        assert await refused(ledger, database, answer)


async def test_a_changed_body_is_refused(ledger, database):
    made = (await deposit(ledger)).json()
    headers, text = signed(ledger, event_of(made))
    for body in (text.replace("25.00", "99.00"), text + " ", "", b"\xff"):
        answer = await ledger.http.post(f"/api/payments/webhook/mock/{made['id']}/", content=body, headers=headers)
        assert await refused(ledger, database, answer)


WRONG_EVENTS = [
        {"amount": "25.01"}, {"amount": "-25.00"}, {"amount": "x"}, {"amount": 25}, {"currency": "EUR"}, {"type": "deposit.doubled"}, {"deposit_id": "dep_x"},
        {"deposit_id": text_of("dep", new_uuid7())}, {"bribe": 1},
    ]  # fmt: skip


async def test_a_signed_event_that_does_not_fit_its_deposit_is_refused(ledger, database):
    for changes in WRONG_EVENTS:
        made = (await deposit(ledger)).json()
        assert await refused(ledger, database, await send(ledger, made, changes=changes))


async def test_an_event_at_another_deposits_address_is_refused(ledger, database):
    made, other = (await deposit(ledger)).json(), (await deposit(ledger)).json()
    for path in (other["id"], "dep_x", "1", text_of("dep", new_uuid7())):
        assert await refused(ledger, database, await send(ledger, made, path=path))
    unknown = made | {"id": text_of("dep", new_uuid7())}
    assert await refused(ledger, database, await send(ledger, unknown))


async def test_the_same_event_fifty_times_at_once_credits_once(ledger, database):
    made = (await deposit(ledger)).json()
    headers, text = signed(ledger, event_of(made))
    path = f"/api/payments/webhook/mock/{made['id']}/"
    answers = await asyncio.gather(*(ledger.http.post(path, content=text, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} <= {200, 503}  # 503: come again, which gateways do
    assert (await ledger.http.post(path, content=text, headers=headers)).json() == {"status": "Transaction Processed"}
    assert (await wallet(ledger))["balance"] == "30.00"
    assert rows_of(database, "SELECT count(*) FROM ledger.payment_event") == [(1,)]
    assert balance_of(database, "world:mock") == -25_000_000


async def test_many_events_of_one_deposit_credit_once(ledger, database):
    made = (await deposit(ledger)).json()
    await asyncio.gather(*(send(ledger, made) for _ in range(5)))
    assert (await wallet(ledger))["balance"] == "30.00"


@pytest.mark.parametrize("order", [("failed", "succeeded"), ("succeeded", "failed"), ("failed", "succeeded", "failed")])
async def test_in_whatever_order_events_come_money_that_arrived_is_credited(ledger, order):
    made = (await deposit(ledger)).json()
    for outcome in order:
        assert (await send(ledger, made, outcome)).status_code == 200
    assert ((await transaction(ledger, made["id"]))["status"], (await wallet(ledger))["balance"]) == ("SUCCESS", "30.00")


async def test_a_failed_deposit_says_so_and_credits_nothing(ledger):
    made = (await deposit(ledger)).json()
    await send(ledger, made, "failed")
    found = await transaction(ledger, made["id"])
    assert (found["status"], found["reason"]) == ("FAILED", "The gateway reports that the payment failed.")
    assert (await wallet(ledger))["balance"] == "5.00"


async def test_production_has_no_mock_and_does_not_tell_of_one(ledger, database):
    from ledger.app import create_public_app
    from ledger.context import LedgerContext

    made = (await deposit(ledger)).json()
    chosen = ledger.context.settings.model_copy(update={"env": "production"})
    context = LedgerContext.of_settings(chosen)
    app = create_public_app(context)
    kept, ledger.http._transport = ledger.http._transport, type(ledger.http._transport)(app)
    try:
        assert (await send(ledger, made)).status_code == 404
        headers, text = signed(ledger, event_of(made))
        assert (await ledger.http.post("/api/payments/webhook/mock/", content=text, headers=headers)).status_code == 404
        assert (await ledger.http.get(f"/api/payments/mock/pay/{made['id']}/")).status_code == 404
        assert "mock" not in (await ledger.http.get("/openapi.json")).text.replace("`mock`", "")
        assert (await deposit(ledger)).json()["errors"] == {"gateway_id": ['"manual" is not a valid choice.']}
    finally:
        ledger.http._transport = kept
        await context.aclose()
    assert rows_of(database, "SELECT count(*) FROM ledger.payment_event") == [(0,)]


def test_production_does_not_start_with_the_mock(tmp_path):
    from pydantic import ValidationError

    from ledger.settings import LedgerSettings

    with pytest.raises(ValidationError, match="credits without money"):
        LedgerSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s", env="production", payment_gateways="stripe,mock")


async def test_the_mock_is_described_in_development_and_its_secret_is_its_owners_alone(ledger):
    assert "/api/payments/webhook/mock/{deposit_id}/" in (await ledger.http.get("/openapi.json")).json()["paths"]
    assert (ledger.folder / "mock_webhook_secret").stat().st_mode & 0o777 == 0o600


async def test_an_event_that_was_kept_before_a_crash_is_worked_by_the_worker(ledger, database, monkeypatch):
    made = (await deposit(ledger)).json()

    async def crash(*_):
        raise GatewayUnavailable("mock")

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "work", crash)
        assert (await send(ledger, made)).status_code == 503
    assert (await wallet(ledger))["balance"] == "5.00"
    assert sum(await asyncio.gather(*(inbox.work_inbox(ledger.context.payments) for _ in range(3)))) == 1
    assert (await wallet(ledger))["balance"] == "30.00"
    assert await inbox.work_inbox(ledger.context.payments) == 0


async def test_a_silent_gateway_is_asked_again_after_growing_pauses_until_the_limit(ledger, database, monkeypatch):
    made = (await deposit(ledger)).json()

    async def dead(gateway_id, event):
        raise GatewayUnavailable("mock")

    monkeypatch.setattr(ledger.context.payments.gateways["mock"], "look_up", dead)
    assert (await send(ledger, made)).status_code == 503
    pauses = []
    for _ in range(3):
        rows_of(database, "UPDATE ledger.payment_event SET next_at = clock_timestamp()")
        assert await inbox.work_inbox(ledger.context.payments) == 0
        pauses.append(rows_of(database, "SELECT round(extract(epoch FROM next_at - clock_timestamp())) FROM ledger.payment_event")[0][0])
    assert pauses == [2, 4, 8]
    rows_of(database, "UPDATE ledger.payment_event SET next_at = clock_timestamp(), tries = %s", inbox.MOST_TRIES - 1)
    await inbox.work_inbox(ledger.context.payments)
    assert rows_of(database, "SELECT outcome FROM ledger.payment_event") == [("given_up",)]


async def test_no_transaction_is_open_while_the_gateway_is_asked(ledger, database, monkeypatch):
    made = (await deposit(ledger)).json()
    seen = []

    async def look(gateway_id, event):
        seen.append(
            rows_of(database, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%%'")
        )
        raise GatewayUnavailable("mock")

    monkeypatch.setattr(ledger.context.payments.gateways["mock"], "look_up", look)
    assert (await send(ledger, made)).status_code == 503
    assert seen == [[]]


async def test_a_crash_inside_the_credit_leaves_nothing_and_the_next_try_credits(ledger, database, monkeypatch):
    from ledger.payments import deposits

    made, posted = (await deposit(ledger)).json(), deposits.post

    async def then_die(connection, operation):
        assert await posted(connection, operation)
        raise GatewayUnavailable("mock")

    with monkeypatch.context() as patch:
        patch.setattr(deposits, "post", then_die)
        assert (await send(ledger, made)).status_code == 503
    assert ((await transaction(ledger, made["id"]))["status"], (await wallet(ledger))["balance"]) == ("PENDING", "5.00")
    assert await inbox.work_inbox(ledger.context.payments) == 1
    assert ((await transaction(ledger, made["id"]))["status"], (await wallet(ledger))["balance"]) == ("SUCCESS", "30.00")


async def test_the_developers_command_pays_over_the_network(ledger_with, database):
    import uvicorn

    from ledger.app import create_public_app

    ledger = await ledger_with(welcome_credits="5.00", ledger_port=1)
    server = uvicorn.Server(uvicorn.Config(create_public_app(ledger.context), port=0, log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    made = (await deposit(ledger)).json()
    chosen = ledger.context.settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
    assert await pay_mock(chosen, made["id"]) == "Transaction Processed"
    assert (await wallet(ledger))["balance"] == "30.00"
    server.should_exit = True
    await task


async def test_one_persons_event_never_credits_another(ledger, database):
    other = await make_person(ledger, database, "other")
    made = (await deposit(ledger)).json()
    await send(ledger, made)
    assert balance_of(database, f"consumer:{other}:paid") == 0
    assert balance_of(database, f"consumer:{await person_of(ledger)}:paid") == 25_000_000
