"""One's account in the console: profile, address, password, second factor, sign-ins, API keys (F10)."""

import re
import time
import urllib.error

import pytest

from tests.web.conftest import PASSWORD

expect = pytest.importorskip("playwright.sync_api").expect

SLOW_MS = 60_000
NEW_PASSWORD = "nine loud bells beside the harbor 6"
KEY = re.compile(r"gfe_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")


@pytest.fixture
def ada(visitor, site):
    """Somebody new, signed in."""
    visitor.account = site.account(email=f"{site.new_name('mail')}@example.org")
    visitor.sign_in(visitor.account)
    return visitor


def region(page, name):
    return page.get_by_role("region", name=name, exact=True)


def go(visitor, part=""):
    return visitor.goto(f"/dashboard/account{part}")


def refused(call):
    """The status with which a call is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        call()
    return caught.value.code


def link_in_mail(site, to, path):
    """The link to a page in the newest mail to an address; mails are files of the installation."""
    if site.installation is None:
        pytest.skip("the mails of a running installation are not ours to read")
    until = time.monotonic() + 30
    while True:
        for file in sorted(site.installation.home.root.glob("mail/*.eml"), reverse=True):
            text = file.read_text()
            if f"To: {to}" in text and (found := re.search(rf"http\S+{path}#\S+", text)):
                return found[0]
        assert time.monotonic() < until, f"no mail to {to} leads to {path}"
        time.sleep(0.3)


# --- profile ----------------------------------------------------------------------------------------------------------------------------


def test_the_profile_is_shown_and_its_role_changed(ada):
    """F10, S13."""
    page = go(ada)
    profile = ada.account.call("GET", "/api/core/profile/")
    card = region(page, "Profile")
    expect(card.get_by_text(ada.account.username, exact=True)).to_be_visible()
    expect(card.get_by_text(profile["id"])).to_be_visible()
    ada.require_looks_well("account")
    card.get_by_role("radio", name="Share a GPU").click(force=True)  # chosen when it is saved
    expect(card.get_by_text("Saved.")).to_be_visible()
    assert ada.account.call("GET", "/api/core/profile/")["role"] == "PROVIDER"
    expect(page.get_by_role("complementary").get_by_text("Provider", exact=True).last).to_be_visible()


def test_the_parts_of_the_account_have_addresses_of_their_own(ada):
    """D37."""
    page = go(ada)
    parts = page.get_by_role("navigation", name="Account")
    for name, heading, path in [("Security", "Security", "/security"), ("API keys", "API keys", "/keys"), ("Profile", "Account", "")]:
        parts.get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(f"/dashboard/account{path}$"))
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        expect(parts.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")


def test_another_address_is_set_and_proven_by_its_mail(ada, site):
    """F10: the card says what the mail says."""
    page = go(ada)
    card = region(page, "E-mail")
    expect(card.get_by_text("Not confirmed")).to_be_visible()
    address = f"{site.new_name('other')}@example.org"
    card.get_by_label("Address").fill(address)
    card.get_by_role("button", name="Save address").click()
    expect(card.get_by_text(f"A mail is on its way to {address}")).to_be_visible()
    ada.require_accessible()
    ada.shot("account-mail-sent")
    page.goto(link_in_mail(site, address, "/verify-email"))
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("link", name="To the dashboard").click()
    go(ada)
    expect(region(page, "E-mail").get_by_text("Confirmed", exact=True)).to_be_visible()
    expect(page.get_by_text("Only the first reaches you now")).to_have_count(0)


def test_the_mail_is_sent_again(ada):
    card = region(go(ada), "E-mail")
    card.get_by_role("button", name="Send the mail again").click()
    expect(card.get_by_text("A mail is on its way")).to_be_visible()


def test_a_forgotten_password_is_set_anew_by_mail(visitor, site):
    address = f"{site.new_name('mail')}@example.org"
    account = site.account(email=address)
    page = visitor.goto(link_in_mail(site, address, "/verify-email"))
    page.get_by_role("button", name="Confirm").click()  # only who has proven an address gets mail there
    expect(page.get_by_text("Your address is confirmed")).to_be_visible()
    page = visitor.goto("/login")
    page.get_by_role("link", name=re.compile("[Ff]orgot")).click()
    page.get_by_label("E-mail").fill(address)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_text("If we know this address, a mail is on its way")).to_be_visible()
    visitor.require_looks_well("forgot-password-sent")
    visitor.goto(link_in_mail(site, address, "/reset-password"))
    visitor.require_accessible()
    assert "#" not in page.url  # the code is taken out of the address at once
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_role("main").get_by_role("button", name=re.compile("[Ss]et")).click()
    expect(page.get_by_text("The new password counts")).to_be_visible()
    visitor.require_accessible()
    page.get_by_role("main").get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill(account.username)
    page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{site.url}/dashboard")
    assert refused(account.token) == 401  # the old one


def test_what_is_no_address_is_answered_at_its_field(ada):
    card = region(go(ada), "E-mail")
    card.get_by_label("Address").fill("ada@nowhere")
    card.get_by_role("button", name="Save address").click()
    expect(card.get_by_role("alert").filter(has_text="Enter a valid email address.")).to_be_visible()
    ada.require_accessible()


# --- password ---------------------------------------------------------------------------------------------------------------------------


def test_another_password_counts_and_ends_the_other_sign_ins(ada, visitors, site):
    """F10, G15: the other browser is led to sign in, and back to where it was."""
    other = visitors()
    other.sign_in(ada.account)
    other.goto("/dashboard/wallet")
    page = go(ada, "/security")
    ada.require_looks_well("account-security")
    card = region(page, "Password")
    card.get_by_label("Old password", exact=True).fill("not the old one")
    card.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    card.get_by_role("button", name="Change password").click()
    expect(card.get_by_text("This is not your password.")).to_be_visible()
    ada.require_accessible()
    card.get_by_label("Old password", exact=True).fill(PASSWORD)
    card.get_by_role("button", name="Change password").click()
    expect(card.get_by_text("The new password counts")).to_be_visible()
    expect(region(page, "Where you are signed in").locator("tbody tr")).to_have_count(1)
    other.page.get_by_role("complementary").get_by_role("link", name="Account").click()
    expect(other.page).to_have_url(re.compile(r"/login\?next="), timeout=SLOW_MS)
    other.page.get_by_label("Username").fill(ada.account.username)
    other.page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
    other.page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(other.page).to_have_url(re.compile("/dashboard/"))


def test_a_weak_password_is_refused_in_words(ada):
    """S9."""
    card = region(go(ada, "/security"), "Password")
    card.get_by_label("Old password", exact=True).fill(PASSWORD)
    card.get_by_label("New password", exact=True).fill("passwordpassword")
    card.get_by_role("button", name="Change password").click()
    expect(card.get_by_role("alert").filter(has_text="This password is too common.")).to_be_visible()


# --- the second factor ------------------------------------------------------------------------------------------------------------------


def test_the_second_factor_is_set_up_used_and_switched_off(ada, visitors, site):
    """F10."""
    pyotp = pytest.importorskip("pyotp")
    page = go(ada, "/security")
    card = region(page, "Second factor")
    card.get_by_role("button", name="Set up").click()
    expect(card.get_by_role("img", name="QR code for your authenticator")).to_be_visible()
    secret = card.get_by_role("group", name="secret", exact=True).inner_text().replace(" ", "").strip()
    assert secret in card.get_by_role("link", name="Open your authenticator").get_attribute("href")
    ada.require_accessible()
    ada.shot("account-second-factor")
    ada.resize(360)
    ada.require_fits()
    ada.shot("account-second-factor")
    ada.resize(1280)
    digits, now = pyotp.TOTP(secret), time.time()
    code = card.get_by_label("Code of your authenticator")
    code.fill("000000")
    card.get_by_role("button", name="Switch on").click()
    expect(card.get_by_text("These digits do not fit")).to_be_visible()
    code.fill(digits.at(now - 30))
    card.get_by_role("button", name="Switch on").click()
    expect(card.get_by_text("The second factor is on")).to_be_visible()

    other = visitors()
    asked = other.goto("/login")
    asked.get_by_label("Username").fill(ada.account.username)
    asked.get_by_label("Password", exact=True).fill(PASSWORD)
    asked.get_by_role("main").get_by_role("button", name="Sign in").click()
    asked.get_by_label("Code of your authenticator").fill(digits.at(now))
    asked.get_by_role("button", name="Confirm").click()
    expect(asked).to_have_url(re.compile("/dashboard$"))

    card.get_by_role("button", name="Switch off").click()
    dialog = page.get_by_role("dialog")
    ada.require_accessible()
    dialog.get_by_label("Code of your authenticator").fill(digits.at(now))  # used to sign in just now
    dialog.get_by_role("button", name="Switch off").click()
    expect(dialog.get_by_text("were used already")).to_be_visible()
    dialog.get_by_label("Code of your authenticator").fill(digits.at(now + 30))
    dialog.get_by_role("button", name="Switch off").click()
    expect(card.get_by_text("The second factor is off")).to_be_visible()
    assert ada.account.call("GET", "/api/core/profile/")["has_totp"] is False


# --- sign-ins ---------------------------------------------------------------------------------------------------------------------------


def test_what_is_signed_in_is_listed_and_signed_out_one_by_one(ada, visitors):
    """F10, D18."""
    other = visitors(user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile Safari/604.1")
    other.sign_in(ada.account)
    other.goto("/dashboard/network")
    page = go(ada, "/security")
    rows = region(page, "Where you are signed in").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="This one")).to_have_count(1)
    phone = rows.filter(has_text="Safari on iPhone")
    expect(phone).to_contain_text("127.0.0.1")
    phone.get_by_role("button", name="Sign out Safari on iPhone").click()
    expect(rows).to_have_count(1)
    other.page.get_by_role("complementary").get_by_role("link", name="Wallet").click()
    expect(other.page).to_have_url(re.compile(r"/login\?next="), timeout=SLOW_MS)
    rows.get_by_role("button", name="Sign out here").click()
    expect(page).not_to_have_url(re.compile("/dashboard"))


def test_everywhere_else_and_everywhere_is_signed_out(ada, visitors, site):
    tokens = [ada.account.token() for _ in range(2)]
    page = go(ada, "/security")
    rows = region(page, "Where you are signed in").locator("tbody tr")
    expect(rows).to_have_count(3)
    ada.require_looks_well("account-sessions", widths=(360,))
    page.get_by_role("button", name="Sign out everywhere else").click()
    dialog = page.get_by_role("dialog")
    ada.require_accessible()
    dialog.get_by_role("button", name="Sign out").click()
    expect(rows).to_have_count(1)
    assert [refused(lambda token=token: site.call("GET", "/api/core/profile/", token=token)) for token in tokens] == [401, 401]
    page.get_by_role("button", name="Sign out everywhere", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{site.url}/")
    page.goto("/dashboard/account")
    expect(page).to_have_url(re.compile("/login"))


@pytest.fixture
def other_service_says_yes(other_service, site, visitor):
    """Who is sent to the other service says yes there and comes back."""
    if site.installation is None:
        pytest.skip("a running installation asks another service")
    other_service.person = {"sub": site.new_name("10"), "email": f"{site.new_name('grace')}@example.org", "email_verified": True}
    visitor.page.route(
        f"{other_service.url}/authorize**",
        lambda route: route.fulfill(status=302, headers={"Location": site.url + other_service.say_yes(route.request.url)}),
    )
    return other_service


def test_somebody_signs_in_with_another_service(visitor, site, other_service_says_yes):
    """L8."""
    page = visitor.goto("/login?next=/dashboard/wallet")
    visitor.require_accessible()
    for _ in range(2):  # the second time the account is there
        page.get_by_role("button", name="Continue with Google").click()
        expect(page).to_have_url(f"{site.url}/dashboard/wallet")
        expect(page.get_by_role("complementary").get_by_text("100.00\u00a0credits")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{site.url}/")
        page = visitor.goto("/login?next=/dashboard/wallet")


def test_another_service_is_connected_and_taken_away_again(ada, other_service_says_yes):
    """L8: beside the password."""
    page = go(ada, "/security")
    card = region(page, "Connected sign-ins")
    card.get_by_role("button", name="Connect Google").click()
    expect(card.get_by_text("Connected", exact=True)).to_be_visible()
    expect(card).to_contain_text(other_service_says_yes.person["email"])
    expect(page).to_have_url(re.compile("/dashboard/account/security$"))
    ada.require_accessible()
    card.get_by_role("button", name="Disconnect Google").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect", exact=True).click()
    expect(card.get_by_text("Not connected", exact=True)).to_be_visible()


def test_a_service_that_was_not_connected_is_told_where_that_began(ada):
    """L8: the way back from a provider leads to the sign-in page, which who is signed in does not see."""
    page = ada.page
    page.goto("/login?error=oauth_taken")
    expect(page).to_have_url(re.compile("/dashboard/account/security"))
    expect(page.get_by_text("Another account here signs in with it already.")).to_be_visible()


# --- API keys ---------------------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_shown_once_changed_and_revoked(ada, site):
    """F10."""
    page = go(ada, "/keys")
    expect(page.get_by_text("No key yet")).to_be_visible()
    ada.require_looks_well("account-no-keys")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
    dialog.get_by_label("Name", exact=True).fill("laptop")
    dialog.get_by_label("Credits a day").fill("2,5")
    dialog.get_by_label("Jobs a minute").fill("30")
    dialog.get_by_label("Last day").fill("2099-12-31")
    dialog.get_by_label("Trusted machines only").check()
    ada.require_accessible()
    ada.shot("account-new-key")
    ada.resize(360)
    ada.require_fits()
    ada.shot("account-new-key")
    ada.resize(1280)
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_text("Copy it now")).to_be_visible()
    key = KEY.search(dialog.get_by_role("group", name="key laptop", exact=True).inner_text()).group()
    ada.require_accessible()
    ada.shot("account-made-key")
    dialog.get_by_role("button", name="I have copied it").click()
    expect(page.get_by_text(key)).to_have_count(0)

    assert site.call("GET", f"{site.api_url}/v1/models", token=key)["data"]
    (made,) = ada.account.call("GET", "/api/core/keys/")["results"]
    assert (made["budget_day"], made["per_minute"], made["privacy"]) == ("2.50", 30, "trusted")
    assert sorted(made["scopes"]) == ["jobs:read", "jobs:write", "wallet:read"]
    assert made["expires_at"].startswith(("2099-12-31", "2100-01-01"))
    row = region(page, "Your keys").locator("tbody tr")
    expect(row).to_contain_text("2.50\u00a0credits a day, 30 jobs a minute, trusted machines only")
    ada.settled()
    ada.require_looks_well("account-keys")

    page.get_by_role("button", name="Edit laptop").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("desk")
    dialog.get_by_label("Credits a day").fill("")
    dialog.get_by_label("Credits in all").fill("40")
    ada.require_accessible()
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("40.00\u00a0credits in all")
    (changed,) = ada.account.call("GET", "/api/core/keys/")["results"]
    assert (changed["name"], changed["budget_day"], changed["budget_total"], changed["per_minute"]) == ("desk", None, "40.00", 30)

    page.get_by_role("button", name="Revoke desk").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Revoke desk")).to_be_focused()
    page.get_by_role("button", name="Revoke desk").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke it").click()
    expect(row).to_contain_text("Revoked")
    assert refused(lambda: site.call("GET", "/api/payments/wallet/", token=key)) == 401
    ada.settled()
    ada.require_accessible()


def test_what_is_wrong_with_a_key_stands_at_its_field(ada):
    page = go(ada, "/keys")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Credits a month").fill("much")
    for name in ("Submit jobs", "Read jobs", "Read the wallet"):
        dialog.get_by_label(re.compile(f"^{name}")).uncheck()
    dialog.get_by_role("button", name="Make the key").click()
    for says in ("Give it a name that tells where it is used.", "Write an amount, or nothing.", "Allow it at least one thing."):
        expect(dialog.get_by_text(says)).to_be_visible()
    ada.require_accessible()
    assert ada.account.call("GET", "/api/core/keys/")["results"] == []


def test_a_key_is_made_for_some_models_alone(ada, site):
    page = go(ada, "/keys")
    model = site.call("GET", f"{site.api_url}/api/computing/models/")["models"][0]["name"]
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("one model")
    models = dialog.get_by_role("combobox", name=re.compile("^Models"))
    models.click()
    page.get_by_role("option", name=model, exact=True).click()
    models.press("Escape")
    expect(dialog).to_be_visible()
    ada.require_accessible()
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_text("Copy it now")).to_be_visible()
    assert ada.account.call("GET", "/api/core/keys/")["results"][0]["models"] == [model]


def test_keys_are_paged(ada, site):
    """D33."""
    token = ada.account.token()
    for number in range(22):
        site.call("POST", "/api/core/keys/", {"name": f"key {number}"}, token=token)
    page = go(ada, "/keys")
    rows = region(page, "Your keys").locator("tbody tr")
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(22)
    expect(rows.last).to_contain_text("key 0")


def test_no_secret_of_the_account_is_kept_where_scripts_can_read_it(ada):
    """D18."""
    page = go(ada, "/keys")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("secret")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_text("Copy it now")).to_be_visible()
    assert not any(KEY.search(value) for value in ada.stored().values())
