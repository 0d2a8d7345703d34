"""What goes on outside the page and is seen in it: machines that come and go, sign-ins that end, networks that break (section 5's G rows)."""

import pytest

from tests.web.machines import Machine, Runtime, submit_to

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 180_000  # a process starts, models are tested, on a busy machine; nothing is measured here
MODEL = "fake:words=16"


@pytest.fixture
def machine(tmp_path):
    runtime = Runtime()
    made = Machine(tmp_path / "machine", runtime)
    yield made
    made.stop()
    runtime.stop()


def card_of(page, job):
    return page.get_by_role("row").filter(has=page.locator(f"a[href$='/{job}']"))


def test_a_job_goes_to_the_provider_that_is_named_and_waits_while_he_is_away(visitor, site, machine):
    """G10, G11, G14."""
    seller, buyer = site.account("seller"), site.account("buyer")
    code = seller.call("POST", "/api/core/agent-token/generate/", {"label": "cellar"})["token"]
    machine.start("--url", site.url, "--code", code, "--models", MODEL)
    first = submit_to(site, buyer, seller, model=MODEL)["job_id"]

    visitor.sign_in(buyer)
    page = visitor.goto(f"/dashboard/jobs/{first}")
    facts = page.get_by_role("region", name="Facts")
    expect(facts.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(facts.get_by_text("Node", exact=True).locator("xpath=../dd")).to_contain_text("cellar")
    expect(page.get_by_role("complementary").get_by_text("99.00\u00a0credits")).to_be_visible(timeout=SLOW_MS)

    machine.stop()
    page = visitor.goto("/dashboard/network")
    expect(page.get_by_role("main").get_by_text(MODEL)).to_have_count(0, timeout=SLOW_MS)
    page = visitor.goto("/dashboard")
    second = submit_to(site, buyer, seller, model=MODEL)["job_id"]
    row = card_of(page, second).first
    expect(row).to_contain_text("Waiting", timeout=SLOW_MS)
    machine.start()
    expect(card_of(page, second).filter(has_text="Done").first).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("complementary").get_by_text("98.00\u00a0credits")).to_be_visible(timeout=SLOW_MS)

    assert seller.call("GET", "/api/payments/earnings/?days=7")["jobs"] == 2


def test_an_access_token_that_has_expired_is_renewed_unseen(visitor, site):
    """G15."""
    visitor.page.clock.install()
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard")
    renewals = []
    page.on("request", lambda request: renewals.append(request.url) if request.url.endswith("/api/core/token/refresh/") else None)
    page.clock.fast_forward("30:00")
    page.get_by_role("complementary").get_by_role("link", name="Wallet").click()
    expect(page.get_by_role("heading", level=1, name="Wallet")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("100.00").first).to_be_visible()
    assert len(renewals) == 1
    assert "/login" not in page.url


def test_a_token_that_is_refused_is_renewed_and_the_call_made_again(visitor, site):
    """G15."""
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard")
    refused = []

    def refuse_once(route):
        if refused:
            return route.fallback()
        refused.append(route.request.url)
        problem = {"title": "Not authenticated", "status": 401, "code": "token_not_valid", "detail": "The token has expired."}
        return route.fulfill(status=401, content_type="application/problem+json", json=problem)

    page.route("**/api/payments/transactions/**", refuse_once)
    page.get_by_role("complementary").get_by_role("link", name="Wallet").click()
    expect(page.get_by_role("region", name="Deposits and withdrawals").get_by_text("No money has come in")).to_be_visible()
    assert len(refused) == 1


def test_being_offline_is_told_as_long_as_it_lasts(visitor, site):
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard")
    visitor.context.set_offline(True)
    notice = page.get_by_role("status").filter(has_text="You are offline")
    expect(notice).to_be_visible()
    visitor.require_accessible()
    visitor.resize(360)
    visitor.require_fits()
    visitor.shot("offline")
    visitor.context.set_offline(False)
    expect(notice).to_have_count(0)
    expect(page.get_by_text("Live", exact=True).first).to_be_attached(timeout=SLOW_MS)
    visitor.expect_complaints()  # what was asked for meanwhile could not be had
