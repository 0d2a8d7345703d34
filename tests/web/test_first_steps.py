"""From the landing page to the dashboard (F1, F2, F3, F11)."""

import re

import pytest

from tests.web.conftest import PASSWORD

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize(
    ("path", "heading", "name"),
    [("/", re.compile("one honest market"), "landing"), ("/login", "Sign in", "login"), ("/register", "Create account", "register"),
     ("/forgot-password", "New password", "forgot-password"), ("/no/such/page", "There is no such page", "not-found")],
)  # fmt: skip
def test_pages_for_everybody_fit_and_are_accessible(visitor, path, heading, name):
    """D37, D38."""
    page = visitor.goto(path)
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    visitor.require_looks_well(name)


def test_the_landing_page_shows_the_market_as_the_api_tells_it(visitor, site):
    """F1."""
    page = visitor.goto("/")
    stats = site.call("GET", f"{site.api_url}/api/computing/stats/")
    model = site.call("GET", f"{site.api_url}/api/computing/models/")["models"][0]
    figures = page.get_by_role("region", name="The market now")
    expect(figures.get_by_text("Active nodes").locator("xpath=../dd")).to_have_text(str(stats["active_nodes"]))
    expect(figures.get_by_text("Price of a job").locator("xpath=../dd")).to_contain_text(model["price"]["job"])
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=model["name"]))
    expect(card.get_by_text("1 node")).to_be_visible()
    expect(page.get_by_role("tabpanel")).to_contain_text(f"{site.api_url}/v1/chat/completions")
    expect(page.get_by_text(f"curl -fsS {site.url}/install.sh | sh")).to_be_visible()


def test_no_link_of_the_landing_page_is_dead(visitor, site):
    """F1, D36."""
    page = visitor.goto("/")
    links = page.eval_on_selector_all("a[href]", "(links) => [...new Set(links.map((link) => link.href))]")
    assert links
    for link in links:
        target = link.partition("#")[2]
        if link.startswith(f"{site.url}/#"):
            assert page.locator(f"#{target}").count() == 1, link
        else:
            assert visitor.context.request.get(link).status == 200, link


def test_a_newcomer_registers_and_lands_on_the_dashboard(visitor, site):
    """G1."""
    page = visitor.goto("/")
    page.get_by_role("main").get_by_role("link", name="Try a model").click()
    name = site.new_name("grace")
    form = page.get_by_role("main")
    form.get_by_label("Username").fill(name)
    form.get_by_label("E-mail").fill(f"{name}@example.org")
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="Create account").click()
    expect(page).to_have_url(re.compile(r"/dashboard$"))
    sidebar = page.get_by_role("complementary")
    expect(sidebar.get_by_text(name)).to_be_visible()
    expect(sidebar.get_by_text("100.00")).to_be_visible()
    expect(sidebar.get_by_text("Live", exact=True)).to_be_visible()
    visitor.settled()
    visitor.require_looks_well("overview")


def test_the_console_is_used_by_the_other_name_of_this_machine(visitor, site):
    """`localhost` is where many look first."""
    account = site.account()
    page = visitor.goto(site.url.replace("127.0.0.1", "localhost") + "/login")
    page.get_by_label("Username").fill(account.username)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("//localhost:[0-9]+/dashboard$"))
    model = page.get_by_role("combobox", name="Model")
    expect(model).not_to_have_value("")  # the job APIs, which are another origin, were asked
    page.reload()
    expect(page).to_have_url(re.compile("/dashboard$"))


def test_a_name_that_is_taken_is_refused_in_words(visitor, site):
    """G2."""
    taken = site.account().username
    page = visitor.goto("/register")
    form = page.get_by_role("main")
    form.get_by_label("Username").fill(taken.upper())
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="Create account").click()
    expect(form.get_by_text("Registration failed")).to_be_visible()
    expect(form.get_by_text("A user with that username already exists.").first).to_be_visible()
    expect(form.get_by_label("Username")).to_have_value(taken.upper())
    expect(page).to_have_url(re.compile("/register$"))
    visitor.require_accessible()


def test_what_is_asked_of_a_password_is_told_while_it_is_typed(visitor):
    """F3, S9."""
    form = visitor.goto("/register").get_by_role("main")
    form.get_by_label("Username").fill("margaret")
    for typed, kept in [("Margaret-2026", 2), ("1234", 1), (PASSWORD, 3)]:
        form.get_by_label("Password", exact=True).fill(typed)
        expect(form.get_by_text(": yes")).to_have_count(kept)


def test_the_right_password_opens_the_page_that_was_asked_for(visitor, site):
    """G3."""
    account = site.account()
    page = visitor.goto("/dashboard/wallet")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    page.get_by_label("Username").fill(account.username)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/dashboard/wallet$"))
    expect(page.get_by_role("heading", level=1, name="Wallet")).to_be_visible()


def test_a_wrong_password_is_refused_and_the_username_stays(visitor, site):
    """G4."""
    account = site.account()
    page = visitor.goto("/login")
    page.get_by_label("Username").fill(account.username)
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text="Invalid credentials")).to_be_visible()
    expect(page.get_by_label("Username")).to_have_value(account.username)
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    visitor.require_accessible()


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_signing_in_leads_nowhere_else(visitor, site, elsewhere):
    account = site.account()
    visitor.sign_in(account)
    visitor.page.goto(f"/login?next={elsewhere}")
    expect(visitor.page).to_have_url(f"{site.url}/dashboard")


def test_use_this_model_is_remembered_through_signing_in(visitor, site):
    """D37."""
    account = site.account()
    page = visitor.goto("/")
    page.get_by_role("link", name=re.compile("^Use this model")).first.click()
    page.get_by_label("Username").fill(account.username)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/dashboard\?model=smollm2"))


def test_nothing_of_a_sign_in_is_kept_where_scripts_can_read_it(visitor, site):
    """D18."""
    visitor.sign_in(site.account())
    visitor.goto("/dashboard")
    stored = visitor.stored()
    assert set(stored) == {"cookie", "address"}
    assert stored["cookie"] == ""
    assert stored["address"] == f"{site.url}/dashboard"


def test_signing_out_in_one_tab_signs_out_the_other(visitor, site):
    visitor.sign_in(site.account())
    visitor.goto("/dashboard")
    other = visitor.context.new_page()
    other.goto("/dashboard/wallet")
    expect(other.get_by_role("heading", level=1, name="Wallet")).to_be_visible()
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page).to_have_url(f"{site.url}/")
    expect(other).to_have_url(f"{site.url}/")
    other.goto("/dashboard/wallet")
    expect(other).to_have_url(re.compile("/login"))


def test_addresses_of_an_older_form_lead_on(visitor, site):
    """F11."""
    visitor.sign_in(site.account())
    visitor.page.goto("/dashboard?tab=wallet")
    expect(visitor.page).to_have_url(f"{site.url}/dashboard/wallet")


def test_operators_alone_see_operations(visitors, site):
    visitor = visitors()
    visitor.sign_in(site.account())
    visitor.page.goto("/admin/users")
    expect(visitor.page).to_have_url(f"{site.url}/dashboard")
    expect(visitor.page.get_by_role("link", name="Operate")).to_have_count(0)
    operator = visitors()
    operator.sign_in(site.operator())
    page = operator.goto("/dashboard")
    page.get_by_role("complementary").get_by_role("link", name="Operate").click()
    expect(page.get_by_role("heading", level=1, name="Operations")).to_be_visible()


@pytest.mark.parametrize("path", ["jobs", "wallet", "provider", "network", "account"])
def test_every_page_of_the_dashboard_is_reached_on_a_phone(visitors, site, path):
    """G22, D37."""
    visitor = visitors(width=360, height=740)
    visitor.sign_in(site.account())
    page = visitor.goto("/dashboard")
    page.get_by_role("button", name="Menu", exact=True).click()
    menu = page.get_by_role("dialog")
    expect(menu).to_be_visible()
    visitor.require_accessible()
    menu.get_by_role("link", name=path.capitalize()).click()
    expect(page).to_have_url(f"{site.url}/dashboard/{path}")
    expect(menu).to_have_count(0)
    expect(page.get_by_role("heading", level=1, name=path.capitalize())).to_be_visible()
    visitor.settled()
    visitor.require_looks_well(path)


def test_the_menu_of_the_landing_page_opens_and_closes_by_keyboard(visitors):
    """F1, D37."""
    visitor = visitors(width=360, height=740)
    page = visitor.goto("/")
    burger = page.get_by_role("button", name="Menu", exact=True)
    links = page.get_by_role("navigation", name="Main")
    expect(links).to_be_hidden()
    burger.press("Enter")
    expect(links).to_be_visible()
    visitor.require_accessible()
    page.keyboard.press("Escape")
    expect(links).to_be_hidden()
    expect(burger).to_be_focused()
