"""What operators do: look, decide, correct; each change says why, asks, and shows its line of the audit log."""

import csv
import re
import time
import urllib.error
from functools import partial

import pyotp
import pytest

from tests.e2e.conftest import MODEL
from tests.waiting import wait_for
from tests.web.conftest import PASSWORD, Account
from tests.web.machines import enroll, submit_to

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 90_000  # a small model on a busy machine; nothing is measured here
eventually = partial(wait_for, limit_s=90)
PAGES = {
    "": "Operations", "users": "Users", "withdrawals": "Withdrawals", "nodes": "Nodes", "appeals": "Appeals", "prices": "Prices",
    "catalog": "Catalog", "corrections": "Corrections", "audit-log": "Audit log",
}  # fmt: skip
WHY = "asked for by mail"


# --- who acts, and how ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def olga(visitor, site):
    """An operator, signed in."""
    visitor.account = site.operator()
    visitor.sign_in(visitor.account)
    return visitor


def another_operator(site) -> Account:
    """A second one. An installation that runs has one of this name already; no API could make one."""
    if site.installation is None:
        return Account(site, "operator2", PASSWORD)
    site.operator()  # writes the file
    name = site.new_name("second")
    file = site.installation.home.root / "operator-password"
    made = site.installation.gfe("admin", "create-operator", name, "--password-file", str(file))
    assert made.returncode == 0, made.stderr
    return Account(site, name, PASSWORD)


def row_of(page, text):
    return page.get_by_role("row").filter(has_text=text)


def press(place, name):
    """Press a button; answer the dialog that it opens."""
    place.get_by_role("button", name=name).click()
    dialog = place.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def finish(dialog, action, done, *, logged):
    """Confirm; read what came of it, and the line of the audit log; close."""
    dialog.get_by_role("button", name=action, exact=True).click()
    expect(dialog.get_by_role("status").filter(has_text=done)).to_be_visible()
    if logged is not None:
        expect(dialog.get_by_role("region", name="In the audit log").get_by_text(logged, exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)


def wallet(account):
    return account.call("GET", "/api/payments/wallet/")


def profile(account):
    return account.call("GET", "/api/core/profile/")


def status_of(call, *asked):
    """How a call is answered that is expected to be refused."""
    try:
        call(*asked)
    except urllib.error.HTTPError as refused:
        return refused.code
    return 200


# --- who sees it ------------------------------------------------------------------------------------------------------------------------


def test_consumers_find_no_trace_of_it(visitor, site):
    account = site.account()
    visitor.sign_in(account)
    loaded = []
    visitor.page.on("request", lambda request: loaded.append(request.url))
    for path in [*PAGES, "nodes/node_1"]:
        visitor.page.goto(f"/admin/{path}".rstrip("/"))
        expect(visitor.page).to_have_url(f"{site.url}/dashboard")
    visitor.settled()
    assert "/admin" not in visitor.page.content()
    assert not [url for url in loaded if "/api/admin" in url]
    assert status_of(account.call, "GET", "/api/admin/users/") == 403
    assert status_of(account.call, "GET", f"{site.api_url}/api/admin/nodes/") == 403


def test_strangers_are_led_to_the_sign_in(visitor):
    visitor.page.goto("/admin/withdrawals")
    expect(visitor.page).to_have_url(re.compile(r"/login\?next=%2Fadmin%2Fwithdrawals"))


@pytest.mark.parametrize(("path", "heading"), PAGES.items())
def test_every_page_fits_and_is_accessible(olga, path, heading):
    """D37, D38."""
    page = olga.goto(f"/admin/{path}".rstrip("/"))
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    olga.settled()
    olga.require_looks_well(f"admin-{path or 'operations'}")


def test_every_page_is_reached_on_a_phone(visitors, site):
    """G22, D37."""
    visitor = visitors(width=360, height=740)
    visitor.sign_in(site.operator())
    page = visitor.goto("/admin")
    for path, heading in PAGES.items():
        page.get_by_role("button", name="Menu", exact=True).click()
        page.get_by_role("dialog").get_by_role("link", name=heading, exact=True).click()
        expect(page).to_have_url(re.compile(f"/admin/{path}".rstrip("/") + "$"))
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()


# --- the overview -----------------------------------------------------------------------------------------------------------------------


def test_the_overview_tells_what_the_apis_tell(olga, site):
    page = olga.goto("/admin")
    nodes = olga.account.call("GET", f"{site.api_url}/api/admin/nodes/")["results"]
    now = page.get_by_role("region", name="Now")
    expect(now.get_by_text(f"of {len(nodes)} known to the cluster")).to_be_visible()
    expect(now.get_by_text("Jobs per minute").locator("xpath=../dd[1]")).to_have_text(re.compile(r"\d"), timeout=SLOW_MS)
    trusted = sum(node["kind"] == "trusted" and node["healthy"] for node in nodes)
    line = page.get_by_role("region", name="Nodes", exact=True).get_by_role("row").filter(has_text="Takes jobs")
    expect(line.get_by_role("cell").first).to_have_text(str(trusted))
    queue = page.get_by_role("region", name="Queue per model")
    expect(queue.get_by_role("row").filter(has_text=MODEL).get_by_role("cell").nth(1)).to_have_text(re.compile(r"^\d+$"))
    answer = olga.context.request.get(page.get_by_role("link", name="Parts", exact=True).get_attribute("href"))
    assert answer.status == 200
    assert "job APIs" in answer.text()


def test_a_button_opens_rays_dashboard_through_the_guard(olga):
    """In a browser, with its rules about cookies, forms and policies; Ray's page asks for no token."""
    page = olga.goto("/admin")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Ray dashboard").click()
    dashboard = opened.value
    dashboard.wait_for_url("**/ray/**", timeout=SLOW_MS)
    expect(dashboard).to_have_title(re.compile("Ray"))
    dashboard.goto(dashboard.url.partition("#")[0] + "#/cluster")
    expect(dashboard.get_by_text("head").first).to_be_visible(timeout=SLOW_MS)  # the name that we gave to this machine
    expect(dashboard.get_by_text("authentication token")).to_have_count(0)
    (cookie,) = [cookie for cookie in olga.context.cookies() if cookie["name"] == "gfe_guard"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "ray-authentication-token" not in {cookie["name"] for cookie in olga.context.cookies()}
    of_rays = [complaint for complaint in olga.complaints if "/ray/" in complaint]  # it misses a Prometheus and a Grafana (500)
    assert [complaint for complaint in of_rays if "status of 500" not in complaint] == []
    olga.complaints = [complaint for complaint in olga.complaints if complaint not in of_rays]


def test_the_books_are_checked_when_an_operator_asks(olga):
    books = olga.goto("/admin").get_by_role("region", name="Books")
    rules = olga.account.call("GET", "/api/admin/audit/")["rules"]
    books.get_by_role("button", name="Check now").click()
    expect(books.get_by_text(f"All {len(rules)} rules hold")).to_be_visible(timeout=SLOW_MS)
    expect(books.get_by_role("listitem")).to_have_count(len(rules))
    expect(books.get_by_role("button", name="Check again")).to_be_visible()
    olga.require_accessible()


def test_books_that_are_wrong_are_shown_with_what_breaks_them(olga):
    """The answer is made here: the real books cannot be made wrong."""
    wrong = {"held": False, "rules": [{"rule": "no account is below its floor", "held": False, "violations": [["consumer:1:paid", "-5"]]}]}
    olga.page.route("**/api/admin/audit/", lambda route: route.fulfill(json=wrong))
    books = olga.goto("/admin").get_by_role("region", name="Books")
    books.get_by_role("button", name="Check now").click()
    expect(books.get_by_role("alert").filter(has_text="1 of 1 rules do not hold")).to_be_visible()
    expect(books.get_by_text("consumer:1:paid · -5")).to_be_visible()
    olga.require_accessible()


@pytest.mark.parametrize(
    ("name", "path"),
    [("Withdrawals to pay", "withdrawals"), ("Corrections to approve", "corrections"), ("Appeals to decide", "appeals"), ("Nodes in quarantine", "nodes")],
)  # fmt: skip
def test_what_waits_leads_to_where_it_is_decided(olga, site, name, path):
    page = olga.goto("/admin")
    page.get_by_role("region", name="What waits").get_by_role("link", name=name).click()
    expect(page).to_have_url(f"{site.url}/admin/{path}")


# --- users ------------------------------------------------------------------------------------------------------------------------------


def test_an_account_is_found_blocked_and_let_in_again(olga, site):
    account = site.account("mallory")
    access = account.token()
    page = olga.goto("/admin/users")
    page.get_by_label("Find an account").fill(account.username[:-1].upper())
    expect(page).to_have_url(re.compile(r"\?q=MALLORY"))
    row = row_of(page, account.username)
    expect(row.get_by_text("Active")).to_be_visible()

    dialog = press(row, f"Block {account.username}")
    olga.require_accessible()
    dialog.get_by_role("button", name="Block", exact=True).click()
    expect(dialog.get_by_role("alert").filter(has_text="at least 3")).to_be_visible()
    expect(dialog.get_by_label("Reason")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Reason").fill(WHY)
    finish(dialog, "Block", f"{account.username} is blocked", logged="person.blocked")
    expect(row.get_by_text("Blocked", exact=True)).to_be_visible()
    assert status_of(lambda: site.call("GET", "/api/core/profile/", token=access)) == 401
    assert status_of(account.token) in {401, 403}

    finish(press(row, f"Unblock {account.username}"), "Unblock", "may sign in again", logged="person.unblocked")
    expect(row.get_by_text("Active")).to_be_visible()
    assert account.token()


def test_an_operator_cannot_block_themselves_and_reads_how_rights_are_given(olga):
    page = olga.goto("/admin/users?q=operator")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=re.compile(r"^operator\s?no address$")))
    expect(row.get_by_text("Operator", exact=True)).to_be_visible()
    expect(row.get_by_role("button", name=re.compile("^Block"))).to_have_count(0)
    expect(page.get_by_text("gfe admin create-operator NAME")).to_be_visible()


def test_users_come_by_pages(olga, site):
    stem = site.new_name("page")
    for number in range(21):
        site.call("POST", "/api/core/register/", {"username": f"{stem}-{number:02}", "password": PASSWORD})
    page = olga.goto(f"/admin/users?q={stem}-")
    rows = page.get_by_role("row").filter(has_text=stem)
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(21)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_escape_changes_nothing_and_gives_the_focus_back(olga, site):
    account = site.account()
    page = olga.goto(f"/admin/users?q={account.username}")
    button = page.get_by_role("button", name=f"Block {account.username}")
    button.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    assert account.token()


# --- corrections ------------------------------------------------------------------------------------------------------------------------


def test_credits_are_given_with_a_reason(olga, site):
    account = site.account()
    page = olga.goto(f"/admin/users?q={account.username}")
    dialog = press(page.get_by_role("main"), f"Correct credits of {account.username}")
    dialog.get_by_label("Amount").fill("none")
    dialog.get_by_label("Reason").fill(WHY)
    dialog.get_by_role("button", name="Give credits").click()
    expect(dialog.get_by_role("alert").filter(has_text="above zero")).to_be_visible()
    olga.require_accessible()
    dialog.get_by_label("Amount").fill("7,50")
    finish(dialog, "Give credits", "Posted", logged="correction.proposed")
    assert wallet(account)["balance"] == "107.50"
    expect(row_of(page, account.username)).to_contain_text("107.50")


def test_credits_are_taken_from_who_is_named(olga, site):
    account = site.account()
    page = olga.goto("/admin/corrections")
    dialog = press(page.get_by_role("main"), "Correct credits")
    dialog.get_by_label("Username").fill("nobody-of-this-name")
    dialog.get_by_label("Amount").fill("1")
    dialog.get_by_label("Reason").fill(WHY)
    dialog.get_by_role("radio", name="Take", exact=True).check()
    dialog.get_by_role("button", name="Take credits").click()
    expect(dialog.get_by_role("alert").filter(has_text="no account of this name")).to_be_visible()
    dialog.get_by_label("Username").fill(account.username.upper())
    finish(dialog, "Take credits", "Posted", logged="correction.proposed")
    assert wallet(account)["balance"] == "99.00"
    row = row_of(page, account.username)
    expect(row).to_contain_text("\N{MINUS SIGN}1.00")
    expect(row).to_contain_text(WHY)


def test_a_large_correction_waits_for_a_second_operator(visitors, site):
    first, second, account = site.operator(), another_operator(site), site.account()
    olga, omar = visitors(), visitors()
    olga.sign_in(first)
    page = olga.goto(f"/admin/users?q={account.username}")
    dialog = press(page.get_by_role("main"), f"Correct credits of {account.username}")
    dialog.get_by_label("Amount").fill("500")
    dialog.get_by_label("Reason").fill(WHY)
    finish(dialog, "Give credits", "Proposed", logged="correction.proposed")
    assert wallet(account)["balance"] == "100.00"
    row = row_of(olga.goto("/admin/corrections"), account.username)
    expect(row.get_by_text("waits for a second operator")).to_be_visible()
    expect(row.get_by_role("button", name=re.compile("^Approve"))).to_have_count(0)

    omar.sign_in(second)
    other = omar.goto("/admin/corrections")
    row = row_of(other, account.username)
    omar.require_looks_well("admin-correction-waits")
    finish(press(row, re.compile("^Approve")), "Approve", "Approved and posted", logged="correction.approved")
    expect(row.get_by_text("Posted")).to_be_visible()
    assert wallet(account)["balance"] == "600.00"


def test_a_correction_that_waits_is_refused(olga, site):
    account = site.account()
    body = {"user": profile(account)["id"], "amount": "400.00", "reason": WHY}
    olga.account.call("POST", "/api/admin/corrections/", body)
    row = row_of(olga.goto("/admin/corrections"), account.username)
    finish(press(row, re.compile("^Refuse")), "Refuse", "Refused", logged="correction.refused")
    expect(row.get_by_text("Refused")).to_be_visible()
    assert wallet(account)["balance"] == "100.00"


def test_a_correction_whose_end_nobody_knows_is_not_sent_twice(olga, site):
    account = site.account()
    sent = []

    def lose_the_answer(route):
        sent.append(route.fetch())
        route.abort()

    page = olga.goto(f"/admin/users?q={account.username}")
    page.route("**/api/admin/corrections/", lambda route: lose_the_answer(route) if route.request.method == "POST" else route.continue_())
    dialog = press(page.get_by_role("main"), f"Correct credits of {account.username}")
    dialog.get_by_label("Amount").fill("1")
    dialog.get_by_label("Reason").fill(WHY)
    dialog.get_by_role("button", name="Give credits").click()
    expect(dialog.get_by_text("Nobody knows whether that took effect")).to_be_visible()
    expect(dialog.get_by_role("region", name="In the audit log").get_by_text("correction.proposed")).to_be_visible()
    expect(dialog.get_by_role("button", name="Give credits")).to_be_disabled()
    olga.expect_complaints()
    assert (len(sent), wallet(account)["balance"]) == (1, "101.00")


def test_a_job_is_refunded_once(olga, site):
    account = site.account()
    asked = {"prompt": "Say hello", "model": MODEL, "max_tokens": 1}
    job = account.call("POST", f"{site.api_url}/api/computing/submit-job/", asked)["job_id"]
    eventually(lambda: account.call("GET", f"{site.api_url}/api/computing/jobs/{job}/")["status"] == "COMPLETED")
    eventually(lambda: wallet(account)["total"] == "99.00")
    page = olga.goto("/admin/corrections")
    dialog = press(page.get_by_role("main"), "Refund a job")
    dialog.get_by_label("Job").fill("job_1")
    dialog.get_by_label("Reason").fill(WHY)
    dialog.get_by_role("button", name="Refund", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_count(1)
    olga.require_accessible()
    dialog.get_by_label("Job").fill(job)
    finish(dialog, "Refund", "Refunded", logged="refund")
    assert wallet(account)["balance"] == "100.00"


def test_a_hold_is_given_back(olga, site):
    account, provider = site.account(), site.account("petra")
    enroll(site, provider, "never-here")
    job_id = submit_to(site, account, provider, model=MODEL)["job_id"]
    assert wallet(account)["balance"] == "99.00"
    row = row_of(olga.goto("/admin/corrections").get_by_role("region", name="Open holds"), job_id)
    dialog = press(row, re.compile("^Give back"))
    dialog.get_by_label("Reason").fill(WHY)
    finish(dialog, "Give back", "Given back", logged="hold.voided")
    expect(row).to_have_count(0)
    expect(olga.page.locator("#main")).to_be_focused()
    assert wallet(account)["balance"] == "100.00"


# --- withdrawals ------------------------------------------------------------------------------------------------------------------------


def earned(site, amount):
    """Somebody with earnings; large ones take two operators."""
    account, first = site.account("petra"), site.operator()
    body = {"user": profile(account)["id"], "amount": amount, "reason": WHY, "pocket": "earned"}
    made = first.call("POST", "/api/admin/corrections/", body)
    if made["state"] == "PENDING":
        another_operator(site).call("POST", f"/api/admin/corrections/{made['id']}/approve/")
    return account


def withdraw(account, amount):
    body = {"amount": amount, "destination": "DE02 1203 0000 0000 2020 51"}
    return account.call("POST", "/api/payments/withdraw/", body)["id"]


def test_a_withdrawal_is_paid_and_another_refused(olga, site):
    account = earned(site, "5.00")
    paid, refused = withdraw(account, "3.00"), withdraw(account, "1.00")
    page = olga.goto("/admin/withdrawals")
    olga.require_looks_well("admin-withdrawals-to-pay")
    finish(press(row_of(page, paid), re.compile("^Note as paid")), "It was paid", "Noted as paid", logged="withdrawal_paid")
    expect(row_of(page, paid)).to_have_count(0)
    dialog = press(row_of(page, refused), re.compile("^Refuse"))
    dialog.get_by_label("Reason").fill("the account number is wrong")
    finish(dialog, "Refuse", "Refused", logged="withdrawal_returned")
    page.get_by_role("radio", name="Paid", exact=True).check()
    expect(page).to_have_url(re.compile("status=SUCCESS"))
    expect(row_of(page, paid)).to_be_visible()
    page.get_by_role("radio", name="Refused", exact=True).check()
    expect(row_of(page, refused)).to_contain_text("the account number is wrong")
    assert wallet(account)["withdrawable"] == "2.00"


def test_a_large_withdrawal_takes_two_operators(visitors, site):
    first, second = site.operator(), another_operator(site)
    large = withdraw(earned(site, "1300.00"), "1200.00")
    olga, omar = visitors(), visitors()
    olga.sign_in(first)
    page = olga.goto("/admin/withdrawals")
    finish(press(row_of(page, large), re.compile("^Note as paid")), "It was paid", "You agreed", logged="withdrawal_approved")
    expect(row_of(page, large)).to_contain_text("1 operator agreed")
    omar.sign_in(second)
    other = omar.goto("/admin/withdrawals")
    finish(press(row_of(other, large), re.compile("^Note as paid")), "It was paid", "Noted as paid", logged="withdrawal_paid")
    expect(row_of(other, large)).to_have_count(0)


def test_paying_asks_for_the_second_factor_where_there_is_one(visitors, site):
    if site.installation is None:
        pytest.skip("it would lock the operators of a running installation out")
    operator, waiting = another_operator(site), withdraw(earned(site, "2.00"), "2.00")
    visitor = visitors()
    visitor.sign_in(operator)
    token = operator.token()
    secret = pyotp.TOTP(site.call("POST", "/api/core/totp/", token=token)["secret"])
    site.call("POST", "/api/core/totp/confirm/", {"code": secret.now()}, token=token)
    operator.let_five_minutes_pass()
    page = visitor.goto("/admin/withdrawals")
    dialog = press(row_of(page, waiting), re.compile("^Note as paid"))
    dialog.get_by_role("button", name="It was paid").click()
    field = dialog.get_by_label("Six digits of your authenticator")
    expect(field).to_be_visible()
    visitor.require_accessible()
    field.fill(secret.at(time.time() + 30))  # each is good once: the next one
    finish(dialog, "It was paid", "Noted as paid", logged="withdrawal_paid")


# --- prices and catalog -----------------------------------------------------------------------------------------------------------------


def test_a_price_is_set_and_changed_with_its_history(olga, site):
    name = f"{site.new_name('model')}:1b"
    page = olga.goto("/admin/prices")
    dialog = press(page.get_by_role("main"), "Set a price")
    dialog.get_by_label("Credits per job").fill("a lot")
    dialog.get_by_role("button", name="Set this price").click()
    expect(dialog.get_by_role("alert").filter(has_text="Which model?")).to_be_visible()
    expect(dialog.get_by_role("alert").filter(has_text="Write an amount")).to_be_visible()
    olga.require_accessible()
    dialog.get_by_label("Model").fill(name)
    dialog.get_by_label("Credits per job").fill("2.5")
    finish(dialog, "Set this price", f"is the price of {name}", logged="price.set")
    assert site.call("GET", "/api/payments/prices/")["models"][name]["job"] == "2.50"

    now, history = page.get_by_role("region", name="Now"), page.get_by_role("region", name="History")
    expect(row_of(now, name)).to_contain_text("2.50")
    dialog = press(row_of(now, name), re.compile("^Change"))
    dialog.get_by_label("Per million tokens of the answer").fill("12")
    dialog.get_by_label("Credits per job").fill("3")
    finish(dialog, "Set this price", f"is the price of {name}", logged="price.set")
    expect(row_of(now, name)).to_contain_text("12.00")
    expect(row_of(history, name)).to_have_count(2)
    expect(row_of(history, name).first).to_contain_text("3.00")
    expect(row_of(history, name).last).to_contain_text("2.50")


def test_a_model_is_approved_by_its_digest_and_forbidden_again(olga, site):
    name, digest = f"{site.new_name('model')}:1b", "ab" * 32
    page = olga.goto("/admin/catalog")
    dialog = press(page.get_by_role("main"), "Approve a model")
    fields = [("Model", name), ("Digest", "abc"), ("Source", "a hub"), ("License", "MIT"), ("Size in bytes", "1 GB"), ("Context in tokens", "8192")]  # fmt: skip
    for label, text in fields:
        dialog.get_by_label(label).fill(text)
    dialog.get_by_role("button", name="Approve", exact=True).click()
    expect(dialog.get_by_role("alert").filter(has_text="whole number")).to_be_visible()
    dialog.get_by_label("Size in bytes").fill("1000000000")
    dialog.get_by_role("button", name="Approve", exact=True).click()
    expect(dialog.get_by_label("Digest")).to_have_attribute("aria-invalid", "true")
    olga.require_accessible()
    dialog.get_by_label("Digest").fill(digest.upper())
    finish(dialog, "Approve", f"{name} may be offered", logged="catalog.added")
    row = row_of(page.get_by_role("region", name="Approved"), name)
    expect(row).to_contain_text("1 GB")
    finish(press(row, f"Forbid {name}"), "Forbid", "is out of the catalog", logged="catalog.removed")
    expect(row).to_have_count(0)
    assert name not in [model["name"] for model in olga.account.call("GET", "/api/admin/catalog/")["results"]]


# --- nodes and appeals ------------------------------------------------------------------------------------------------------------------


def test_a_node_is_drained_and_takes_jobs_again(olga, site):
    """The embedded model's own node: every installation of tests has it."""
    nodes = olga.account.call("GET", f"{site.api_url}/api/admin/nodes/")["results"]
    node = next(one for one in nodes if one["kind"] == "trusted")
    page = olga.goto("/admin/nodes")
    page.get_by_label("Find a node").fill(node["id"])
    row = row_of(page.get_by_role("region", name="In the cluster"), node["id"])
    try:
        finish(press(row, f"Drain {node['name']}"), "Drain", "gets no new jobs", logged=None)
        expect(row.get_by_text("Draining", exact=True)).to_be_visible()
        assert olga.account.call("GET", f"{site.api_url}/api/admin/nodes/{node['id']}/")["draining"]
        finish(press(row, f"Resume {node['name']}"), "Resume", "takes jobs again", logged=None)
        expect(row.get_by_text("Takes jobs")).to_be_visible(timeout=SLOW_MS)
    finally:
        olga.account.call("POST", f"{site.api_url}/api/admin/nodes/{node['id']}/resume/")
    row.get_by_role("link", name=node["name"]).click()
    expect(page.get_by_role("heading", level=1, name=node["name"])).to_be_visible()
    expect(page.get_by_role("region", name="Models")).to_contain_text(MODEL)
    olga.settled()
    olga.require_looks_well("admin-node")


def judge(olga, path, button, action, done, logged):
    page = olga.goto(path)
    dialog = press(page.get_by_role("main"), button)
    dialog.get_by_label("Reason").fill(WHY)
    finish(dialog, action, done, logged=logged)
    return page


def test_a_node_is_banned_and_pardoned(olga, site):
    provider = site.account("petra")
    node = enroll(site, provider, "attic")
    judge(olga, f"/admin/nodes/{node}", re.compile("^Ban"), "Ban", "is banned", "node.banned")
    expect(olga.page.get_by_role("region", name="Now")).to_contain_text("Banned")
    expect(olga.page.get_by_role("region", name="Now")).to_contain_text(WHY)
    olga.require_looks_well("admin-node-banned")
    row = row_of(olga.goto("/admin/nodes").get_by_role("region", name="To look at"), provider.username)
    expect(row).to_contain_text("Banned")
    dialog = press(row, re.compile("^Pardon"))
    dialog.get_by_label("Reason").fill("it was a mistake")
    finish(dialog, "Pardon", "is pardoned", logged="node.pardon")
    expect(row).to_have_count(0)
    assert provider.call("GET", f"/api/core/nodes/{node}/audits/")["state"] == "active"


def test_a_quarantine_is_lifted(olga, site):
    if site.installation is None:
        pytest.skip("only the installation's owner can write into its database")
    import psycopg

    provider = site.account("petra")
    node = enroll(site, provider, "attic")
    with psycopg.connect((site.installation.home.secrets / "admin_database_url").read_text()) as connection:
        connection.execute("UPDATE ledger.node SET state = 'quarantined', state_reason = 'two flags' WHERE id = %s", [node])
    expect(olga.goto("/admin").get_by_role("link", name="Nodes in quarantine")).to_contain_text(re.compile("[1-9]"))
    row = row_of(olga.goto("/admin/nodes").get_by_role("region", name="To look at"), provider.username)
    expect(row).to_contain_text("two flags")
    dialog = press(row, re.compile("^Lift quarantine"))
    dialog.get_by_label("Reason").fill(WHY)
    finish(dialog, "Lift quarantine", "works again", logged="node.lift")
    expect(row).to_have_count(0)
    assert provider.call("GET", f"/api/core/nodes/{node}/audits/")["state"] == "active"


@pytest.mark.parametrize(
    ("action", "done", "state"), [("Uphold", "The node is pardoned", "active"), ("Refuse", "What was found stays", "banned")]
)
def test_an_appeal_is_decided_and_the_provider_reads_the_answer(olga, site, action, done, state):
    provider = site.account("petra")
    node = enroll(site, provider, "attic")
    olga.account.call("POST", f"/api/admin/nodes/{node}/ban/", {"reason": "it answered with other weights"})
    note = f"The runtime of {provider.username} was another build that night."
    provider.call("POST", f"/api/core/nodes/{node}/appeal/", {"note": note})
    page = olga.goto("/admin/appeals")
    item = page.get_by_role("listitem").filter(has_text=note)
    olga.require_looks_well("admin-appeals-open")
    dialog = press(item, f"{action} the appeal of {node}")
    dialog.get_by_label("Answer").fill("Looked at it again.")
    finish(dialog, action, done, logged=f"appeal.{'upheld' if action == 'Uphold' else 'refused'}")
    expect(item).to_have_count(0)
    page.get_by_role("radio", name="All", exact=True).check()
    expect(item).to_contain_text("Looked at it again.")
    found = provider.call("GET", f"/api/core/nodes/{node}/audits/")
    assert (found["state"], found["appeal"]["answer"]) == (state, "Looked at it again.")
    item.get_by_role("link", name=f"Node {node}").click()
    expect(page).to_have_url(f"{site.url}/admin/nodes/{node}")


# --- the audit log ----------------------------------------------------------------------------------------------------------------------


def test_the_audit_log_is_filtered_paged_and_checked(olga, site):
    token, other = olga.account.token(), profile(site.account())["id"]
    for _ in range(101):  # more lines than one page has
        site.call("POST", f"/api/admin/users/{other}/unblock/", token=token)
    account = site.account()
    page = olga.goto("/admin/audit-log")
    page.get_by_label("Filter").fill(profile(account)["id"])
    expect(page.get_by_text(re.compile(r"lines fit\."))).to_be_visible()
    expect(row_of(page, "person.registered")).to_have_count(1)
    page.get_by_label("Filter").fill("nothing-has-this-word")
    expect(page.get_by_text("Nothing fits “nothing-has-this-word” so far")).to_be_visible()
    olga.require_accessible()
    page.get_by_label("Filter").fill("")
    expect(page.get_by_text("The newest 100 lines.")).to_be_visible()
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_text(re.compile(r"The newest (10[1-9]|1[1-9][0-9]|200) lines\."))).to_be_visible()
    page.get_by_role("button", name="Check the chain").click()
    expect(page.get_by_role("status").filter(has_text="The chain holds")).to_be_visible(timeout=SLOW_MS)


def test_the_audit_log_is_exported(olga, site, tmp_path):
    account = site.account()
    page = olga.goto("/admin/audit-log")
    page.get_by_label("Filter").fill(profile(account)["id"])
    expect(page.get_by_text(re.compile(r"lines fit\."))).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("button", name="Export as CSV").click()
    started.value.save_as(tmp_path / "log.csv")
    expect(page.get_by_role("status").filter(has_text="lines were written")).to_be_visible()
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "person.registered" in [row["action"] for row in rows]
    assert {profile(account)["id"]} == {row["target"] for row in rows}


# --- when something breaks --------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_says_so_in_its_place_and_is_tried_again(olga):
    refusal = {"title": "Not available now", "detail": "The database does not answer.", "status": 400, "code": "invalid_request"}
    said = {"status": 400, "json": refusal, "content_type": "application/problem+json"}
    olga.page.route("**/api/admin/withdrawals/**", lambda route: route.fulfill(**said))
    page = olga.goto("/admin/withdrawals")
    alert = page.get_by_role("alert").filter(has_text="The withdrawals cannot be read now")
    expect(alert).to_be_visible()
    olga.require_accessible()
    page.unroute("**/api/admin/withdrawals/**")
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)


def test_what_was_decided_elsewhere_meanwhile_is_refused_in_the_dialog(olga, site):
    waiting = withdraw(earned(site, "2.00"), "2.00")
    page = olga.goto("/admin/withdrawals")
    dialog = press(row_of(page, waiting), re.compile("^Note as paid"))
    olga.account.call("POST", f"/api/admin/withdrawals/{waiting}/refuse/", {"reason": WHY})
    dialog.get_by_role("button", name="It was paid").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(row_of(page, waiting)).to_have_count(0)
