"""Stripe, spoken with over its documented wire format: a small server here stands for its API."""

import asyncio
import json
import time
from urllib.parse import parse_qsl

import pytest
import stripe
from aiohttp import web

from ledger.payments import inbox
from ledger.payments.deposits import expire
from ledger.payments.reconcile import reconcile
from tests.ledger.paying import deposit, rows_of, transaction, wallet

SECRET = "whsec_tests"


class StripeServer:
    """Checkout Sessions, and what they turn into."""

    def __init__(self):
        self.sessions, self.by_key, self.requests, self.is_down = {}, {}, [], False

    async def create(self, request):
        if self.is_down:
            return web.json_response({"error": {"type": "api_error", "message": "down"}}, status=500)
        form, key = dict(parse_qsl(await request.text())), request.headers["Idempotency-Key"]
        self.requests.append((form, key, request.headers["Authorization"]))
        if key not in self.by_key:
            id_ = f"cs_test_{len(self.sessions)}"
            self.by_key[key] = id_
            self.sessions[id_] = {
                "id": id_, "object": "checkout.session", "client_reference_id": form["client_reference_id"], "created": int(time.time()),
                "metadata": {"payment": form["metadata[payment]"]}, "mode": form["mode"], "payment_status": "unpaid", "status": "open",
                "amount_total": int(form["line_items[0][price_data][unit_amount]"]), "currency": form["line_items[0][price_data][currency]"],
                "url": f"https://checkout.stripe.test/{id_}",
            }  # fmt: skip
        return web.json_response(self.sessions[self.by_key[key]])

    async def retrieve(self, request):
        if self.is_down:
            return web.json_response({"error": {"type": "api_error", "message": "down"}}, status=500)
        found = self.sessions.get(request.match_info["id"])
        if found is None:
            return web.json_response({"error": {"type": "invalid_request_error", "message": "No such session"}}, status=404)
        return web.json_response(found)

    async def listed(self, request):
        rows = list(self.sessions.values())[::-1]
        after = request.query.get("starting_after")
        start = [row["id"] for row in rows].index(after) + 1 if after else 0
        page = rows[start : start + 1]  # one a page, so that paging is walked
        more = start + 1 < len(rows)
        return web.json_response({"object": "list", "data": page, "has_more": more, "url": "/v1/checkout/sessions"})

    def pay(self, id_):
        self.sessions[id_] |= {"payment_status": "paid", "status": "complete"}


@pytest.fixture
async def server():
    served, app = StripeServer(), web.Application()
    app.router.add_post("/v1/checkout/sessions", served.create)
    app.router.add_get("/v1/checkout/sessions", served.listed)
    app.router.add_get("/v1/checkout/sessions/{id}", served.retrieve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def paid_by_stripe(ledger_with, server, monkeypatch):
    """A ledger whose gateway is Stripe. The secrets' files are there before it starts, as an operator puts them."""
    from serve_app.local import secrets as made

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    make_all = made.make_all

    def with_stripe(folder):
        made.made_once(folder / "stripe_api_key", "sk_test_1\n")
        made.made_once(folder / "stripe_webhook_secret", f"{SECRET}\n")
        return make_all(folder)

    monkeypatch.setattr(made, "make_all", with_stripe)
    return await ledger_with(
        welcome_credits="5.00", payment_gateways="stripe", stripe_api_base=server.url, public_url="https://gfe.example/", env="production"
    )


async def tell(ledger, session, kind="checkout.session.completed", *, id_="evt_1", secret=SECRET, at=None, signature=None):
    """Send an event as Stripe does."""
    event = {
        "id": id_,
        "object": "event",
        "api_version": "2026-01-01",
        "created": int(time.time()),
        "type": kind,
        "data": {"object": session},
    }
    text = json.dumps(event)
    header = signature or stripe.WebhookSignature.generate_signature_header(text, secret, at)
    return await ledger.http.post("/api/payments/webhook/stripe/", content=text, headers={"Stripe-Signature": header})


async def test_a_checkout_carries_our_id_and_ends_as_credits(paid_by_stripe, server, database):
    ledger = paid_by_stripe
    made = (await deposit(ledger, "25.50")).json()
    assert (made["gateway"], made["gateway_id"], made["checkout_url"]) == ("stripe", "cs_test_0", "https://checkout.stripe.test/cs_test_0")
    form, key, authorization = server.requests[0]
    assert (form["client_reference_id"], form["metadata[payment]"], key, authorization) == (
        made["id"],
        made["id"],
        made["id"],
        "Bearer sk_test_1",
    )
    assert form["line_items[0][price_data][unit_amount]"] == "2550"
    assert form["success_url"] == f"https://gfe.example/dashboard/wallet?deposit={made['id']}&outcome=paid"
    server.pay("cs_test_0")
    answer = await tell(ledger, server.sessions["cs_test_0"])
    assert (answer.status_code, answer.json()) == (200, {"status": "Received"})
    assert (await wallet(ledger))["balance"] == "5.00"
    assert await inbox.work_inbox(ledger.context.payments) == 1
    found = await wallet(ledger)
    assert (found["balance"], found["logs"][0]["description"]) == ("30.50", "Deposit via stripe")
    await tell(ledger, server.sessions["cs_test_0"])
    await tell(ledger, server.sessions["cs_test_0"], "checkout.session.async_payment_succeeded", id_="evt_2")
    await inbox.work_inbox(ledger.context.payments)
    assert (await wallet(ledger))["balance"] == "30.50"
    assert rows_of(database, "SELECT id, outcome FROM ledger.payment_event ORDER BY id") == [("evt_1", "credited"), ("evt_2", "repeated")]


async def test_what_an_event_claims_is_not_believed(paid_by_stripe, server):
    ledger = paid_by_stripe
    made = (await deposit(ledger)).json()
    claimed = server.sessions["cs_test_0"] | {"payment_status": "paid", "status": "complete"}
    assert (await tell(ledger, claimed)).status_code == 200
    assert await inbox.work_inbox(ledger.context.payments) == 1
    assert ((await wallet(ledger))["balance"], (await transaction(ledger, made["id"]))["status"]) == ("5.00", "PENDING")
    server.pay("cs_test_0")
    await tell(ledger, server.sessions["cs_test_0"], "checkout.session.async_payment_succeeded", id_="evt_2")
    await inbox.work_inbox(ledger.context.payments)
    assert ((await wallet(ledger))["balance"], (await transaction(ledger, made["id"]))["status"]) == ("30.00", "SUCCESS")


SIGNED_WRONG = [
    {"secret": "whsec_other"},
    {"at": -301},
    {"at": 302},
    {"signature": "t=1"},
    {"signature": "nothing"},
    {"signature": "t=1,v1=00"},
]


async def test_an_event_that_stripe_did_not_sign_now_is_refused(paid_by_stripe, server, database):
    for how in SIGNED_WRONG:
        await deposit(paid_by_stripe)
        server.pay("cs_test_0")
        at = {"at": int(time.time()) + how["at"]} if "at" in how else {}
        answer = await tell(paid_by_stripe, server.sessions["cs_test_0"], **how | at)
        assert (answer.status_code, answer.json()["status"]) == (400, "Failed")
        assert rows_of(database, "SELECT count(*) FROM ledger.payment_event") == [(0,)]


async def test_an_event_without_a_signature_is_refused(paid_by_stripe):
    answer = await paid_by_stripe.http.post("/api/payments/webhook/stripe", content="{}")
    assert (answer.status_code, answer.json()["status"]) == (400, "Failed")


async def test_events_that_do_not_concern_us_are_taken_and_dropped(paid_by_stripe, server, database):
    await deposit(paid_by_stripe)
    session = server.sessions["cs_test_0"]
    others = [("invoice.paid", session), ("checkout.session.completed", session | {"client_reference_id": None})]
    for kind, body in others:
        answer = await tell(paid_by_stripe, body, kind)
        assert (answer.status_code, answer.json()) == (200, {"status": "Ignored"})
    assert (await tell(paid_by_stripe, session | {"amount_total": 1})).status_code == 400
    assert rows_of(database, "SELECT count(*) FROM ledger.payment_event") == [(0,)]


async def test_another_amount_at_stripe_is_not_credited(paid_by_stripe, server, database):
    await deposit(paid_by_stripe)
    server.pay("cs_test_0")
    said = dict(server.sessions["cs_test_0"])
    server.sessions["cs_test_0"]["amount_total"] = 100
    await tell(paid_by_stripe, said)
    await inbox.work_inbox(paid_by_stripe.context.payments)
    assert (await wallet(paid_by_stripe))["balance"] == "5.00"
    assert rows_of(database, "SELECT outcome FROM ledger.payment_event") == [("mismatch",)]


@pytest.mark.parametrize(("kind", "change"), [("expired", {"status": "expired"}), ("async_payment_failed", {"status": "complete"})])
async def test_a_checkout_that_fails_fails_its_deposit(paid_by_stripe, server, kind, change):
    made = (await deposit(paid_by_stripe)).json()
    server.sessions["cs_test_0"] |= change
    await tell(paid_by_stripe, server.sessions["cs_test_0"], f"checkout.session.{kind}")
    await inbox.work_inbox(paid_by_stripe.context.payments)
    assert (await transaction(paid_by_stripe, made["id"]))["status"] == "FAILED"


async def test_while_stripe_is_down_a_deposit_waits_for_the_same_request(paid_by_stripe, server, database, idempotency_key):
    server.is_down = True
    assert (await deposit(paid_by_stripe, key=idempotency_key)).status_code == 503
    server.is_down = False
    answers = await asyncio.gather(*(deposit(paid_by_stripe, key=idempotency_key) for _ in range(3)))
    assert {answer.json()["gateway_id"] for answer in answers} == {"cs_test_0"}
    assert len(server.sessions) == 1
    assert rows_of(database, "SELECT count(*) FROM ledger.payment") == [(1,)]


async def test_an_expired_deposit_is_looked_at_once_more(paid_by_stripe, server, database):
    for _ in range(2):
        await deposit(paid_by_stripe)
    server.pay("cs_test_1")  # whose event never came
    rows_of(database, "UPDATE ledger.payment SET created_at = created_at - interval '25 hours'")
    assert await expire(paid_by_stripe.context.payments) == 2
    assert rows_of(database, "SELECT status FROM ledger.payment ORDER BY gateway_id") == [("FAILED",), ("SUCCESS",)]
    assert (await wallet(paid_by_stripe))["balance"] == "30.00"


async def test_the_reconciliation_reads_all_pages_of_stripes_report(paid_by_stripe, server):
    from datetime import UTC, datetime, timedelta

    for n in range(3):
        await deposit(paid_by_stripe)
        server.pay(f"cs_test_{n}")
    await tell(paid_by_stripe, server.sessions["cs_test_1"])
    await inbox.work_inbox(paid_by_stripe.context.payments)
    found = await reconcile(paid_by_stripe.context.payments, "stripe", datetime.now(UTC) - timedelta(hours=1))
    assert [(one.what, one.at_gateway) for one in found] == [("not_in_books", 25_000_000)] * 2
