"""Signing in through another service: against a real server that speaks OpenID Connect, and one that speaks as GitHub does."""

import asyncio
import re
import time
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pyotp
import pytest
from aiohttp import web

from ledger.app import create_public_app
from tests.ledger.openid_provider import CLIENT, SECRET, Provider, key_pair
from tests.ledger.people import PASSWORD, bearer, mails, somebody

SITE = "http://127.0.0.1:8080"
OWN_PAGE = {"X-GFE-CSRF": "1", "Origin": SITE}


@pytest.fixture
async def provider():
    provider = Provider()
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
async def ledger(ledger_with, provider):
    return await ledger_with(
        google_client_id=CLIENT, google_url=provider.url, github_client_id=CLIENT, github_url=provider.url, github_api_url=provider.url,
        secret_files={"google_client_secret": SECRET, "github_client_secret": SECRET},
    )  # fmt: skip


class Browser:
    """Keeps cookies, follows nothing by itself."""

    def __init__(self, ledger):
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(create_public_app(ledger.context)), base_url=SITE)

    async def begin(self, name="google", **body):
        answer = await self.http.post(f"/api/core/oauth/{name}/", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["url"]

    async def travel(self, provider, name="google", **body):
        """Go there, say yes, come back; answers the last answer."""
        return await self.http.get(provider.say_yes(await self.begin(name, **body)))

    async def access(self):
        """What a page of the console does first: renew by the cookie."""
        answer = await self.http.post("/api/core/token/refresh/", headers=OWN_PAGE)
        return answer.json().get("access")

    async def profile(self):
        return (await self.http.get("/api/core/profile/", headers=bearer(await self.access()))).json()


@pytest.fixture
async def browser(ledger):
    browser = Browser(ledger)
    yield browser
    await browser.http.aclose()


def outcome(answer):
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query).get("error", [None])[0]


@pytest.mark.parametrize("name", ["google", "github"])
async def test_a_new_person_signs_in_and_finds_the_same_account_again(ledger, provider, browser, name):
    assert (await ledger.http.get("/api/core/config/")).json()["sign_in_with"] == ["google", "github"]
    answer = await browser.travel(provider, name, return_to="/wallet?page=2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/wallet?page=2")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("gfe_refresh="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    first = await browser.profile()
    assert (first["username"], first["email"], first["email_verified"], first["has_password"]) == ("ada", "ada@example.org", True, False)
    assert first["wallet_balance"] == "100.00"
    other = Browser(ledger)
    provider.person["email"] = "moved@example.org"  # the subject says who it is, not the address
    await other.travel(provider, name)
    assert (await other.profile())["id"] == first["id"]


async def test_no_token_is_ever_in_an_address_or_a_body_on_the_way(provider, browser):
    url = await browser.begin()
    answer = await browser.http.get(provider.say_yes(url))
    assert set(parse_qs(urlsplit(url).query)) == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method", "nonce",
    }  # fmt: skip
    assert answer.headers["location"] == "/"
    assert answer.text == ""
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_provider_that_is_not_set_up_does_not_exist(ledger_with):
    plain = await ledger_with()
    assert (await plain.http.get("/api/core/config/")).json()["sign_in_with"] == []
    assert (await plain.http.post("/api/core/oauth/google/", json={})).status_code == 404


@pytest.mark.parametrize(
    "wish", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/" + "a" * 300, "/a b", ""]
)
async def test_nobody_is_sent_to_another_site_afterwards(provider, browser, wish):
    assert (await browser.travel(provider, return_to=wish)).headers["location"] == "/"


# --- who it is ------------------------------------------------------------------------------------------------------------------------


async def with_email(ledger, username, email, *, is_proven):
    person = await somebody(ledger, username, email=email)
    if is_proven:
        code = re.search(r"verify-email#(\S+)", (await mails(ledger))[-1])[1]
        assert (await ledger.http.post("/api/core/email/verify/", json={"code": code})).status_code == 204
    return person


async def test_accounts_are_joined_when_both_sides_have_proven_the_address(ledger, provider, browser):
    ada = await with_email(ledger, "countess", "ADA@example.org", is_proven=True)
    await browser.travel(provider)
    assert (await browser.profile())["username"] == "countess"
    assert (await ada.get("/api/core/oauth/")).json()["results"][0]["provider"] == "google"


@pytest.mark.parametrize(("is_ours", "is_theirs"), [(False, True), (True, False), (False, False)])
async def test_accounts_are_not_joined_when_one_side_has_not(ledger, provider, browser, is_ours, is_theirs):
    await with_email(ledger, "countess", "ada@example.org", is_proven=is_ours)
    provider.person["email_verified"] = is_theirs
    await browser.travel(provider)
    found = await browser.profile()
    assert found["username"] == "ada"
    assert found["email"] == ("ada@example.org" if is_theirs else None)


async def test_an_operator_is_never_joined_by_an_address_alone(ledger, provider, browser, database):
    import psycopg

    await with_email(ledger, "olga", "ada@example.org", is_proven=True)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.person SET is_operator = true WHERE username = 'olga'")
    answer = await browser.travel(provider)
    assert outcome(answer) == "oauth_failed"  # the address is another account's, and proven: no second account with it
    assert await browser.access() is None


async def test_a_name_that_is_taken_gets_a_number(ledger, provider, browser):
    await somebody(ledger, "Ada")
    await browser.travel(provider)
    assert (await browser.profile())["username"] == "ada-2"


async def test_twenty_arrivals_of_one_new_person_at_once_make_one_account(ledger, provider):
    browsers = [Browser(ledger) for _ in range(20)]
    ways = [provider.say_yes(await one.begin()) for one in browsers]
    answers = await asyncio.gather(*(one.http.get(way) for one, way in zip(browsers, ways, strict=True)))
    assert [outcome(answer) for answer in answers] == [None] * 20
    assert len({(await one.profile())["id"] for one in browsers}) == 1


async def test_a_blocked_account_stays_out(ledger, provider, browser, database):
    import psycopg

    await browser.travel(provider)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.person SET blocked_at = now() WHERE username = 'ada'")
    assert outcome(await Browser(ledger).travel(provider)) == "account_blocked"


async def test_the_second_factor_is_asked_for_and_good_once(ledger, provider, browser):
    await browser.travel(provider)
    headers = bearer(await browser.access())
    secret = (await browser.http.post("/api/core/totp/", headers=headers, json={})).json()["secret"]
    digits = pyotp.TOTP(secret)
    now = time.time()
    assert (await browser.http.post("/api/core/totp/confirm/", headers=headers, json={"code": digits.at(now)})).status_code == 204
    other = Browser(ledger)
    answer = await other.travel(provider)
    assert answer.headers["location"] == "/login?second_factor=1"
    assert await other.access() is None
    wrong = await other.http.post("/api/core/oauth/second-factor/", headers=OWN_PAGE, json={"code": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "totp_required")
    used = await other.http.post("/api/core/oauth/second-factor/", headers=OWN_PAGE, json={"code": digits.at(now)})
    assert used.status_code == 401
    foreign = await other.http.post("/api/core/oauth/second-factor/", json={"code": digits.at(now + 30)})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "origin_refused")
    right = await other.http.post("/api/core/oauth/second-factor/", headers=OWN_PAGE, json={"code": digits.at(now + 30)})
    assert (right.status_code, set(right.json())) == (200, {"access"})
    assert (await other.profile())["username"] == "ada"
    again = await other.http.post("/api/core/oauth/second-factor/", headers=OWN_PAGE, json={"code": digits.at(now + 60)})
    assert again.status_code == 401


# --- links ----------------------------------------------------------------------------------------------------------------------------


async def link(browser, provider, headers, name="github"):
    url = (await browser.http.post(f"/api/core/oauth/{name}/link/", headers=headers, json={"return_to": "/account"})).json()["url"]
    return await browser.http.get(provider.say_yes(url))


async def test_somebody_links_a_provider_signs_in_with_it_and_unlinks_it(ledger, provider, browser):
    ada = await somebody(ledger, "countess")
    assert (await link(browser, provider, ada.headers)).headers["location"] == "/account"
    other = Browser(ledger)
    await other.travel(provider, "github")
    assert (await other.profile())["username"] == "countess"
    assert (await ada.call("DELETE", "/api/core/oauth/github/")).status_code == 204
    assert (await ada.get("/api/core/oauth/")).json() == {"results": []}
    assert (await ada.call("DELETE", "/api/core/oauth/github/")).status_code == 404


async def test_one_account_there_signs_in_to_one_account_here(ledger, provider, browser):
    ada, eve = await somebody(ledger, "countess"), await somebody(ledger, "eve")
    await link(browser, provider, ada.headers)
    assert outcome(await link(browser, provider, eve.headers)) == "oauth_taken"


async def test_the_only_way_in_cannot_be_taken_away(ledger, provider, browser):
    await browser.travel(provider)
    headers = bearer(await browser.access())
    refused = await browser.http.request("DELETE", "/api/core/oauth/google/", headers=headers)
    assert (refused.status_code, refused.json()["detail"]) == (400, "This is your only way in. Set a password first.")


async def test_an_api_key_links_nothing(ledger):
    ada = await somebody(ledger)
    assert (await ledger.http.post("/api/core/oauth/google/link/", headers=bearer(await ada.key()), json={})).status_code == 403


# --- attacks --------------------------------------------------------------------------------------------------------------------------


async def test_a_link_from_somebody_elses_journey_signs_nobody_in(ledger, provider, browser):
    stolen = provider.say_yes(await Browser(ledger).begin())
    assert outcome(await browser.http.get(stolen)) == "oauth_state"  # another browser: no cookie
    await browser.begin()
    assert outcome(await browser.http.get(stolen)) == "oauth_state"  # another journey's cookie
    assert await browser.access() is None


async def test_a_journey_ends_once(provider, browser):
    way = provider.say_yes(await browser.begin())
    kept = dict(browser.http.cookies)
    assert outcome(await browser.http.get(way)) is None
    browser.http.cookies.set("gfe_oauth", kept["gfe_oauth"], domain="127.0.0.1", path="/api/core/oauth/")
    assert outcome(await browser.http.get(way)) == "oauth_state"


async def test_a_journey_to_one_provider_does_not_end_at_another(provider, browser):
    way = provider.say_yes(await browser.begin("google")).replace("/google/", "/github/")
    assert outcome(await browser.http.get(way)) == "oauth_state"


async def test_a_no_is_told_and_nothing_else_happens(provider, browser):
    state = parse_qs(urlsplit(await browser.begin()).query)["state"][0]
    answer = await browser.http.get(f"/api/core/oauth/google/callback/?error=access_denied&error_description=<script>&state={state}")
    assert answer.headers["location"] == "/login?error=oauth_denied"


def forged(provider, **changes):
    _, key, _ = key_pair()
    return lambda claims: jwt.encode(claims | changes, key, "RS256", headers={"kid": provider.kid})


BENT = {
    "a nonce of another sign-in": lambda one: one.claims.update(nonce="other"),
    "no nonce": lambda one: one.claims.update(nonce=None),
    "another audience": lambda one: one.claims.update(aud="other"),
    "two audiences, for another": lambda one: one.claims.update(aud=[CLIENT, "other"], azp="other"),
    "another issuer": lambda one: one.claims.update(iss="https://accounts.example"),
    "expired": lambda one: one.claims.update(exp=int(time.time()) - 120),
    "from the future": lambda one: one.claims.update(iat=int(time.time()) + 3600),
    "no subject": lambda one: one.claims.update(sub=None),
    "a forged signature": lambda one: setattr(one, "sign", forged(one)),
    "an unknown key": lambda one: setattr(one, "sign", lambda claims: jwt.encode(claims, one.key, "RS256", headers={"kid": "other"})),
    "no signature": lambda one: setattr(one, "sign", lambda claims: jwt.encode(claims, None, "none", headers={"kid": one.kid})),
    "signed with our secret": lambda one: setattr(
        one, "sign", lambda claims: jwt.encode(claims, SECRET.ljust(32, "x"), "HS256", headers={"kid": one.kid})
    ),
    "no token": lambda one: setattr(one, "sign", lambda _: ""),
    "no JSON": lambda one: one.broken.update({"/token": answers(text="<html>")}),
    "a list": lambda one: one.broken.update({"/token": answers(text="[1]")}),
    "deeply nested": lambda one: one.broken.update({"/token": answers(text="[" * 100_000)}),
    "500": lambda one: one.broken.update({"/token": answers(status=500)}),
    "a redirect": lambda one: one.broken.update({"/token": answers(status=302, headers={"Location": "http://127.0.0.1:1/"})}),
    "10 MB": lambda one: one.broken.update({"/token": answers(text="x" * 10_000_000)}),
}


def answers(**options):
    async def handler(request):
        return web.Response(**options)

    return handler


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT.keys())
async def test_what_a_provider_says_is_checked(provider, browser, bend):
    way = provider.say_yes(await browser.begin())
    bend(provider)
    assert outcome(await browser.http.get(way)) == "oauth_failed"
    assert await browser.access() is None


async def test_a_key_that_the_provider_made_since_is_looked_for(ledger, provider, browser, monkeypatch):
    from ledger.identity.oauth import exchange

    monkeypatch.setattr(exchange, "REFETCH_S", 0.0)
    await browser.travel(provider)
    provider.kid, provider.key, provider.jwk = key_pair()
    assert outcome(await Browser(ledger).travel(provider)) is None


async def test_unknown_keys_do_not_make_us_ask_again_and_again(ledger, provider, monkeypatch):
    monkeypatch.setattr("ledger.identity.oauth.exchange.REFETCH_S", 600.0)
    provider.sign = lambda claims: jwt.encode(claims, provider.key, "RS256", headers={"kid": "other"})
    for _ in range(5):
        assert outcome(await Browser(ledger).travel(provider)) == "oauth_failed"
    assert provider.asked.count("/keys") == 1


async def test_a_provider_that_hangs_is_given_up(ledger, provider, browser, monkeypatch):
    released = asyncio.Event()

    async def hang(request):
        await released.wait()
        return web.Response()

    monkeypatch.setattr("ledger.identity.oauth.exchange.CALL_LIMIT_S", 0.5)
    way = provider.say_yes(await browser.begin())
    provider.broken["/token"] = hang
    assert outcome(await browser.http.get(way)) == "oauth_failed"
    released.set()


async def test_a_provider_that_is_down_is_told_when_the_journey_would_begin(ledger, provider):
    await provider.stop()
    answer = await ledger.http.post("/api/core/oauth/google/", json={})
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_failed")
    assert "google" in answer.json()["detail"]


async def test_a_discovery_document_of_another_issuer_is_not_believed(ledger, provider):
    async def other(request):
        return web.json_response({"issuer": "https://evil.example", "authorization_endpoint": "x", "token_endpoint": "x", "jwks_uri": "x"})

    provider.broken["/.well-known/openid-configuration"] = other
    assert (await ledger.http.post("/api/core/oauth/google/", json={})).status_code == 401


async def test_beginnings_are_limited_per_address(ledger):
    began = time.monotonic()
    statuses = [(await ledger.http.post("/api/core/oauth/google/", json={})).status_code for _ in range(45)]
    assert statuses[:30] == [200] * 30
    assert statuses.count(200) <= 31 + (time.monotonic() - began) / 2  # the limit is thirty a minute
    assert 429 in statuses


async def test_a_person_made_by_a_provider_sets_a_password_by_mail(ledger, provider, browser):
    await browser.travel(provider)
    assert (await ledger.http.post("/api/core/password/reset/", json={"email": "ada@example.org"})).status_code == 202
    code = re.search(r"reset-password#(\S+)", (await mails(ledger))[-1])[1]
    assert (await ledger.http.post("/api/core/password/reset/confirm/", json={"code": code, "new_password": PASSWORD})).status_code == 204
    signed = await ledger.http.post("/api/core/token/", json={"username": "ada", "password": PASSWORD})
    assert signed.status_code == 200
