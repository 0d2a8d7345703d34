"""Registering, signing in, refreshing, profiles (S7 to S13, S32, S33, S51): the contract's texts and statuses."""

import asyncio
import re

import psycopg
import pyotp
import pytest

from tests.ledger.people import PASSWORD, bearer, mails, register, sign_in, somebody


def rows_of(database, query, *arguments):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        cursor = admin.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else []


async def test_s8_a_newcomer_gets_an_account_and_the_welcome_credits(ledger):
    made = await register(ledger, "ada", email="ada@example.org", role="PROVIDER")
    assert made.status_code == 201
    assert made.json() == {"id": made.json()["id"], "username": "ada", "email": "ada@example.org", "role": "PROVIDER"}
    tokens = (await sign_in(ledger)).json()
    profile = (await ledger.http.get("/api/core/profile/", headers=bearer(tokens["access"]))).json()
    assert (profile["wallet_balance"], profile["email_verified"], profile["role"]) == ("5.00", False, "PROVIDER")
    log = (await ledger.http.get("/api/payments/wallet", headers=bearer(tokens["access"]))).json()["logs"]
    assert [(row["kind"], row["amount"]) for row in log] == [("welcome", "5.00")]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"password": PASSWORD}, {"username": ["This field is required."]}),
        ({"username": "bob"}, {"password": ["This field is required."]}),
        ({"username": "bob", "password": "Xk29fm4QpL"}, {"password": ["Ensure this field has at least 12 characters."]}),
        ({"username": "bob", "password": "passwordpassword"}, {"password": ["This password is too common."]}),
        ({"username": "bob", "password": "9182736455463728"}, {"password": ["This password is entirely numeric."]}),
        ({"username": "lovelace-ada", "password": "lovelace-ada-12"}, {"password": ["The password is too similar to the username."]}),
        ({"username": "bob", "password": PASSWORD, "email": "nowhere"}, {"email": ["Enter a valid email address."]}),
        ({"username": "bob", "password": PASSWORD, "role": "ADMIN"}, {"role": ['"ADMIN" is not a valid choice.']}),
        ({"username": "bob", "password": PASSWORD, "is_operator": True}, {"is_operator": ["Unknown field."]}),
        ({"username": "b b", "password": PASSWORD}, {"username": ["Enter a valid username: 1 to 150 letters, digits and @ . + - _"]}),
        ({"username": "x" * 151, "password": PASSWORD}, {"username": ["Enter a valid username: 1 to 150 letters, digits and @ . + - _"]}),
        ({"username": "bob", "password": "long " * 300}, {"password": ["Ensure this field has no more than 1024 bytes."]}),
        ({"username": 7, "password": PASSWORD}, {"username": ["Not a valid string."]}),
    ],
)
async def test_s8_s9_a_bad_field_is_400_with_its_text(ledger, body, errors):
    answer = await ledger.http.post("/api/core/register/", json=body)
    assert (answer.status_code, answer.json()["errors"]) == (400, errors)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_s8_broken_json_is_400(ledger):
    answer = await ledger.http.post("/api/core/register/", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body is not valid JSON.")


@pytest.mark.parametrize("name", ["ada", "ADA", "\uff21da"])
async def test_g2_a_name_is_taken_whatever_its_case_or_unicode_form(ledger, name):
    await register(ledger, "ada")
    answer = await register(ledger, name)
    assert (answer.status_code, answer.json()["errors"]) == (400, {"username": ["A user with that username already exists."]})


async def test_s8_twenty_at_once_with_one_name_make_one_account(ledger, database):
    answers = await asyncio.gather(*(register(ledger, name) for name in ["eve", "EVE", "Eve", "eVe"] * 5))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 19
    assert rows_of(database, "SELECT count(*) FROM ledger.person WHERE name_key = 'eve'") == [(1,)]


async def test_s8_an_address_may_make_so_many_accounts_per_hour(ledger_with):
    ledger = await ledger_with(registers_per_hour=2)
    answers = [await register(ledger, f"user{n}") for n in range(3)]
    statuses = [answer.status_code for answer in answers]
    shown = [[answer.headers.get(f"ratelimit-{name}") for name in ("limit", "remaining", "reset")] for answer in answers]
    assert shown == [["2", "1", "1800"], ["2", "0", "3600"], ["2", "0", "3600"]]
    assert "ratelimit-limit" not in (await ledger.http.get("/api/core/config/")).headers
    assert statuses == [201, 201, 429]
    assert int((await register(ledger, "more")).headers["retry-after"]) > 0


async def test_s10_a_wrong_password_and_an_unknown_name_get_the_same_answer(ledger):
    await register(ledger)
    answers = [await sign_in(ledger, "ada", "no"), await sign_in(ledger, "nobody", "no")]
    assert [(one.status_code, one.json()["detail"]) for one in answers] == [(401, "No active account found with the given credentials")] * 2
    assert all(one.headers["www-authenticate"] == "Bearer" for one in answers)


async def test_s10_failures_in_a_row_wait_longer_and_longer_and_the_right_password_waits_too(ledger):
    await register(ledger)
    statuses = [(await sign_in(ledger, "ada", "no")).status_code for _ in range(7)]
    assert statuses == [401] * 6 + [429]
    refused = await sign_in(ledger)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1


async def test_s10_access_tokens_are_verified_by_the_published_key(ledger):
    import jwt

    ada = await somebody(ledger)
    keys = (await ledger.http.get("/.well-known/jwks.json")).json()["keys"]
    assert [(key["kty"], key["crv"], key["alg"]) for key in keys] == [("OKP", "Ed25519", "EdDSA")]
    claims = jwt.decode(ada.tokens["access"], jwt.PyJWK(keys[0]).key, algorithms=["EdDSA"], audience="api")
    assert claims["exp"] - claims["iat"] == 600
    assert {"iss", "sub", "jti", "sid", "scope"} <= set(claims)
    assert "operator" not in claims["scope"].split()


@pytest.mark.parametrize(
    "change",
    [lambda token: token[:-4] + "AAAA", lambda token: token.replace(".", ".x", 1), lambda _: "a.b.c"],
    ids=["signature", "header", "nonsense"],
)
async def test_a_token_that_is_not_ours_is_401(ledger, change):
    ada = await somebody(ledger)
    answer = await ledger.http.get("/api/core/profile/", headers=bearer(change(ada.tokens["access"])))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert answer.json()["detail"] == "Given token not valid for any token type"


async def test_s11_a_refresh_rotates_and_a_spent_token_is_good_for_ten_seconds_more(ledger):
    ada = await somebody(ledger)
    first = await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})
    assert first.status_code == 200
    assert first.json()["refresh"] != ada.tokens["refresh"]
    again = await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})
    assert again.status_code == 200
    assert (await ledger.http.get("/api/core/profile/", headers=bearer(again.json()["access"]))).status_code == 200


async def test_s11_a_spent_token_after_its_grace_revokes_the_whole_family(ledger, database):
    ada = await somebody(ledger)
    second = (await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})).json()
    rows_of(database, "UPDATE ledger.refresh_token SET spent_at = spent_at - interval '11 seconds' WHERE spent_at IS NOT NULL")
    for token in (ada.tokens["refresh"], second["refresh"]):
        answer = await ledger.http.post("/api/core/token/refresh/", json={"refresh": token})
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (401, "token_not_valid", "Token is invalid")
    ledger.context.credentials.forget_sessions()
    cut = await ledger.http.get("/api/core/profile/", headers=bearer(second["access"]))
    assert (cut.status_code, cut.json()["code"]) == (401, "key_revoked")
    assert ("session_revoked",) in rows_of(database, "SELECT kind FROM ledger.feed")
    assert ("session.reuse_detected",) in rows_of(database, "SELECT action FROM ledger.audit_log")


async def test_s11_two_tabs_at_once_both_go_on(ledger):
    ada = await somebody(ledger)
    answers = await asyncio.gather(
        *(ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]}) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {200}


async def test_s11_signing_out_ends_it(ledger):
    ada = await somebody(ledger)
    assert (await ledger.http.post("/api/core/logout/", json={"refresh": ada.tokens["refresh"]})).status_code == 204
    assert (await ada.get("/api/core/profile/")).status_code == 401
    assert (await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})).status_code == 401


async def test_s11_the_cookie_is_hidden_from_scripts_and_believed_from_our_own_page_only(ledger):
    await register(ledger)
    own = {"x-gfe-csrf": "1", "origin": "http://127.0.0.1:8080"}
    body = {"username": "ada", "password": PASSWORD, "deliver": "cookie"}
    assert (await ledger.http.post("/api/core/token/", json=body)).json()["code"] == "origin_refused"
    answer = await ledger.http.post("/api/core/token/", json=body, headers=own)
    assert set(answer.json()) == {"access"}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    sent = {"cookie": answer.headers["set-cookie"].split(";")[0]}
    refused = [
        await ledger.http.post("/api/core/token/refresh/", headers=sent | more) for more in ({}, own | {"origin": "https://evil.example"})
    ]
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(403, "origin_refused")] * 2
    renewed = await ledger.http.post("/api/core/token/refresh/", headers=sent | own)
    assert (renewed.status_code, set(renewed.json())) == (200, {"access"})
    ledger.http.cookies.clear()
    assert (await ledger.http.post("/api/core/token/refresh/")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [({"wallet_balance": "9"}, "wallet_balance"), ({"username": "x"}, "username"), ({"email": "x"}, "email"), ({"role": "ADMIN"}, "role")],
)
async def test_s13_d20_only_email_and_role_can_be_changed(ledger, body, field):
    ada = await somebody(ledger)
    answer = await ada.call("PATCH", "/api/core/profile/", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["errors"]


async def test_s13_a_key_cannot_change_an_account(ledger):
    ada = await somebody(ledger)
    answer = await ledger.http.patch("/api/core/profile/", headers=bearer(await ada.key()), json={"role": "PROVIDER"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")


async def test_an_address_is_proven_by_a_code_and_belongs_to_one_account(ledger):
    ada, eve = await somebody(ledger, email="a@example.org"), await somebody(ledger, "eve", email="A@example.org")
    codes = [re.search(r"verify-email#(\S+)", text)[1] for text in await mails(ledger)]
    assert (await ledger.http.post("/api/core/email/verify/", json={"code": codes[0]})).status_code == 204
    assert (await ada.get("/api/core/profile/")).json()["email_verified"] is True
    used = await ledger.http.post("/api/core/email/verify/", json={"code": codes[0]})
    assert used.status_code == 400
    taken = await ledger.http.post("/api/core/email/verify/", json={"code": codes[1]})
    assert taken.json()["errors"] == {"code": ["A user with that email already exists."]}
    changed = await ada.call("PATCH", "/api/core/profile/", json={"email": "new@example.org"})
    assert (changed.json()["email"], changed.json()["email_verified"]) == ("new@example.org", False)
    assert (await eve.get("/api/core/profile/")).json()["email_verified"] is False


async def test_welcome_credits_can_wait_for_a_proven_address(ledger_with):
    ledger = await ledger_with(welcome_credits="5.00", welcome_after_email=True)
    ada = await somebody(ledger, email="a@example.org")
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "0.00"
    code = re.search(r"verify-email#(\S+)", (await mails(ledger))[0])[1]
    await ledger.http.post("/api/core/email/verify/", json={"code": code})
    assert (await ada.get("/api/core/profile/")).json()["wallet_balance"] == "5.00"


async def test_a_forgotten_password_is_reset_by_mail_and_ends_every_sign_in(ledger):
    ada = await somebody(ledger, email="a@example.org")
    code = re.search(r"verify-email#(\S+)", (await mails(ledger))[0])[1]
    await ledger.http.post("/api/core/email/verify/", json={"code": code})
    for address in ("nobody@example.org", "a@example.org"):
        answer = await ledger.http.post("/api/core/password/reset/", json={"email": address})
        assert (answer.status_code, answer.content) == (202, b"")
    sent = await mails(ledger)
    assert len(sent) == 2
    code = re.search(r"reset-password#(\S+)", sent[1])[1]
    weak = await ledger.http.post("/api/core/password/reset/confirm/", json={"code": code, "new_password": "short"})
    assert weak.json()["errors"] == {"new_password": ["Ensure this field has at least 12 characters."]}
    body = {"code": code, "new_password": "another long and good one 5"}
    assert (await ledger.http.post("/api/core/password/reset/confirm/", json=body)).status_code == 204
    assert (await ledger.http.post("/api/core/password/reset/confirm/", json=body)).status_code == 400
    assert (await ada.get("/api/core/profile/")).status_code == 401
    assert (await sign_in(ledger)).status_code == 401
    assert (await sign_in(ledger, "ada", "another long and good one 5")).status_code == 200


async def test_a_changed_password_ends_all_other_sign_ins(ledger):
    ada = await somebody(ledger)
    other = (await sign_in(ledger)).json()
    wrong = await ada.post("/api/core/password/change/", {"old_password": "no", "new_password": "another long and good one 5"})
    assert wrong.json()["errors"] == {"old_password": ["This is not your password."]}
    done = await ada.post("/api/core/password/change/", {"old_password": PASSWORD, "new_password": "another long and good one 5"})
    assert done.status_code == 204
    assert (await ada.get("/api/core/profile/")).status_code == 200
    assert (await ledger.http.get("/api/core/profile/", headers=bearer(other["access"]))).status_code == 401


async def test_a_second_factor_is_asked_for_and_its_digits_are_good_once(ledger):
    ada = await somebody(ledger)
    begun = (await ada.post("/api/core/totp/")).json()
    assert begun["otpauth_url"].startswith("otpauth://totp/")
    totp = pyotp.TOTP(begun["secret"])
    assert (await ada.post("/api/core/totp/confirm/", {"code": "000000"})).status_code == 401
    import time

    assert (await ada.post("/api/core/totp/confirm/", {"code": totp.at(time.time() - 30)})).status_code == 204
    assert (await sign_in(ledger)).json()["code"] == "totp_required"
    code = totp.now()
    assert (await sign_in(ledger, code=code)).status_code == 200
    assert (await sign_in(ledger, code=code)).status_code == 401


async def test_secrets_stand_nowhere_in_the_database_in_clear(ledger, database):
    ada = await somebody(ledger)
    key = await ada.key()
    with psycopg.connect(database.admin_url) as admin:
        tables = [row[0] for row in admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'").fetchall()]
        stored = "".join(str(admin.execute(f"SELECT * FROM ledger.{table}").fetchall()) for table in tables)
    for secret in (PASSWORD, key, key.split("_")[3], ada.tokens["refresh"], ada.tokens["access"]):
        assert secret not in stored


async def test_a_name_that_no_database_keeps_is_400(ledger):
    answer = await sign_in(ledger, "ad\x00a")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["username"])
