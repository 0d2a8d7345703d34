"""Sharing a machine: adding it, looking after it, what it earns, what was found about it (F8); and the network (F9)."""

import re
import urllib.error
from contextlib import contextmanager
from functools import partial

import pytest

from tests.waiting import wait_for
from tests.web.looking import WIDTHS
from tests.web.machines import Machine, Runtime, enroll

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 180_000  # a process starts, models are tested, on a busy machine; nothing is measured here
eventually = partial(wait_for, limit_s=180)
MODEL, OTHER = "fake:words=16", "fake:words=3"
OFFERS = ("--models", f"{MODEL},{OTHER}")
JOBS = 3
REVOKED = 77  # the exit code of an agent that the platform wants no more
WHY = "The runtime was another build that night; it is back to the released one."


# --- what providers have ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime():
    running = Runtime()
    yield running
    running.stop()


@pytest.fixture
def machine(tmp_path, runtime):
    made = Machine(tmp_path / "machine", runtime)
    yield made
    made.stop()


@pytest.fixture
def petra(visitor, site):
    """Somebody new, signed in."""
    visitor.account = site.account("petra")
    visitor.sign_in(visitor.account)
    return visitor


class Earner:
    """A provider whose machine is online and served jobs of a consumer's."""

    def __init__(self, site, machine):
        self.site, self.account = site, site.account("earner")
        code = self.account.call("POST", "/api/core/agent-token/generate/", {"label": "cellar"})["token"]
        machine.start("--url", site.url, "--code", code, *OFFERS)
        self.node = eventually(self.online)["id"]
        eventually(lambda: self.why()["takes_jobs"] and all(model["offered"] for model in self.why()["models"]))
        consumer = site.account("buyer")
        job = {"prompt": "hello", "model": MODEL, "provider": self.account.username}
        for _ in range(JOBS):
            made = consumer.call("POST", f"{site.api_url}/api/computing/submit-job/", job)["job_id"]
            eventually(lambda made=made: consumer.call("GET", f"{site.api_url}/api/computing/jobs/{made}/")["status"] == "COMPLETED")
        eventually(lambda: self.earnings()["jobs"] == JOBS)

    def online(self):
        nodes = self.account.call("GET", f"{self.site.api_url}/api/computing/nodes/")["results"]
        return next((node for node in nodes if node["online"] and node["models"]), None)

    def why(self):
        return self.account.call("GET", f"{self.site.api_url}/api/computing/nodes/{self.node}/why/")

    def earnings(self, days=30):
        return self.account.call("GET", f"/api/payments/earnings/?days={days}")

    def stats(self, days=30):
        return self.account.call("GET", f"{self.site.api_url}/api/computing/provider-stats/?days={days}")


@pytest.fixture(scope="module")
def earner(site, runtime, tmp_path_factory):
    machine = Machine(tmp_path_factory.mktemp("earner") / "machine", runtime)
    try:
        yield Earner(site, machine)
    finally:
        machine.stop()


def known(site, account, node):
    """Tell whether the job APIs have heard of a node."""
    try:
        return account.call("GET", f"{site.api_url}/api/computing/nodes/{node}/why/")
    except urllib.error.HTTPError as refused:
        if refused.code != 404:
            raise
        return None


# --- what tests look at -----------------------------------------------------------------------------------------------------------------


def value(place, label):
    """The figure with this name."""
    return place.get_by_text(label, exact=True).locator("xpath=../dd[1]")


def card(page, name):
    return page.get_by_role("listitem", name=name, exact=True)


def require_looks_well_as_it_is(visitor, name):
    """The same as `require_looks_well`, for what would not be there after a reload."""
    for width in WIDTHS:
        visitor.resize(width)
        visitor.require_fits()
        visitor.require_accessible()
        visitor.shot(name)


@contextmanager
def menu_of(page, name):
    """The rest of what can be done with a machine, opened by the keyboard; the focus is back at its button afterwards."""
    button = page.get_by_role("button", name=f"More for {name}")
    button.press("Enter")
    menu = page.get_by_role("menu")
    expect(menu).to_be_visible()
    yield menu


def code_on(page):
    return page.get_by_role("group", name="code", exact=True).inner_text().strip()


def make_code(page, label):
    page.get_by_label("Label").fill(label)
    page.get_by_role("button", name="Make a code").click()
    expect(page.get_by_text("Waiting for the machine…")).to_be_visible()
    return code_on(page)


# --- adding a machine -------------------------------------------------------------------------------------------------------------------


def test_a_machine_is_added_named_paused_cut_off_brought_back_and_deregistered(petra, site, machine):
    """G17, F8: with a real agent, whose owner does everything in the console."""
    page, account = petra.page, petra.account
    petra.goto("/dashboard/provider")
    expect(page.get_by_text("No machine yet")).to_be_visible()
    petra.require_looks_well("provider-without-machines")
    page.get_by_role("main").get_by_role("link", name="Add a machine").click()
    code = make_code(page, "attic")
    require_looks_well_as_it_is(petra, "add-machine")
    machine.start("--url", site.url, "--code", code, *OFFERS)
    expect(page.get_by_text(re.compile(r"^Connected: attic, processor, 2 models"))).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text(code)).to_have_count(0)
    require_looks_well_as_it_is(petra, "machine-connected")

    page.get_by_role("link", name="See how it does").click()
    expect(page.get_by_role("heading", level=1, name="attic")).to_be_visible()
    expect(page.get_by_text("Takes jobs", exact=True)).to_be_visible(timeout=SLOW_MS)
    petra.settled()
    petra.require_looks_well("machine")
    node = account.call("GET", "/api/core/nodes/")["results"][0]
    expect(page.get_by_text(node["id"])).to_be_visible()

    page.get_by_role("link", name="Provider").last.click()
    attic = card(page, "attic")
    expect(attic.get_by_text("Online", exact=True)).to_be_visible(timeout=SLOW_MS)
    with menu_of(page, "attic") as menu:
        menu.get_by_role("menuitem", name="Rename").press("Enter")
    dialog = page.get_by_role("dialog", name="Rename this machine")
    expect(dialog.get_by_label("Name")).to_be_focused()
    petra.require_accessible()
    dialog.get_by_label("Name").fill("")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog.get_by_text("A machine needs a name.")).to_be_visible()
    dialog.get_by_label("Name").fill("loft")
    dialog.get_by_label("Name").press("Enter")
    expect(dialog).to_have_count(0)
    loft = card(page, "loft")
    expect(loft).to_be_visible()
    expect(page.get_by_role("button", name="More for loft")).to_be_focused()

    loft.get_by_role("button", name="Pause").click()
    expect(loft.get_by_text("Paused", exact=True)).to_be_visible()
    assert account.call("GET", "/api/core/nodes/")["results"][0]["state"] == "paused"
    loft.get_by_role("button", name="Resume").click()
    expect(loft.get_by_text("Online", exact=True)).to_be_visible(timeout=SLOW_MS)

    with menu_of(page, "loft") as menu:
        menu.get_by_role("menuitem", name="Revoke its token").click()
    dialog = page.get_by_role("dialog", name="Revoke the token of loft?")
    petra.require_accessible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    with menu_of(page, "loft") as menu:
        menu.get_by_role("menuitem", name="Revoke its token").click()
    dialog.get_by_role("button", name="Revoke its token").click()
    expect(loft.get_by_text("Cut off", exact=True)).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("attic")).get_by_text("Revoked")).to_be_visible()
    assert machine.ended() == REVOKED

    loft.get_by_role("link", name="New code").click()
    expect(page.get_by_role("heading", level=1, name="A new code for loft")).to_be_visible()
    page.get_by_role("button", name="Make a code").click()
    expect(page.get_by_text("Waiting for the machine…")).to_be_visible()
    machine.start("--url", site.url, "--code", code_on(page), *OFFERS)
    expect(page.get_by_text(re.compile("^Connected: loft"))).to_be_visible(timeout=SLOW_MS)
    assert [one["id"] for one in account.call("GET", "/api/core/nodes/")["results"]] == [node["id"]]

    page.get_by_role("link", name="See how it does").click()
    with menu_of(page, "loft") as menu:
        menu.get_by_role("menuitem", name="Deregister").click()
    page.get_by_role("dialog", name="Deregister loft?").get_by_role("button", name="Deregister").click()
    expect(page).to_have_url(f"{site.url}/dashboard/provider")
    expect(card(page, "loft")).to_have_count(0)
    assert machine.ended() == REVOKED
    assert account.call("GET", "/api/core/nodes/")["results"] == []


def test_each_system_has_its_exact_command_to_copy(petra, site):
    """F8: this installation's own address, and the code that was just made."""
    petra.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page = petra.goto("/dashboard/provider/add")
    code = make_code(page, "studio")
    wanted = {
        "Linux": f"curl -fsS {site.url}/install.sh | sh -s -- --code {code}",
        "macOS": f"curl -fsS {site.url}/install.sh | sh -s -- --code {code}",
        "Windows": f'wsl -- sh -c "curl -fsS {site.url}/install.sh | sh -s -- --code {code}"',
        "Container": f"gfe-agent --url {site.url} --code {code}",
    }
    for system, command in wanted.items():
        page.get_by_role("radio", name=system).check(force=True)
        shown = page.get_by_role("main").get_by_role("listitem").filter(has=page.get_by_text(command)).last
        shown.get_by_role("button", name=re.compile("^Copy command")).click()
        assert command in page.evaluate("() => navigator.clipboard.readText()")
        require_looks_well_as_it_is(petra, f"add-machine-{system.lower()}")
        petra.resize(1280)
    assert petra.context.request.get("/install.sh").status == 200
    assert code not in str(petra.stored())


def test_a_code_that_nobody_used_expires_and_makes_room_for_another(petra):
    """F8, L1."""
    page = petra.page
    page.clock.install()
    petra.goto("/dashboard/provider/add")
    first = make_code(page, "studio")
    page.clock.fast_forward("10:01")
    expect(page.get_by_text("The code has expired")).to_be_visible()
    expect(page.get_by_text(first)).to_have_count(0)
    petra.require_accessible()
    page.get_by_role("button", name="Make a new code").click()
    assert make_code(page, "studio") != first


# --- earnings ---------------------------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_api(visitor, earner):
    """F8, D36, L5."""
    visitor.sign_in(earner.account)
    page = visitor.goto("/dashboard/provider")
    earnings, stats = earner.earnings(), earner.stats()
    expect(value(page, "Earned in all")).to_have_text(earnings["total"])
    expect(value(page, "Earned in 30 days")).to_have_text(earnings["period"])
    expect(value(page, "Jobs served")).to_have_text(str(stats["jobs"]))
    expect(value(page, "Machines online")).to_have_text(str(stats["nodes"]["online"]))
    expect(value(page, "Success rate")).to_have_text("100 %")
    payouts = page.get_by_role("region", name="Pay-outs")
    expect(value(payouts, "Can be withdrawn")).to_have_text(earnings["released"])
    expect(value(payouts, "Waits")).to_have_text(earnings["pending"])
    model = page.get_by_role("region", name="Earnings").get_by_role("listitem").filter(has_text=MODEL)
    expect(model).to_contain_text(earnings["by_model"][0]["earned"])
    shown = earner.online()
    cellar = card(page, "cellar")
    expect(cellar.get_by_role("meter", name="Slots")).to_have_attribute("aria-valuetext", f"0 of {shown['slots']} in use")
    expect(cellar.get_by_text(f"{len(shown['models'])} models")).to_be_visible()
    expect(page.get_by_role("figure").locator("svg").first).to_be_visible()
    visitor.require_looks_well("provider")
    payouts.get_by_role("link", name="Withdraw in the wallet").click()
    expect(page).to_have_url(re.compile("/dashboard/wallet$"))


def test_charts_have_a_table_view_and_the_address_keeps_the_period(visitor, earner):
    """F8, D37."""
    visitor.sign_in(earner.account)
    page = visitor.goto("/dashboard/provider")
    for days in (7, 14, 90):
        page.get_by_role("radio", name=f"{days} days").check(force=True)
        expect(page).to_have_url(re.compile(rf"\?days={days}$"))
        expect(page.get_by_role("figure")).to_contain_text(f"of {days} days brought something")
    page.get_by_role("radio", name="Table").check(force=True)
    expect(page).to_have_url(re.compile(r"\?days=90&view=table$"))
    visitor.goto("/dashboard/provider?days=90&view=table")
    earnings = earner.earnings(90)
    by_day = page.get_by_role("table", name="Earnings by day").get_by_role("row")
    expect(by_day).to_have_count(91)
    today = by_day.nth(1)
    expect(today.locator("time")).to_have_attribute("datetime", earnings["by_day"][-1]["date"])
    expect(today.get_by_role("cell").last).to_have_text(earnings["by_day"][-1]["earned"])
    by_model = page.get_by_role("table", name="Earnings by model").get_by_role("row").filter(has_text=MODEL)
    expect(by_model.get_by_role("cell").last).to_have_text(earnings["by_model"][0]["earned"])
    visitor.require_looks_well("provider-table")


def test_the_days_of_the_chart_are_read_with_the_keyboard(visitor, earner):
    """D38."""
    visitor.sign_in(earner.account)
    page = visitor.goto("/dashboard/provider?days=7")
    chart = page.get_by_role("figure").locator("svg[tabindex='0']")
    chart.focus()
    for _ in range(7):
        chart.press("ArrowRight")
    expect(page.get_by_role("figure").get_by_text(f"{earner.earnings()['jobs']} jobs")).to_be_visible()


def test_a_machine_tells_its_jobs_models_and_money(visitor, earner):
    """F8: what the API says about one machine."""
    visitor.sign_in(earner.account)
    page = visitor.goto(f"/dashboard/provider/{earner.node}")
    why = earner.why()
    expect(value(page, "Jobs served")).to_have_text(str(why["done"]["jobs"]))
    expect(value(page, "Earned in 30 days")).to_have_text(earner.earnings()["by_node"][0]["earned"])
    row = page.get_by_role("table", name="Models of this machine").get_by_role("row").filter(has=page.get_by_text(MODEL, exact=True))
    expect(row).to_contain_text(next(one["why"] for one in why["models"] if one["model"] == MODEL))
    [own] = earner.account.call("GET", "/api/core/nodes/")["results"]
    expect(row).to_contain_text(next(one["said"] for one in own["admissions"] if one["model"] == MODEL))
    audits = earner.account.call("GET", f"/api/core/nodes/{earner.node}/audits/")
    expect(page.get_by_text(audits["what_next"])).to_be_visible()
    expect(page.get_by_text("Your objection")).to_have_count(0)


def test_live_news_bring_what_a_job_earned(visitor, earner, site):
    """L6: the socket hints, the page asks."""
    visitor.sign_in(earner.account)
    page = visitor.goto("/dashboard/provider")
    before = earner.earnings()["jobs"]
    expect(value(page, "Jobs served")).to_have_text(str(before))
    job = {"prompt": "hello again", "model": MODEL, "provider": earner.account.username}
    site.account("buyer").call("POST", f"{site.api_url}/api/computing/submit-job/", job)
    expect(value(page, "Jobs served")).to_have_text(str(before + 1), timeout=SLOW_MS)


# --- findings ---------------------------------------------------------------------------------------------------------------------------


def test_a_banned_machine_is_objected_to_and_the_answer_is_read(petra, site):
    """F8: why it gets no jobs, an appeal, its answer."""
    account, operator = petra.account, site.operator()
    node = enroll(site, account, "lab")
    operator.call("POST", f"/api/admin/nodes/{node}/ban/", {"reason": "it answered with other weights"})
    eventually(lambda: known(site, account, node))
    page = petra.goto("/dashboard/provider")
    expect(card(page, "lab").get_by_text("Banned", exact=True)).to_be_visible()
    card(page, "lab").get_by_role("link", name="lab").click()
    expect(page.get_by_text("Gets no jobs", exact=True)).to_be_visible()
    page.get_by_role("button", name="Object").click()
    expect(page.get_by_text("Write at least 10 characters.")).to_be_visible()
    petra.require_looks_well("machine-banned")
    page.get_by_label("Why are the findings wrong?").fill(WHY)
    page.get_by_role("button", name="Object").click()
    expect(page.get_by_text("An operator looks at it")).to_be_visible()
    expect(page.get_by_role("button", name="Object")).to_have_count(0)
    appeal = account.call("GET", f"/api/core/nodes/{node}/audits/")["appeal"]
    assert (appeal["note"], appeal["state"]) == (WHY, "OPEN")
    operator.call("POST", f"/api/admin/appeals/{appeal['id']}/decide/", {"uphold": True, "reason": "The build was at fault."})
    petra.goto(f"/dashboard/provider/{node}")
    expect(page.get_by_text("You were right")).to_be_visible()
    expect(page.get_by_text("The build was at fault.").first).to_be_visible()
    expect(page.get_by_text("Pardoned")).to_be_visible()
    petra.require_looks_well("machine-pardoned")


def test_a_machine_of_somebody_else_is_not_there(petra, earner):
    page = petra.goto(f"/dashboard/provider/{earner.node}")
    expect(page.get_by_text("There is no such machine")).to_be_visible()
    petra.require_looks_well("machine-missing")


# --- codes and tokens -------------------------------------------------------------------------------------------------------------------


def test_codes_are_listed_by_pages_and_revoked(petra):
    """L1, D33."""
    account = petra.account
    for number in range(24):
        made = account.call("POST", "/api/core/agent-token/generate/", {"label": f"code {number}"})
        account.call("POST", f"/api/core/agent-token/{made['id']}/revoke/")
    account.call("POST", "/api/core/agent-token/generate/", {"label": "code 24"})
    page = petra.goto("/dashboard/provider")
    rows = page.get_by_role("table", name="Agent tokens").get_by_role("rowheader")
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(25)
    assert sorted(rows.all_inner_texts()) == sorted(f"code {number}" for number in range(25))
    waiting = page.get_by_role("row", name=re.compile("code 24"))
    expect(waiting.get_by_text("Waits for its machine")).to_be_visible()
    waiting.get_by_role("button", name="Revoke code 24").click()
    dialog = page.get_by_role("dialog", name="Revoke code 24?")
    petra.require_accessible()
    dialog.get_by_role("button", name="Revoke").click()
    expect(waiting.get_by_text("Revoked")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Revoke code"))).to_have_count(0)
    assert all(one["revoked_at"] for one in account.call("GET", "/api/core/agent-token/list/")["results"])


def test_a_refused_code_is_told_in_its_place(petra):
    """L1: only so many codes are open at a time."""
    for number in range(20):
        petra.account.call("POST", "/api/core/agent-token/generate/", {"label": f"code {number}"})
    page = petra.goto("/dashboard/provider/add")
    page.get_by_label("Label").fill("one too many")
    page.get_by_role("button", name="Make a code").click()
    expect(page.get_by_role("alert").filter(has_text="Maximum 20 active tokens allowed")).to_be_visible()
    expect(page.get_by_label("Label")).to_have_value("one too many")
    petra.require_accessible()


# --- when something fails ---------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_told_in_its_place_and_asked_for_again(visitor, earner):
    """4.3: every failure shows text and a retry in place."""
    visitor.sign_in(earner.account)
    page = visitor.page
    broken = re.compile(r"/api/(core/nodes|computing/nodes|payments/earnings|computing/provider-stats)/")
    page.route(broken, lambda route: route.fulfill(status=404, content_type="application/problem+json", body='{"detail": "It is gone."}'))
    visitor.goto("/dashboard/provider")
    for what in ("The machines cannot be read now", "The earnings cannot be read now", "The pay-outs cannot be read now",
                 "The figures of jobs cannot be read now", "How the machines are now cannot be read"):  # fmt: skip
        expect(page.get_by_role("alert").filter(has_text=what).first).to_be_visible()
    visitor.require_accessible()
    page.unroute(broken)
    page.get_by_role("alert").filter(has_text="The machines cannot be read now").get_by_role("button", name="Try again").click()
    expect(card(page, "cellar")).to_be_visible()


# --- the network ------------------------------------------------------------------------------------------------------------------------


def test_the_network_shows_nodes_models_prices_and_contexts_as_the_api_tells_them(visitor, earner, site):
    """F9."""
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard/network")
    stats = site.call("GET", f"{site.api_url}/api/computing/stats/")
    expect(value(page, "Nodes online")).to_have_text(str(stats["active_nodes"]))
    expect(value(page, "Models on offer")).to_have_text(str(stats["available_models"]))
    model = next(one for one in site.call("GET", f"{site.api_url}/api/computing/models/")["models"] if one["name"] == MODEL)
    row = page.get_by_role("row").filter(has=page.get_by_text(MODEL, exact=True))
    expect(row).to_contain_text(earner.account.username)
    expect(row).to_contain_text(f"{model['context_tokens']:,}")
    expect(row).to_contain_text(model["price"]["job"])
    visitor.require_looks_well("network")
    visitor.resize(1280)
    row.get_by_role("link", name=f"Use {MODEL}").click()
    expect(page).to_have_url(re.compile(r"/dashboard\?model=fake"))


def test_the_network_counts_a_job_as_it_ends(visitor, earner, site):
    """F9: live."""
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard/network")
    done = int(value(page, "Jobs done").inner_text())
    job = {"prompt": "count me", "model": MODEL, "provider": earner.account.username}
    site.account("buyer").call("POST", f"{site.api_url}/api/computing/submit-job/", job)
    expect(value(page, "Jobs done")).not_to_have_text(str(done), timeout=SLOW_MS)
