"""Asking for answers and looking at them: the overview with its playground, the history, one job (F4, F5, F6)."""

import json
import re
import urllib.request
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import MODEL

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 90_000  # a small model on a busy machine; nothing is measured here
PROMPT = "Tell a long story about a fox and a lighthouse, in plain prose."
LONG = "400"  # tokens


# --- what consumers do ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ada(visitor, site):
    """Somebody new with 100 credits, on the overview."""
    account = site.account()
    visitor.sign_in(account)
    visitor.account = account
    visitor.goto(f"/dashboard?model={MODEL}")
    return visitor


def submit(page, prompt=PROMPT, longest=LONG):
    form = page.get_by_role("form", name="Submit a job")
    form.get_by_label("Prompt", exact=True).fill(prompt)
    if not form.get_by_label("Longest answer").is_visible():
        form.get_by_text("System prompt and parameters").click()
    form.get_by_label("Longest answer").fill(longest)
    form.get_by_role("button", name=re.compile("^Submit job")).click()
    expect(form.get_by_text("Job Submitted")).to_be_visible(timeout=SLOW_MS)


def answers(page):
    return page.get_by_role("region", name="Answers").get_by_role("article")


def words(answer) -> str:
    """The letters of an answer so far: neither Markdown nor line breaks count."""
    text = answer.get_by_role("group", name="Answer").inner_text()
    return re.sub(r"[^a-zA-Z]", "", text)


def wait_for_words(page, answer, more_than=0):
    handle = answer.get_by_role("group", name="Answer").element_handle(timeout=SLOW_MS)
    page.wait_for_function(
        "([place, least]) => place.innerText.replace(/[^a-zA-Z]/g, '').length > least", arg=[handle, more_than], timeout=SLOW_MS
    )


def job_of(answer) -> str:
    return answer.get_by_role("link").first.get_attribute("href").rpartition("/")[2]


def told(account, job):
    """The job as the API tells it."""
    return account.call("GET", f"{account.site.api_url}/api/computing/jobs/{job}/")


def ask(account, prompt="Say hello", **fields):
    """Submit a job beside the page."""
    body = {"prompt": prompt, "model": MODEL, "max_tokens": 1} | fields
    return account.call("POST", f"{account.site.api_url}/api/computing/submit-job/", body)["job_id"]


@contextmanager
def price(site, amount):
    """Let a job of the model cost so much for a while."""
    operator = site.operator()
    operator.call("POST", "/api/admin/prices/", {"model": MODEL, "job": amount})
    try:
        yield
    finally:
        operator.call("POST", "/api/admin/prices/", {"model": MODEL, "job": "1.00"})


# --- asking -----------------------------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_seen_running_answered_and_charged(ada):
    """F4, F5, G5, G8."""
    page = ada.page
    wallet = page.get_by_role("region", name="Wallet")
    expect(wallet.get_by_text("100.00")).to_be_visible()
    # Another test may have changed the price just now, and a page asks for prices once in a while.
    expect(page.get_by_role("button", name="Submit job (1.00 credit)")).to_be_visible(timeout=SLOW_MS)
    submit(page, "Canary of zebras: say something about the sea.", "120")
    expect(wallet.get_by_text("99.00")).to_be_visible(timeout=SLOW_MS)
    active = page.get_by_role("region", name="Active jobs")
    expect(active.get_by_role("link", name=re.compile("^Canary"))).to_be_visible(timeout=SLOW_MS)
    answer = answers(page)
    wait_for_words(page, answer)
    ada.shot("playground-running")
    ada.require_accessible()
    expect(answer.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(active.get_by_text("Nothing waits or runs")).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("region", name="Last jobs").get_by_role("link", name=re.compile("^Canary"))).to_be_visible(timeout=SLOW_MS)
    row = told(ada.account, job_of(answer))
    assert (row["status"], row["cost"]) == ("COMPLETED", "1.00")
    assert words(answer) == re.sub(r"[^a-zA-Z]", "", row["result"]["output"])
    figures = answer.get_by_text("Tokens in, out", exact=True).locator("xpath=../dd")
    expect(figures).to_have_text(f"{row['usage']['prompt_tokens']}, {row['usage']['completion_tokens']}")
    expect(answer.get_by_text("Cost", exact=True).locator("xpath=../dd")).to_have_text(re.compile(r"1\.00\scredit"))
    expect(answer.get_by_text("First token", exact=True).locator("xpath=../dd")).to_have_text(re.compile(r"\d"))
    assert "zebra" not in json.dumps(ada.stored()).lower()
    for width in (360, 768, 1280):
        ada.resize(width)
        ada.require_fits()
        ada.require_accessible()
        ada.shot("playground")


@pytest.mark.parametrize("blank", ["", "  \n "])
def test_a_blank_prompt_is_not_sent(ada, blank):
    """G7."""
    page = ada.page
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill(blank)
    page.get_by_role("button", name=re.compile("^Submit job")).click()
    expect(page.get_by_role("alert").filter(has_text="Write a prompt first.")).to_be_visible()
    expect(prompt).to_be_focused()
    ada.require_accessible()
    assert ada.account.call("GET", f"{ada.site.api_url}/api/computing/jobs/")["results"] == []


def test_who_has_too_little_is_told_what_to_do(ada):
    """G6."""
    page = ada.page
    with price(ada.site, "200.00"):
        page.get_by_label("Prompt", exact=True).fill("hi")
        expect(page.get_by_role("button", name="Submit job (200.00 credits)")).to_be_visible(timeout=SLOW_MS)
        page.get_by_role("button", name=re.compile("^Submit job")).click()
        notice = page.get_by_role("alert").filter(has_text="Insufficient funds")
        expect(notice).to_contain_text("you have 100.00")
        ada.require_accessible()
        notice.get_by_role("link", name="Add funds").click()
        expect(page).to_have_url(re.compile("/dashboard/wallet$"))
    assert ada.account.call("GET", f"{ada.site.api_url}/api/computing/jobs/")["results"] == []
    assert ada.account.call("GET", "/api/payments/wallet/")["held"] == "0.00"


def test_three_jobs_run_side_by_side(ada):
    """F5, D39."""
    page = ada.page
    for number in range(3):
        submit(page, f"{PROMPT} Part {number}.")
    expect(answers(page)).to_have_count(3)
    for answer in answers(page).all():
        wait_for_words(page, answer)
    expect(answers(page).get_by_text("Running", exact=True)).to_have_count(3)
    expect(page.get_by_role("region", name="Active jobs").get_by_role("link")).to_have_count(3)
    ada.shot("side-by-side")
    ada.require_accessible()
    for answer in answers(page).all():
        answer.get_by_role("button", name="Cancel").click()
    expect(answers(page).get_by_text("Canceled", exact=True)).to_have_count(3, timeout=SLOW_MS)


def test_canceling_stops_the_answer_and_charges_what_was_delivered(ada):
    """G21."""
    page = ada.page
    submit(page)
    answer = answers(page)
    wait_for_words(page, answer, 20)
    answer.get_by_role("button", name="Cancel").click()
    expect(answer.get_by_text("Canceled", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(answer.get_by_text("You stopped it")).to_be_visible()
    ada.require_accessible()
    row = told(ada.account, job_of(answer))
    assert (row["status"], row["cost"]) == ("CANCELED", "1.00")
    assert words(answer) == re.sub(r"[^a-zA-Z]", "", row["result"]["output"])
    assert row["usage"]["completion_tokens"] < int(LONG)


def test_an_unknown_provider_is_told_at_its_field(ada):
    page = ada.page
    page.get_by_label("Prompt", exact=True).fill("hi")
    page.get_by_role("combobox", name="Provider").or_(page.get_by_role("textbox", name="Provider")).fill("nobody-of-that-name")
    expect(page.get_by_text('Provider "nobody-of-that-name" is not known.')).to_be_visible(timeout=SLOW_MS)
    ada.require_accessible()


def test_the_request_is_shown_in_code(ada):
    page = ada.page
    page.get_by_label("Prompt", exact=True).fill("It's a test")
    opener = page.get_by_role("button", name="Use in code")
    opener.click()
    dialog = page.get_by_role("dialog")
    for language, part in [
        ("curl", "It'\\''s a test"),
        ("Python", "from openai import OpenAI"),
        ("JavaScript", 'import OpenAI from "openai"'),
    ]:
        dialog.get_by_role("tab", name=language).click()
        expect(dialog.get_by_role("group", name=f"request in {language}")).to_contain_text(part)
        expect(dialog.get_by_role("group", name=f"request in {language}")).to_contain_text(MODEL)
    ada.require_accessible()
    ada.shot("in-code")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_a_system_prompt_and_parameters_go_with_the_job(ada):
    """F5."""
    page = ada.page
    page.get_by_text("System prompt and parameters").click()
    page.get_by_label("System prompt").fill("You are a lighthouse keeper.")
    page.get_by_label("Temperature").fill("9")
    expect(page.get_by_text("A number from 0 to 2.")).to_be_visible()
    ada.require_accessible()
    page.get_by_label("Temperature").fill("0")
    submit(page, "Who are you?", "8")
    answer = answers(page)
    expect(answer.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    row = told(ada.account, job_of(answer))
    assert (row["system"], row["usage"]["completion_tokens"] <= 8) == ("You are a lighthouse keeper.", True)
    answer.get_by_role("link").first.click()
    expect(page.get_by_text("You are a lighthouse keeper.")).to_be_visible()


def test_with_the_keyboard_alone_a_job_is_submitted_and_opened(ada):
    """G5, D38."""
    page = ada.page
    press = page.keyboard.press

    def tab_to(where, limit=60):
        for _ in range(limit):
            if where.evaluate("(element) => element === document.activeElement"):
                return
            press("Tab")
        raise AssertionError(f"not reached: {where}")

    press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press("Enter")
    tab_to(page.get_by_role("combobox", name="Model"))
    press("ArrowDown")
    expect(page.get_by_role("listbox", name="Model")).to_be_visible()
    press("Escape")
    tab_to(page.get_by_label("Prompt", exact=True))
    page.keyboard.type("Say a word")
    tab_to(page.get_by_role("button", name=re.compile("^Submit job")))
    press("Enter")
    expect(page.get_by_text("Job Submitted")).to_be_visible(timeout=SLOW_MS)
    tab_to(answers(page).get_by_role("link").first)
    press("Enter")
    expect(page.get_by_role("heading", level=1, name="Job")).to_be_visible()
    expect(page.get_by_role("group", name="Prompt")).to_have_text("Say a word")


# --- leaving, breaking, coming back -------------------------------------------------------------------------------------------------------


def test_a_running_job_is_read_on_after_leaving_the_page_and_after_loading_it_anew(ada):
    """D39."""
    page = ada.page
    asked = []
    page.on("request", lambda request: asked.append(int(request.url.rpartition("=")[2])) if "/stream/" in request.url else None)
    submit(page)
    answer = answers(page)
    wait_for_words(page, answer, 20)
    before, job = words(answer), job_of(answer)
    page.get_by_role("link", name="Wallet", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Wallet")).to_be_visible()
    page.wait_for_timeout(1500)  # longer than a stream lingers
    page.get_by_role("complementary").get_by_role("link", name="Overview").click()
    wait_for_words(page, answer, len(before))
    assert words(answer).startswith(before)
    assert asked[0] == 0
    assert asked[-1] > 0
    page.reload()
    wait_for_words(page, answer, len(before))
    assert (job_of(answer), words(answer).startswith(before)) == (job, True)
    answer.get_by_role("button", name="Cancel").click()
    expect(answer.get_by_text("Canceled", exact=True)).to_be_visible(timeout=SLOW_MS)


def test_a_cut_socket_is_told_and_the_job_ends_well_all_the_same(visitor, site):
    """S34, D39."""
    sockets, is_cut = [], [False]

    def between(socket):
        if is_cut[0]:
            socket.close(code=1011)
            return
        sockets.append(socket)
        socket.connect_to_server()

    visitor.page.route_web_socket(re.compile("/ws/dashboard/"), between)
    account = site.account()
    visitor.sign_in(account)
    page = visitor.goto(f"/dashboard?model={MODEL}")
    state = page.get_by_role("complementary")
    expect(state.get_by_text("Live", exact=True)).to_be_visible()
    submit(page, longest="150")
    answer = answers(page)
    wait_for_words(page, answer)
    is_cut[0] = True
    sockets[-1].close(code=1011)
    expect(state.get_by_text(re.compile("Reconnecting|Not live"))).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="The live connection is lost")).to_be_visible(timeout=SLOW_MS)
    visitor.require_accessible()
    others = [ask(account) for _ in range(3)]
    expect(answer.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    last = page.get_by_role("region", name="Last jobs")
    expect(last.get_by_role("link", name="Say hello")).to_have_count(len(others), timeout=SLOW_MS)  # asked for, not told
    expect(page.get_by_role("region", name="Active jobs").get_by_text("Nothing waits or runs")).to_be_visible(timeout=SLOW_MS)
    is_cut[0] = False
    expect(state.get_by_text("Live", exact=True)).to_be_visible(timeout=SLOW_MS)
    ask(account)
    expect(last.get_by_role("link", name="Say hello")).to_have_count(len(others) + 1, timeout=SLOW_MS)
    visitor.expect_complaints()


def some_events(request, count) -> str:
    """The first events of a real stream."""
    headers = {name: value for name, value in request.headers.items() if name == "authorization"}
    with urllib.request.urlopen(urllib.request.Request(request.url, headers=headers), timeout=60) as stream:
        blocks: list[str] = [""]
        while len(blocks) <= count:
            line = stream.readline().decode()
            blocks[-1] += line
            if line == "\n":
                blocks.append("")
    return "".join(blocks)


def test_an_answer_whose_stream_breaks_goes_on_where_it_was(ada):
    """Nothing is lost and nothing doubled."""
    page = ada.page
    asked, is_broken = [], [True]

    def cut(route):
        asked.append(int(route.request.url.rpartition("=")[2]))
        if len(asked) == 1:
            cors = {"Access-Control-Allow-Origin": ada.site.url, "Content-Type": "text/event-stream"}
            route.fulfill(status=200, headers=cors, body=some_events(route.request, 12))
        elif is_broken[0]:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(re.compile("/stream/"), cut)
    submit(page, longest="120")
    answer = answers(page)
    wait_for_words(page, answer, 5)
    expect(answer.get_by_text("The stream broke off; it goes on where it was")).to_be_visible(timeout=SLOW_MS)
    ada.require_accessible()
    is_broken[0] = False
    expect(answer.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    row = told(ada.account, job_of(answer))
    assert words(answer) == re.sub(r"[^a-zA-Z]", "", row["result"]["output"])
    assert (asked[0], set(asked[1:])) == (0, {12})
    ada.expect_complaints()


def test_a_price_that_is_changed_shows_everywhere(ada):
    """D10."""
    page = ada.page
    page.get_by_label("Prompt", exact=True).fill("hi")
    with price(ada.site, "2.50"):
        expect(page.get_by_role("button", name="Submit job (2.50 credits)")).to_be_visible(timeout=SLOW_MS)
        wallet = page.get_by_role("region", name="Wallet")
        expect(wallet.get_by_text("Cost per job").locator("xpath=../dd").first).to_contain_text("2.50", timeout=SLOW_MS)
        expect(page.get_by_role("combobox", name="Model")).to_have_value(re.compile(r"2\.50\scredits"), timeout=SLOW_MS)
        row = page.get_by_role("region", name="Live models").get_by_role("listitem").filter(has_text=MODEL)
        expect(row).to_contain_text("2.50", timeout=SLOW_MS)
        submit(page, "hi", "1")
        answer = answers(page)
        expect(answer.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
        expect(answer.get_by_text("Cost", exact=True).locator("xpath=../dd")).to_have_text(re.compile(r"2\.50\scredits"))
    expect(page.get_by_role("button", name="Submit job (1.00 credit)")).to_be_visible(timeout=SLOW_MS)


# --- history ------------------------------------------------------------------------------------------------------------------------------


def ids_in(page) -> list[str]:
    links = page.get_by_role("main").locator("a[href*='/dashboard/jobs/job_']")
    return [link.rpartition("/")[2] for link in links.evaluate_all("(links) => links.map((link) => link.href)")]


def test_each_of_45_jobs_is_listed_once_while_new_ones_arrive(visitor, site):
    """G16, F6."""
    account = site.account()
    old = [ask(account, f"Number {number}") for number in range(45)]
    visitor.sign_in(account)
    page = visitor.goto("/dashboard/jobs")
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(1 + 20)
    arrived = [ask(account, "Late one")]
    first = page.get_by_role("main").get_by_role("link", name="Late one")
    expect(first).to_have_count(1, timeout=SLOW_MS)  # at the top by itself
    more = page.get_by_role("button", name="Show more")
    more.click()
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(1 + 41)
    arrived += [ask(account, "Late two"), ask(account, "Late three")]
    show = page.get_by_role("button", name="Show 2 new jobs")
    expect(show).to_be_visible(timeout=SLOW_MS)  # not under the eyes of who reads
    assert ids_in(page).count(arrived[1]) == 0
    visitor.require_accessible()
    more.click()
    expect(more).to_have_count(0)
    show.click()
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(1 + 48)
    assert ids_in(page) == [*reversed(arrived), *reversed(old)]


def test_history_is_filtered_by_state_and_model(visitor, site):
    """F6."""
    account = site.account()
    done, stopped = ask(account, "Done one"), ask(account, PROMPT, max_tokens=400)
    account.call("POST", f"{site.api_url}/api/computing/jobs/{stopped}/cancel/")
    visitor.sign_in(account)
    page = visitor.goto("/dashboard/jobs")
    states = page.get_by_role("navigation", name="State")
    expect(page.get_by_role("main").get_by_text("Canceled", exact=True)).to_have_count(2, timeout=SLOW_MS)
    expect(page.get_by_role("main").get_by_text("Done", exact=True)).to_have_count(2, timeout=SLOW_MS)
    states.get_by_role("link", name="Canceled").click()
    expect(page).to_have_url(re.compile(r"/dashboard/jobs\?status=CANCELED$"))
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(2)
    assert ids_in(page) == [stopped]
    states.get_by_role("link", name="Failed").click()
    expect(page.get_by_text("No job is like that")).to_be_visible()
    visitor.require_accessible()
    page.get_by_role("link", name="Show all jobs").click()
    model = page.get_by_role("combobox", name="Model")
    model.click()
    page.get_by_role("option", name=MODEL, exact=True).click()
    expect(page).to_have_url(re.compile(r"/dashboard/jobs\?model="))
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(3)
    page.reload()  # an address that can be come back to
    expect(model).to_have_value(MODEL)
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(3)
    assert ids_in(page) == [stopped, done]
    page.go_back()
    expect(page.get_by_role("main").get_by_role("row")).to_have_count(3)
    visitor.require_looks_well("jobs")


# --- one job ------------------------------------------------------------------------------------------------------------------------------


def test_a_job_shows_what_it_was_who_served_it_and_its_receipt(visitor, site):
    """F6, S18."""
    account = site.account()
    job = ask(account, "Write a list of three rivers.", max_tokens=40)
    visitor.sign_in(account)
    page = visitor.goto(f"/dashboard/jobs/{job}")
    facts = page.get_by_role("region", name="Facts")
    expect(facts.get_by_text("Done", exact=True)).to_be_visible(timeout=SLOW_MS)
    row = told(account, job)
    expect(page.get_by_role("group", name="Prompt")).to_have_text(row["prompt"])
    for name, value in [
        ("Cost", "1.00"),
        ("Tokens out", str(row["usage"]["completion_tokens"])),
        ("Node", row["node"]["name"]),
        ("Attempts", "1"),
    ]:
        expect(facts.get_by_text(name, exact=True).locator("xpath=../dd")).to_contain_text(value)
    expect(page.get_by_role("region", name="Why it went there")).to_contain_text(f"Attempt 1 went to {row['node']['name']}.")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download receipt").click()
    assert saved.value.suggested_filename == f"{job}.jwt"
    receipt = account.call("GET", f"{site.api_url}/api/computing/jobs/{job}/receipt/")["receipt"]
    assert saved.value.path().read_text() == receipt
    page.get_by_text("How to verify it").click()
    expect(page.get_by_role("group", name="command that verifies the receipt")).to_contain_text(f"{job} --verify")
    visitor.require_accessible()
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(row["prompt"])
    expect(page).to_have_url(f"{site.url}/dashboard")  # a prompt stands in no address
    visitor.goto(f"/dashboard/jobs/{job}")
    visitor.require_looks_well("job")


def test_a_running_job_is_followed_and_canceled_on_its_page(visitor, site):
    """F6, G21."""
    account = site.account()
    job = ask(account, PROMPT, max_tokens=400)
    visitor.sign_in(account)
    page = visitor.goto(f"/dashboard/jobs/{job}")
    expect(page.get_by_role("group", name="Answer")).to_have_text(re.compile(r"\w{3}"), timeout=SLOW_MS)
    page.get_by_role("button", name="Cancel").click()  # at once: axe takes as long as the answer where the machine is busy
    expect(page.get_by_role("region", name="Facts").get_by_text("Canceled", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("You stopped it")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    visitor.require_accessible()
    job = ask(account, PROMPT, max_tokens=400)
    visitor.goto(f"/dashboard/jobs/{job}")
    expect(page.get_by_role("group", name="Answer")).to_have_text(re.compile(r"\w{3}"), timeout=SLOW_MS)
    visitor.require_accessible()  # while it runs, or just after


def test_another_account_s_job_is_not_shown(visitor, site):
    """G18."""
    job = ask(site.account())
    visitor.sign_in(site.account())
    page = visitor.goto(f"/dashboard/jobs/{job}")
    expect(page.get_by_text("There is no such job of yours")).to_be_visible()
    visitor.require_accessible()
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    visitor.require_accessible()
