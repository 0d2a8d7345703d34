"""Money in the console: what one has, deposits, withdrawals, holds, escrow, the statement (F7)."""

import re
import time
import urllib.parse
import urllib.request
from functools import partial

import pytest

from tests.e2e.conftest import MODEL
from tests.waiting import wait_for
from tests.web.machines import enroll, submit_to

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 60_000  # something has to happen elsewhere first, on a busy machine; nothing is measured here
eventually = partial(wait_for, limit_s=60)
IBAN = "DE02 1203 0000 0000 2020 51"


# --- what happens beside the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ada(visitor, site):
    """Somebody new with the welcome credits, signed in."""
    visitor.account = site.account()
    visitor.sign_in(visitor.account)
    return visitor


def correct(site, account, *amounts, pocket="promo"):
    """Have an operator move credits."""
    person, token = account.call("GET", "/api/core/profile/")["id"], site.operator().token()
    for amount in amounts:
        body = {"user": person, "amount": amount, "pocket": pocket, "reason": "for a test"}
        assert site.call("POST", "/api/admin/corrections/", body, token=token)["state"] == "POSTED"


def wallet_of(account, query=""):
    return account.call("GET", f"/api/payments/wallet/{query}")


def press(checkout_url, outcome):
    """Press a button of the development payment page."""
    with urllib.request.urlopen(checkout_url, urllib.parse.urlencode({"outcome": outcome}).encode(), timeout=30):
        pass


def deposited(account, amount):
    made = account.call("POST", "/api/payments/deposit/", {"amount": amount})
    press(made["checkout_url"], "succeeded")
    return made


# --- what tests look at -----------------------------------------------------------------------------------------------------------------


def region(page, name):
    return page.get_by_role("region", name=name, exact=True)


def figure(page, label):
    return region(page, "Balance").get_by_text(label, exact=True).locator("xpath=../dd[1]")


def entries(page):
    return region(page, "Statement").locator("tbody tr")


def begin_deposit(page, amount):
    form = region(page, "Add funds")
    form.get_by_label("Amount in credits").fill(amount)
    form.get_by_role("button", name="Go to payment").click()
    expect(page.get_by_role("heading", name="Development payment")).to_be_visible()


def ask_to_withdraw(page, amount, destination=IBAN):
    form = region(page, "Withdraw")
    form.get_by_label("Amount in credits").fill(amount)
    form.get_by_label("Where to").fill(destination)
    form.get_by_role("button", name="Withdraw").click()
    return page.get_by_role("dialog")


# --- what one has -----------------------------------------------------------------------------------------------------------------------


def test_a_newcomer_sees_what_there_is_and_what_comes_next(ada):
    """F7, D36."""
    page = ada.goto("/dashboard/wallet")
    expect(figure(page, "Available")).to_have_text("100.00")
    expect(figure(page, "Held")).to_have_text("0.00")
    expect(figure(page, "Withdrawable")).to_have_text("0.00")
    expect(region(page, "Withdraw").get_by_text("Nothing can be withdrawn now")).to_be_visible()
    expect(region(page, "Open holds").get_by_text("Nothing is held now")).to_be_visible()
    expect(region(page, "Deposits and withdrawals").get_by_text("No money has come in or gone out yet")).to_be_visible()
    expect(entries(page)).to_have_count(1)
    expect(entries(page)).to_contain_text("Welcome credits")
    region(page, "Withdraw").get_by_text("What can be withdrawn?").press("Enter")
    expect(region(page, "Withdraw").get_by_text("welcome credits, are for jobs")).to_be_visible()
    ada.require_looks_well("wallet-of-a-newcomer")


def test_what_an_open_job_may_cost_is_held_and_shown(ada, site):
    """S15, S27: the hold is there as long as the job is."""
    owner = site.account("owner")
    enroll(site, owner, "attic")
    made = submit_to(site, ada.account, owner, model=MODEL)
    page = ada.goto("/dashboard/wallet")
    expect(figure(page, "Held")).to_have_text(wallet_of(ada.account)["held"])
    row = region(page, "Open holds").locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(made["held"])
    ada.require_looks_well("wallet-with-a-hold")
    ada.account.call("POST", f"{site.api_url}/api/computing/jobs/{made['job_id']}/cancel/", {})
    expect(figure(page, "Held")).to_have_text("0.00", timeout=SLOW_MS)
    expect(figure(page, "Available")).to_have_text("100.00", timeout=SLOW_MS)


def test_the_wallet_that_cannot_be_read_says_so_and_is_asked_again(ada):
    """S44."""
    page = ada.page
    page.route("**/api/payments/wallet/**", lambda route: route.fulfill(status=503, json={"title": "Ledger unavailable", "code": "down"}))
    page.goto("/dashboard/wallet")
    expect(page.get_by_text("The wallet cannot be read now")).to_be_visible(timeout=SLOW_MS)
    ada.require_accessible()
    page.unroute("**/api/payments/wallet/**")
    page.get_by_role("alert").filter(has_text="The wallet cannot be read now").get_by_role("button", name="Try again").click()
    expect(figure(page, "Available")).to_have_text("100.00")
    ada.expect_complaints()


# --- money comes in ---------------------------------------------------------------------------------------------------------------------


def test_a_deposit_is_paid_and_arrives_once(ada):
    """G9, S28: there and back, and the same event again changes nothing."""
    page = ada.goto("/dashboard/wallet")
    begin_deposit(page, "50")
    checkout = page.url
    ada.require_accessible()
    ada.shot("development-payment")
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("Your payment has arrived")).to_be_visible()
    expect(page.get_by_text("50.00\u00a0credits were added")).to_be_visible()
    expect(figure(page, "Available")).to_have_text("150.00")
    row = region(page, "Deposits and withdrawals").locator("tbody tr")
    expect(row).to_contain_text("Arrived")
    ada.settled()
    ada.require_looks_well("wallet-after-a-deposit")
    press(checkout, "succeeded")
    assert wallet_of(ada.account)["balance"] == "150.00"
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page).to_have_url(re.compile(r"/dashboard/wallet$"))
    expect(page.get_by_text("Your payment has arrived")).to_have_count(0)


def test_a_payment_that_fails_is_told_and_adds_nothing(ada):
    page = ada.goto("/dashboard/wallet")
    begin_deposit(page, "25.50")
    page.get_by_role("button", name="Let it fail").click()
    expect(page.get_by_text("The payment failed", exact=True)).to_be_visible()
    expect(region(page, "Deposits and withdrawals").get_by_text("Failed", exact=True)).to_be_visible()
    expect(figure(page, "Available")).to_have_text("100.00")
    ada.settled()
    ada.require_accessible()


def test_who_comes_back_without_paying_can_go_on(ada):
    page = ada.goto("/dashboard/wallet")
    region(page, "Add funds").get_by_role("button", name="25", exact=True).click()
    region(page, "Add funds").get_by_role("button", name="Go to payment").click()
    page.get_by_role("link", name="Back to the wallet").click()
    expect(page.get_by_text("You have not paid yet")).to_be_visible()
    ada.settled()
    ada.require_accessible()
    region(page, "Deposits and withdrawals").get_by_role("link", name="Go on paying").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(figure(page, "Available")).to_have_text("125.00")


def test_a_payment_that_is_confirmed_later_is_waited_for(ada):
    """The payment service says that somebody has paid before it says so to us."""
    made = ada.account.call("POST", "/api/payments/deposit/", {"amount": "10.00"})
    page = ada.page
    page.goto(f"/dashboard/wallet?deposit={made['id']}&outcome=paid")
    expect(page.get_by_text("Waiting for the payment service")).to_be_visible()
    ada.require_accessible()
    press(made["checkout_url"], "succeeded")
    expect(page.get_by_text("Your payment has arrived")).to_be_visible()
    expect(figure(page, "Available")).to_have_text("110.00")


def test_an_address_that_names_anothers_deposit_tells_nothing(ada, site):
    made = site.account("eve").call("POST", "/api/payments/deposit/", {"amount": "77.00"})
    page = ada.page
    page.goto(f"/dashboard/wallet?deposit={made['id']}&outcome=paid")
    expect(page.get_by_text("This deposit is not one of yours")).to_be_visible()
    expect(page.get_by_text("77")).to_have_count(0)


@pytest.mark.parametrize(
    ("typed", "says"),
    [("", "How much?"), ("ten", "Write a number"), ("-5", "Write a number"), ("0.99", "At least 1.00"), ("10000.01", "At most 10"),
     ("1.005", "At most two decimals.")],
)  # fmt: skip
def test_an_amount_that_cannot_be_deposited_is_answered_at_its_field(ada, typed, says):
    """D5."""
    page = ada.goto("/dashboard/wallet")
    form = region(page, "Add funds")
    field = form.get_by_label("Amount in credits")
    field.fill(typed)
    form.get_by_role("button", name="Go to payment").click()
    expect(form.get_by_role("alert").filter(has_text=says)).to_be_visible()
    expect(field).to_be_focused()
    expect(page).to_have_url(re.compile(r"/dashboard/wallet$"))
    ada.require_accessible()


def test_pressing_again_after_no_answer_makes_one_deposit(ada):
    """The same Idempotency-Key goes along until somebody knows what became of it."""
    page = ada.goto("/dashboard/wallet")
    lost = []

    def lose_the_first_answer(route):
        if lost:
            return route.fallback()
        lost.append(route.fetch())  # the platform did it; the page never hears
        return route.abort()

    page.route("**/api/payments/deposit/", lose_the_first_answer)
    form = region(page, "Add funds")
    form.get_by_label("Amount in credits").fill("12")
    form.get_by_role("button", name="Go to payment").click()
    expect(form.get_by_text("The deposit was not begun")).to_be_visible()
    form.get_by_role("button", name="Go to payment").click()
    expect(page.get_by_role("heading", name="Development payment")).to_be_visible()
    assert len(ada.account.call("GET", "/api/payments/transactions/")["results"]) == 1
    ada.expect_complaints()


# --- money goes out ---------------------------------------------------------------------------------------------------------------------


def test_earnings_are_withdrawn_and_no_more_than_there_are(ada, site):
    """G20, S31."""
    correct(site, ada.account, "5.00", pocket="earned")
    page = ada.goto("/dashboard/wallet")
    expect(figure(page, "Withdrawable")).to_have_text("5.00")
    ada.require_looks_well("wallet-of-a-provider")
    dialog = ask_to_withdraw(page, "3")
    expect(dialog.get_by_text(IBAN)).to_be_visible()
    ada.require_accessible()
    ada.shot("withdraw-dialog")
    dialog.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Your withdrawal is on its way")).to_be_visible()
    expect(figure(page, "Withdrawable")).to_have_text("2.00")
    expect(region(page, "Deposits and withdrawals").get_by_text("Waits for an operator")).to_be_visible()
    second = ask_to_withdraw(page, "3")
    second.get_by_role("button", name="Withdraw").click()
    expect(second.get_by_text("Only 2.00\u00a0credits can be withdrawn now.")).to_be_visible()
    ada.require_accessible()
    second.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert wallet_of(ada.account)["withdrawable"] == "2.00"


def test_what_an_operator_answers_is_told(ada, site):
    """S31: one is refused and comes back, one is paid."""
    correct(site, ada.account, "5.00", pocket="earned")
    made = [ada.account.call("POST", "/api/payments/withdraw/", {"amount": amount, "destination": IBAN}) for amount in ("1.00", "2.00")]
    operator = site.operator()
    operator.call("POST", f"/api/admin/withdrawals/{made[0]['id']}/refuse/", {"reason": "No such account."})
    operator.call("POST", f"/api/admin/withdrawals/{made[1]['id']}/pay/", {})
    page = ada.goto("/dashboard/wallet")
    rows = region(page, "Deposits and withdrawals").locator("tbody tr")
    expect(rows.filter(has_text="Refused, and returned")).to_contain_text("No such account.")
    expect(rows.filter(has_text="Paid out")).to_contain_text("2.00")
    expect(figure(page, "Withdrawable")).to_have_text("3.00")
    expect(entries(page).filter(has_text="Withdrawal returned")).to_have_count(1)
    ada.require_accessible()


def test_all_of_it_is_a_press_and_what_is_missing_is_asked_for(ada, site):
    correct(site, ada.account, "4.25", pocket="earned")
    page = ada.goto("/dashboard/wallet")
    form = region(page, "Withdraw")
    form.get_by_role("button", name="All").click()
    expect(form.get_by_label("Amount in credits")).to_have_value("4.25")
    form.get_by_role("button", name="Withdraw").click()
    expect(form.get_by_text("Where should it be paid to?")).to_be_visible()
    expect(form.get_by_label("Where to")).to_be_focused()
    ada.require_accessible()


def test_money_leaves_only_with_the_second_factor(visitor, site):
    """What moves money out wants it within five minutes; the page asks for it and goes on."""
    pyotp = pytest.importorskip("pyotp")
    account = site.account()
    correct(site, account, "5.00", pocket="earned")
    token = account.token()
    secret = site.call("POST", "/api/core/totp/", {}, token=token)["secret"]
    digits, now = pyotp.TOTP(secret), time.time()
    site.call("POST", "/api/core/totp/confirm/", {"code": digits.at(now - 30)}, token=token)
    body = {"username": account.username, "password": account.password, "deliver": "cookie", "code": digits.at(now)}
    headers = {"X-GFE-CSRF": "1", "Origin": site.url}
    assert visitor.context.request.post("/api/core/token/", data=body, headers=headers).status == 200
    page = visitor.goto("/dashboard/wallet")
    account.let_five_minutes_pass()
    dialog = ask_to_withdraw(page, "3")
    dialog.get_by_role("button", name="Withdraw").click()
    code = dialog.get_by_label("Code of your authenticator")
    expect(code).to_be_focused()
    visitor.require_accessible()
    visitor.shot("withdraw-with-a-code")
    code.fill("000000")
    dialog.get_by_role("button", name="Withdraw").click()
    expect(dialog.get_by_text("These digits do not fit")).to_be_visible()
    assert site.call("GET", "/api/payments/wallet/", token=token)["withdrawable"] == "5.00"
    code.fill(digits.at(now + 30))
    dialog.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Your withdrawal is on its way")).to_be_visible()
    expect(figure(page, "Withdrawable")).to_have_text("2.00")


def test_earnings_in_escrow_are_explained_with_their_date(visitors, site):
    """What a consumer paid in deposited credits waits with the machine that served it."""
    consumer = site.account("buyer")
    correct(site, consumer, "-100.00")
    deposited(consumer, "20.00")
    job = consumer.call("POST", f"{site.api_url}/api/computing/submit-job/", {"prompt": "hello", "model": MODEL, "max_tokens": 4})["job_id"]
    eventually(lambda: consumer.call("GET", f"{site.api_url}/api/computing/jobs/{job}/")["status"] == "COMPLETED")
    operator = site.operator()  # whose machine this is
    waiting = eventually(lambda: operator.call("GET", "/api/payments/earnings/")["escrows"])
    visitor = visitors()
    visitor.sign_in(operator)
    page = visitor.goto("/dashboard/wallet")
    card = region(page, "Earnings that wait")
    expect(card.locator("tbody tr")).to_have_count(len(waiting))
    expect(card.get_by_text("waits in escrow for as long as its tier says")).to_be_visible()
    assert card.locator("time").first.get_attribute("datetime") == waiting[0]["first_at"]
    visitor.require_looks_well("wallet-with-escrow")


# --- the statement ----------------------------------------------------------------------------------------------------------------------


def test_the_statement_is_paged_and_new_entries_hide_none(ada, site):
    """F7, D33."""
    correct(site, ada.account, *(f"0.{number:02}" for number in range(1, 26)))
    page = ada.goto("/dashboard/wallet")
    expect(entries(page)).to_have_count(20)
    correct(site, ada.account, "0.99")
    expect(entries(page).first).to_contain_text("+0.99", timeout=SLOW_MS)
    region(page, "Statement").get_by_role("button", name="Show more").click()
    expect(entries(page)).to_have_count(27)
    shown = [row.inner_text() for row in entries(page).all()]
    wanted = [f"+0.{number:02}" for number in (99, *range(25, 0, -1))] + ["+100.00"]
    assert [next(amount for amount in re.findall(r"[+\u2212][\d\u202f]+\.\d\d", row)) for row in shown] == wanted
    expect(region(page, "Statement").get_by_role("button", name="Show more")).to_have_count(0)
    ada.require_looks_well("wallet-with-a-long-statement")


def test_one_kind_of_entries_is_shown_and_saved(ada, site, tmp_path):
    """F7: the filter is kept in the address; the file is the API's."""
    correct(site, ada.account, "1.50")
    page = ada.goto("/dashboard/wallet")
    kind = region(page, "Statement").get_by_role("combobox", name="Kind")
    kind.click()
    ada.require_accessible()
    page.get_by_role("option", name="Corrections").click()
    expect(page).to_have_url(re.compile("kind=adjustment"))
    expect(entries(page)).to_have_count(1)
    expect(entries(page)).to_contain_text("+1.50")
    with page.expect_download() as saving:
        region(page, "Statement").get_by_role("button", name="Save these as CSV").click()
    saving.value.save_as(tmp_path / "some.csv")
    assert saving.value.suggested_filename == "statement-adjustment.csv"
    assert [line.split(",")[2] for line in (tmp_path / "some.csv").read_text().splitlines()] == ["kind", "adjustment"]
    page.reload()
    ada.settled()
    expect(entries(page)).to_have_count(1)
    kind.click()
    page.get_by_role("option", name="Refunds").click()
    expect(page.get_by_text("No entry is of this kind")).to_be_visible()
    ada.require_accessible()
    page.get_by_role("link", name="Show all").click()
    expect(entries(page)).to_have_count(2)
    with page.expect_download() as saving:
        region(page, "Statement").get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "all.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in lines] == ["kind", "adjustment", "welcome"]


def test_a_job_in_the_statement_leads_to_its_page(ada, site):
    job = ada.account.call("POST", f"{site.api_url}/api/computing/submit-job/", {"prompt": "hello", "model": MODEL, "max_tokens": 4})[
        "job_id"
    ]
    eventually(lambda: any(row["job_id"] == job for row in wallet_of(ada.account)["logs"]))
    page = ada.goto("/dashboard/wallet")
    row = entries(page).filter(has_text="Payment for job")
    expect(row).to_contain_text(f"\u2212{wallet_of(ada.account)['logs'][0]['amount'].lstrip('-')}")
    row.get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/dashboard/jobs/{job}$"))


def test_the_wallet_is_used_with_the_keyboard_alone(ada):
    """D38."""
    page = ada.goto("/dashboard/wallet")
    region(page, "Add funds").get_by_label("Amount in credits").focus()
    page.keyboard.type("30")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Development payment")).to_be_visible()
    page.get_by_role("button", name="Pay", exact=True).press("Enter")
    expect(figure(page, "Available")).to_have_text("130.00")
